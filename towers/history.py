"""The history of a user as one vector: items acted on, weighted by what was done and how long ago."""

from typing import Any

import keras
import tensorflow as tf

from towers.draws import uniform
from transform.features import AGE_ROWS


@keras.saving.register_keras_serializable("tandem")
class HistoryEncoder(keras.layers.Layer):
    """Sums what a user's events say of other items, each entry with a learned weight per (event type, age).

    h = scale / sqrt(n + 1) * sum_i weight[type_i, age_i] * near[item_i]

    `near` starts at 0 and learns what goes with what; what is bought again is `towers.repeat`'s. Unknown items (row 0)
    count for nothing.

    Args:
      items: rows of the item vocabulary, row 0 included.
      event_weights: for each row of the event type vocabulary, the weight its events start with.
      dimension: length of the vector.
      dropout: share of entries left out of a training step.
    """

    def __init__(
        self,
        items: int,
        event_weights: list[float],
        dimension: int,
        dropout: float = 0.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.items = items
        self.event_weights = event_weights
        self.dimension = dimension
        self.dropout = dropout

    def build(self, *_: Any) -> None:
        """Makes the tables."""
        types = len(self.event_weights)
        self.near = self.add_weight(
            name="near", shape=(self.items, self.dimension), initializer="zeros", dtype="float32"
        )
        start = _start_weights(self.event_weights)
        self.weight = self.add_weight(
            name="weight", shape=(types, AGE_ROWS), initializer=lambda *_, **__: start, dtype="float32"
        )
        self.scale = self.add_weight(
            name="scale", shape=(), initializer=keras.initializers.Constant(6.0), dtype="float32"
        )
        self.built = True

    def call(self, items: Any, types: Any, ages: Any, training: bool = False) -> Any:
        """Encodes histories.

        Args:
          items: int [B, H], rows of the item vocabulary, 0 = no entry.
          types: int [B, H], rows of the event type vocabulary, 0 = unknown.
          ages: int [B, H], age buckets, 0 = unknown.
          training: whether entries are dropped at random.

        Returns:
          float32 [B, dimension]; 0 where there is no entry.
        """
        there = tf.cast(items > 0, tf.float32)
        number = tf.reduce_sum(there, axis=1, keepdims=True)
        if training and self.dropout:
            kept = uniform(tf.shape(there)) >= self.dropout
            there = there * tf.cast(kept, tf.float32) / (1.0 - self.dropout)
        place = tf.cast(types, tf.int32) * AGE_ROWS + tf.cast(ages, tf.int32)
        weight = there * tf.gather(tf.reshape(self.weight, [-1]), place)
        summed = tf.einsum("bh,bhd->bd", weight, tf.gather(self.near.value, items))
        return self.scale * summed / tf.sqrt(number + 1.0)


def hide_types_and_ages(types: Any, ages: Any, share: float) -> tuple[Any, Any]:
    """Sets types and ages to 0 = unknown in a random share of rows, as clients that know only ids send them.

    Args:
      types: int [B, H].
      ages: int [B, H].
      share: of rows.

    Returns:
      types and ages, int [B, H].
    """
    known = tf.cast(uniform([tf.shape(types)[0], 1]) >= share, types.dtype)
    return types * known, ages * known


def _start_weights(event_weights: list[float]) -> Any:
    """Older events start with less weight: w / (1 + 0.2 (bucket - 1)); an unknown age with the middle of them."""
    decay = [1.0 / (1.0 + 0.2 * max(bucket - 1, 0)) for bucket in range(AGE_ROWS)]
    decay[0] = decay[AGE_ROWS // 2]
    return tf.constant([[weight * share for share in decay] for weight in event_weights], tf.float32)
