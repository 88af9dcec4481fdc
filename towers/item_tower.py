"""The item tower: text, id and declared features of an item become one vector."""

from typing import Any

import keras
import tensorflow as tf

from towers.draws import uniform
from towers.feature_tables import FeatureTables
from towers.text_projection import TextProjection


@keras.saving.register_keras_serializable("tandem")
class ItemTower(keras.layers.Layer):
    """i = P text + id embedding + sum of feature embeddings.

    An item that was never a training target has no id embedding of its own: it takes row 0, as a random share of the
    items does in each training step, so that row 0 says what an unknown item is like and text carries the rest.

    Args:
      items: rows of the item vocabulary, row 0 included.
      rows: item feature name -> rows of its table.
      dimension: length of the vector.
      policy: Keras dtype policy of the text projection.
      id_dropout: share of items that take row 0 in a training step.
    """

    def __init__(
        self,
        items: int,
        rows: dict[str, int],
        dimension: int,
        policy: Any = "float32",
        id_dropout: float = 0.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.items = items
        self.dimension = dimension
        self.id_dropout = id_dropout
        self.features = FeatureTables(rows, dimension, name="features", dtype="float32")
        self.text = TextProjection(dimension, name="text", dtype=policy)

    def build(self, *_: Any) -> None:
        """Makes the id table, random: two items differ from the start."""
        self.ids = self.add_weight(
            name="ids",
            shape=(self.items, self.dimension),
            initializer=keras.initializers.RandomNormal(stddev=0.1),
            dtype="float32",
        )
        self.seen = self.add_weight(
            name="seen", shape=(self.items,), initializer="zeros", trainable=False, dtype="float32"
        )
        self.built = True

    def call(self, item: Any, text: Any, features: dict[str, Any], training: bool = False) -> Any:
        """Encodes items.

        Args:
          item: int [B], rows of the item vocabulary, 0 = unknown.
          text: float32 [B, E], the encoded text.
          features: name -> int [B, n], rows of that feature's table.
          training: whether ids are dropped at random.

        Returns:
          float32 [B, dimension].
        """
        own_row = tf.gather(self.seen.value, item) > 0
        if training and self.id_dropout:
            own_row &= uniform(tf.shape(item)) >= self.id_dropout
        row = tf.where(own_row, item, tf.zeros_like(item))
        vector = tf.gather(self.ids.value, row) + self.text(text)
        return vector + self.features(features, tf.shape(item)[0])
