"""Embeddings of declared features, summed: one table a category, path or number."""

from typing import Any

import keras
import tensorflow as tf


@keras.saving.register_keras_serializable("tandem")
class FeatureTables(keras.layers.Layer):
    """Sums the embeddings of every declared feature's indices; index 0 ("none") adds nothing.

    Tables start at 0: a feature says nothing until it has been learned.

    Args:
      rows: feature name -> rows of its table, row 0 included.
      dimension: length of the vector.
    """

    def __init__(self, rows: dict[str, int], dimension: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.rows = rows
        self.dimension = dimension

    def build(self, *_: Any) -> None:
        """Makes one table a feature."""
        self.tables = {
            name: self.add_weight(
                name=name, shape=(rows, self.dimension), initializer="zeros", dtype="float32"
            )
            for name, rows in self.rows.items()
        }
        self.built = True

    def call(self, features: dict[str, Any], batch: Any) -> Any:
        """Looks up and sums.

        Args:
          features: name -> int [B, n], rows of that feature's table; a path has one index a level.
          batch: B, for the case that nothing is declared.

        Returns:
          float32 [B, dimension].
        """
        total = tf.zeros([batch, self.dimension])
        for name, table in self.tables.items():
            index = features[name]
            there = tf.cast(index > 0, tf.float32)[..., tf.newaxis]
            total += tf.reduce_sum(tf.gather(table.value, index) * there, axis=1)
        return total
