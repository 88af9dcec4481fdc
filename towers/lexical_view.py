"""The lexical view: a text's hashed words and word pieces, summed, so that equal spelling meets in both towers."""

from typing import Any

import keras
import numpy as np
import tensorflow as tf


@keras.saving.register_keras_serializable("tandem")
class LexicalView(keras.layers.Layer):
    """q = scale * unit(sum_l a_l E_l), i = unit(sum_l b_l E_l), over the lexemes l of a text, each once; unit(x) = x / |x|.

    Rows of E start random and so almost at right angles: an inner product is then about the sum of a_l b_l over shared
    lexemes, over the roots of the texts' sums of squares. With a and b the root of the inverse document frequency that
    is a cosine of TF-IDF. What rows have in common by chance is the larger the longer the title: at length 1 no title
    gains by that.

    Args:
      buckets: rows of the table; row 0 is no lexeme.
      dimension: length of the vectors.
    """

    def __init__(self, buckets: int, dimension: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.buckets = buckets
        self.dimension = dimension

    def build(self, *_: Any) -> None:
        """Makes the table, one weight a lexeme and tower, and the scale."""
        random = keras.initializers.RandomNormal(stddev=self.dimension**-0.5, seed=3)
        self.table = self.add_weight(
            name="table", shape=(self.buckets, self.dimension), initializer=random, dtype="float32"
        )
        self.query_weights = self.add_weight(
            name="query_weights", shape=(self.buckets,), initializer="ones", dtype="float32"
        )
        self.item_weights = self.add_weight(
            name="item_weights", shape=(self.buckets,), initializer="ones", dtype="float32"
        )
        # A softmax over hundreds of items needs scores of some tens for a text that matches in all words.
        self.scale = self.add_weight(
            name="scale", shape=(), initializer=keras.initializers.Constant(24.0), dtype="float32"
        )
        self.built = True

    def start_from(self, lexemes: np.ndarray) -> None:
        """Sets both weights of each lexeme to the root of its inverse document frequency, 1 for the rarest.

        Args:
          lexemes: int [N, W] of the catalogue, 0 = none.
        """
        ordered = np.sort(lexemes, axis=1)
        is_first = np.diff(ordered, axis=1, prepend=0) > 0
        counts = np.bincount(ordered[is_first], minlength=self.buckets)
        inverse = np.maximum(np.log((len(lexemes) + 1) / (counts + 1)), 0.1)
        weights = np.sqrt(inverse / inverse.max()).astype(np.float32)
        self.query_weights.assign(weights)
        self.item_weights.assign(weights)

    def of_queries(self, lexemes: Any) -> Any:
        """Queries' vectors: int [B, W], 0 = none -> float32 [B, dimension]; no lexeme is the zero vector."""
        return self.scale * self._unit(lexemes, self.query_weights)

    def of_items(self, lexemes: Any) -> Any:
        """Items' vectors: int [B, W], 0 = none -> float32 [B, dimension]; no lexeme is the zero vector."""
        return self._unit(lexemes, self.item_weights)

    def _unit(self, lexemes: Any, weights: Any) -> Any:
        """Weighted sums of table rows, each distinct row read once, at length 1: float32 [B, dimension]."""
        lexemes = tf.sort(lexemes, axis=1)
        place = tf.where(
            lexemes > tf.pad(lexemes, [[0, 0], [1, 0]])[:, :-1]
        )  # the first of its kind in its text
        rows, index = tf.unique(tf.gather_nd(lexemes, place))
        weight = tf.gather(tf.gather(weights.value, rows), index)
        count = tf.shape(lexemes, out_type=tf.int64)[0]
        shape = tf.stack([count, tf.size(rows, out_type=tf.int64)])
        matrix = tf.SparseTensor(tf.stack([place[:, 0], tf.cast(index, tf.int64)], axis=1), weight, shape)
        total = tf.sparse.sparse_dense_matmul(matrix, tf.gather(self.table.value, rows))
        return tf.math.l2_normalize(total, axis=1)
