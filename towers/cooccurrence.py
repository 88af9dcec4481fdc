"""The co-occurrence view: coordinates that say which items go together in all users' histories, learnt in closed form."""

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from towers.examples import Column
from towers.item_to_item import ItemToItem, item_to_item, newest_actions
from transform.errors import TandemError
from transform.features import AGE_BOUNDARIES_DAYS, AGE_ROWS, HISTORY_AGES, HISTORY_ITEMS, HISTORY_TYPES

HALF_LIFE_DAYS = 60.0


@keras.saving.register_keras_serializable("tandem")
class CooccurrenceView(keras.layers.Layer):
    """q = [sum_j 2^(-age_j / half-life) given[j], trend weight], v = [weight gives[i], trend[i]].

    j runs over the distinct items of a history, each at its newest event that could be a target. A request with a query text
    has q = 0: what it asks for is in the text. Nothing here is trained, and the losses know nothing of it:
    each run fills it from the histories there are.

    Args:
      items: rows of the item vocabulary, row 0 included.
      modelled: items that may have coordinates, M.
      is_target: for each row of the event type vocabulary, 1 where its events count, else 0.
      dimension: length of the vectors, D + 1; the last coordinate is the trend's.
      weight: of EASE's score, which is a share of users, among scores that are logarithms of odds.
      trend_weight: of the trend.
    """

    def __init__(
        self,
        items: int,
        modelled: int,
        is_target: list[float],
        dimension: int,
        weight: float,
        trend_weight: float,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.items = items
        self.modelled = modelled
        self.is_target = is_target
        self.dimension = dimension
        self.weight = weight
        self.trend_weight = trend_weight

    def build(self, *_: Any) -> None:
        """Makes the tables; all are 0 before `fill`."""

        def table(name: str, shape: tuple[int, ...], kind: str = "float32") -> Any:
            return self.add_weight(name=name, shape=shape, initializer="zeros", dtype=kind, trainable=False)

        self.place = table("place", (self.items,), "int32")  # 0: an item that is not modelled
        self.given = table("given", (self.modelled + 1, self.dimension - 1))
        self.gives = table("gives", (self.modelled + 1, self.dimension - 1))
        self.trend = table("trend", (self.items,))
        self.built = True

    def learn(self, histories: Mapping[str, Column]) -> None:
        """Solves for what goes together in users' histories, and takes it over.

        Args:
          histories: as `towers.examples.read_histories` returns them.

        Raises:
          TandemError: no event in them is of a type that is a target.
        """
        items, offsets = histories[HISTORY_ITEMS]
        counts = np.array(self.is_target)[histories[HISTORY_TYPES].values] > 0
        actions = newest_actions(items, histories[HISTORY_AGES].values, counts, offsets)
        if not len(actions.items):
            raise TandemError(
                f"{len(offsets) - 1:,} histories hold no event of a target type, expected some to see what goes together:"
                " set features.cooccurrence_items to 0."
            )
        self.fill(item_to_item(actions, self.items, self.modelled, self.dimension - 1))

    def fill(self, found: ItemToItem) -> None:
        """Sets what is known of at most M items, in D dimensions."""
        number = len(found.rows)
        place = np.zeros(self.items, np.int32)
        place[found.rows] = np.arange(1, number + 1)
        rows = ((1, self.modelled - number), (0, 0))
        self.place.assign(place)
        self.given.assign(np.pad(found.given, rows))
        self.gives.assign(np.pad(self.weight * found.gives, rows))
        self.trend.assign(found.trend)

    def of_queries(self, inputs: dict[str, Any], has_text: Any) -> Any:
        """Says which items would go with histories.

        Args:
          inputs: history_items, history_types, history_ages int [B, H], newest first.
          has_text: bool [B], whether there is a query text.

        Returns:
          float32 [B, D + 1].
        """
        types, ages = inputs[HISTORY_TYPES], inputs[HISTORY_AGES]
        counts = tf.gather(tf.constant(self.is_target), types) > 0
        items = tf.where(counts, inputs[HISTORY_ITEMS], 0)
        order = tf.argsort(items, axis=1, stable=True)  # of one item's entries, the newest stays first
        ordered = tf.gather(items, order, batch_dims=1)
        is_newest = tf.not_equal(ordered, tf.pad(ordered[:, :-1], [[0, 0], [1, 0]]))
        decay = tf.gather(tf.constant(_decay(), tf.float32), tf.gather(ages, order, batch_dims=1))
        places = tf.gather(self.place.value, ordered)
        rows = tf.gather(self.given.value, places)
        summed = tf.einsum("bh,bhd->bd", decay * tf.cast(is_newest, tf.float32), rows)
        trend = tf.fill([tf.shape(items)[0], 1], self.trend_weight)
        return tf.concat([summed, trend], 1) * tf.cast(~has_text, tf.float32)[:, tf.newaxis]

    def of_items(self, item: Any) -> Any:
        """What items answer: int [B], rows of the item vocabulary -> float32 [B, D + 1]; 0 for an unknown one."""
        gives = tf.gather(self.gives.value, tf.gather(self.place.value, item))
        return tf.concat([gives, tf.gather(self.trend.value, item)[:, tf.newaxis]], 1)


def _decay() -> np.ndarray:
    """[AGE_ROWS]: what an event of an age bucket's middle counts; of an unknown age, as one in the middle of the buckets."""
    edges = np.array([0.0, *AGE_BOUNDARIES_DAYS, 2 * AGE_BOUNDARIES_DAYS[-1]])
    decay = 0.5 ** ((edges[:-1] + edges[1:]) / 2 / HALF_LIFE_DAYS)
    return np.concatenate([[decay[AGE_ROWS // 2 - 1]], decay])
