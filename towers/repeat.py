"""What a user acted on before: the bonus that an item of the own history gets on top of the inner product."""

import math
from typing import Any

import keras
import tensorflow as tf

from transform.features import AGE_ROWS


@keras.saving.register_keras_serializable("tandem")
class RepeatBonus(keras.layers.Layer):
    """bonus(request, item) = power * log(1 + loyalty[item] * sum of w[type_j, age_j] over history entries j of the item).

    A sum of a hundred item vectors cannot say exactly which hundred they were: in 128 dimensions the items beside them
    score nearly as high. So what goes with what is left to the vectors, and what is bought again is counted. The bonus
    is never below 0, so an item outside the history is among the best k only if its inner product is.

    It acts as a factor (1 + loyalty * sum of w) ^ power on the item's odds. With a query text there are weights of
    their own.

    Args:
      items: rows of the item vocabulary, row 0 included.
      event_weights: for each row of the event type vocabulary, how much its events count at the start.
    """

    def __init__(self, items: int, event_weights: list[float], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.items = items
        self.event_weights = event_weights

    def build(self, *_: Any) -> None:
        """Makes the table of log weights, the items' log loyalty and the log power."""
        start = _start_log_weights(self.event_weights)
        self.log_weights = self.add_weight(
            name="log_weights",
            shape=(len(self.event_weights), 2, AGE_ROWS),
            initializer=lambda *_, **__: start,
            dtype="float32",
        )
        self.log_loyalty = self.add_weight(
            name="log_loyalty", shape=(self.items,), initializer="zeros", dtype="float32"
        )
        self.log_power = self.add_weight(
            name="log_power",
            shape=(),
            initializer=keras.initializers.Constant(math.log(_POWER)),
            dtype="float32",
        )
        self.built = True

    def call(self, items: Any, types: Any, ages: Any, has_text: Any) -> Any:
        """Weighs history entries.

        Args:
          items: int [B, H], rows of the item vocabulary, 0 = no entry.
          types: int [B, H], rows of the event type vocabulary, 0 = unknown.
          ages: int [B, H], age buckets, 0 = unknown.
          has_text: bool [B], whether there is a query text.

        Returns:
          float32 [B, H], 0 where there is no entry.
        """
        text = tf.cast(has_text, tf.int32)[:, tf.newaxis]
        place = (tf.cast(types, tf.int32) * 2 + text) * AGE_ROWS + tf.cast(ages, tf.int32)
        log_weight = tf.gather(tf.reshape(self.log_weights, [-1]), place)
        log_weight += tf.gather(self.log_loyalty.value, items)
        return tf.exp(log_weight) * tf.cast(items > 0, tf.float32)

    def of_candidates(self, items: Any, weights: Any, candidates: Any) -> Any:
        """Bonus of every candidate for every request, in O(log H) each.

        Args:
          items: int [B, H], rows of the item vocabulary, 0 = no entry.
          weights: float32 [B, H], from `call`.
          candidates: int [C] of all requests, or [B, C] of each; 0 gets none.

        Returns:
          float32 [B, C].
        """
        return self._bonus(sum_of_candidates(items, weights, candidates))

    def of_history(self, items: Any, weights: Any) -> Any:
        """Bonus of the history's own items, each where it comes first.

        Args:
          items: int [B, H], rows of the item vocabulary, 0 = no entry.
          weights: float32 [B, H], from `call`.

        Returns:
          float32 [B, H]; 0 at further entries of the same item and where there is none.
        """
        return self._bonus(sum_of_history(items, weights))

    def _bonus(self, total: Any) -> Any:
        return tf.exp(self.log_power) * tf.math.log1p(tf.maximum(total, 0.0))


def sum_of_candidates(items: Any, weights: Any, candidates: Any) -> Any:
    """Sums the weights of the entries of each candidate: int [B, H], float32 [B, H], int [C] or [B, C] -> float32 [B, C]."""
    order = tf.argsort(items, axis=1)
    ordered = tf.gather(items, order, batch_dims=1)
    summed = tf.cumsum(tf.gather(weights, order, batch_dims=1), axis=1)
    summed = tf.pad(summed, [[0, 0], [1, 0]])
    wanted = tf.convert_to_tensor(candidates)
    if wanted.shape.rank == 1:
        wanted = tf.tile(wanted[tf.newaxis, :], [tf.shape(items)[0], 1])
    first = tf.searchsorted(ordered, wanted, side="left")
    last = tf.searchsorted(ordered, wanted, side="right")
    return tf.gather(summed, last, batch_dims=1) - tf.gather(summed, first, batch_dims=1)


def sum_of_history(items: Any, weights: Any) -> Any:
    """Sums the weights of each item's entries at its first entry: int [B, H], float32 [B, H] -> float32 [B, H]."""
    same = tf.equal(items[:, :, tf.newaxis], items[:, tf.newaxis, :])
    earlier = tf.linalg.band_part(tf.cast(same, tf.float32), -1, 0)  # entries up to and with the own place
    is_first = tf.cast(tf.reduce_sum(earlier, axis=2) <= 1.0, tf.float32)
    total = tf.einsum("bij,bj->bi", tf.cast(same, tf.float32), weights)
    return total * is_first * tf.cast(items > 0, tf.float32)


# Where learning starts: the weight of an entry of the last hour, without and with a query text (the text decides where there
# is one), its decay a bucket, and the power. Stronger starts rank nearly as well untrained, but then training has first to
# lower what is popular, which costs the items that are new to a user.
_WEIGHT, _WEIGHT_WITH_TEXT, _DECAY, _POWER = 20.0, 0.05, 0.85, 1.0


def _start_log_weights(event_weights: list[float]) -> Any:
    """log(event weight * weight * decay) [types, 2, ages]; an unknown age is the middle one."""
    decay = [_DECAY ** max(bucket - 1, 0) for bucket in range(AGE_ROWS)]
    decay[0] = decay[AGE_ROWS // 2]
    table = [
        [[start * weight * share for share in decay] for start in (_WEIGHT, _WEIGHT_WITH_TEXT)]
        for weight in event_weights
    ]
    return tf.math.log(tf.constant(table, tf.float32))
