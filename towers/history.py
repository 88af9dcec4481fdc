"""The history of a user as one vector: items acted on, weighted by what was done and how long ago."""

from typing import Any

import keras
import tensorflow as tf

from transform.features import AGE_ROWS


@keras.saving.register_keras_serializable("tandem")
class HistoryEncoder(keras.layers.Layer):
    """Sums what a user's events say, each entry with learned weights per (event type, age).

    h = scale / sqrt(n + 1) * sum_i (repeat[type_i, age_i] * often[times_i] * id[item_i]
                                     + similar[type_i, age_i] * near[item_i])

    `id` is the item tower's own id table, so what was bought scores itself from the first step on (repeat purchases).
    times_i is how often item i is in this history: what was bought once is mostly noise to the many items beside it.
    `near` starts at 0 and learns what goes with what. Unknown items (row 0) count for nothing.

    Args:
      items: rows of the item vocabulary, row 0 included.
      event_weights: for each row of the event type vocabulary, the weight its events start with.
      dimension: length of the vector.
      dropout: share of entries left out of a training step.
      unknown: share of requests of a training step whose types and ages are hidden, as a client that knows only
        ids sends them.
    """

    def __init__(
        self,
        items: int,
        event_weights: list[float],
        dimension: int,
        dropout: float = 0.0,
        unknown: float = 0.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.items = items
        self.event_weights = event_weights
        self.dimension = dimension
        self.dropout = dropout
        self.unknown = unknown

    def build(self, *_: Any) -> None:
        """Makes the tables."""
        types = len(self.event_weights)
        self.near = self.add_weight(
            name="near", shape=(self.items, self.dimension), initializer="zeros", dtype="float32"
        )
        start = _start_weights(self.event_weights)
        self.repeat = self.add_weight(
            name="repeat", shape=(types, AGE_ROWS), initializer=lambda *_, **__: start, dtype="float32"
        )
        self.similar = self.add_weight(
            name="similar", shape=(types, AGE_ROWS), initializer=lambda *_, **__: start, dtype="float32"
        )
        self.often = self.add_weight(
            name="often",
            shape=(len(_TIMES) + 1,),
            initializer=lambda *_, **__: _start_often(),
            dtype="float32",
        )
        self.scale = self.add_weight(
            name="scale", shape=(), initializer=keras.initializers.Constant(6.0), dtype="float32"
        )
        self.built = True

    def call(self, items: Any, types: Any, ages: Any, id_table: Any, training: bool = False) -> Any:
        """Encodes histories.

        Args:
          items: int [B, H], rows of the item vocabulary, 0 = no entry.
          types: int [B, H], rows of the event type vocabulary, 0 = unknown.
          ages: int [B, H], age buckets, 0 = unknown.
          id_table: float32 variable [items, dimension] of the item tower.
          training: whether entries are dropped at random.

        Returns:
          float32 [B, dimension]; 0 where there is no entry.
        """
        there = tf.cast(items > 0, tf.float32)
        number = tf.reduce_sum(there, axis=1, keepdims=True)
        if training and self.dropout:
            kept = tf.random.uniform(tf.shape(there)) >= self.dropout
            there = there * tf.cast(kept, tf.float32) / (1.0 - self.dropout)
        if training and self.unknown:
            known = tf.cast(tf.random.uniform([tf.shape(items)[0], 1]) >= self.unknown, types.dtype)
            types, ages = types * known, ages * known
        often = tf.gather(self.often, _times_buckets(items))
        place = tf.cast(types, tf.int32) * AGE_ROWS + tf.cast(ages, tf.int32)
        repeat = there * often * tf.gather(tf.reshape(self.repeat, [-1]), place)
        similar = there * tf.gather(tf.reshape(self.similar, [-1]), place)
        summed = tf.einsum("bh,bhd->bd", repeat, tf.gather(id_table.value, items))
        summed += tf.einsum("bh,bhd->bd", similar, tf.gather(self.near.value, items))
        return self.scale * summed / tf.sqrt(number + 1.0)


# Lower edges of the buckets 1, 2, ... of how often an item is in a history; bucket 0 is "once".
_TIMES = (2, 3, 4, 6, 10)


def _times_buckets(items: Any) -> Any:
    """How often each entry's item is in its row, as a bucket: int [B, H] -> int32 [B, H]."""
    same = tf.equal(items[:, :, tf.newaxis], items[:, tf.newaxis, :])
    times = tf.reduce_sum(tf.cast(same, tf.int32), axis=2)
    return tf.raw_ops.Bucketize(input=times, boundaries=[float(edge) for edge in _TIMES])


def _start_often() -> Any:
    """The root of the bucket's lower edge: 1 for what was bought once, more for what is bought again and again."""
    return tf.sqrt(tf.constant([1.0, *(float(edge) for edge in _TIMES)]))


def _start_weights(event_weights: list[float]) -> Any:
    """Older events start with less weight: w / (1 + 0.2 (bucket - 1)); an unknown age with the middle of them."""
    decay = [1.0 / (1.0 + 0.2 * max(bucket - 1, 0)) for bucket in range(AGE_ROWS)]
    decay[0] = decay[AGE_ROWS // 2]
    return tf.constant([[weight * share for share in decay] for weight in event_weights], tf.float32)
