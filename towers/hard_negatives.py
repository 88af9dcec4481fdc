"""Hard negatives: the items that a model ranks next below a pair's own item."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

HARD_NEGATIVES = "hard_negatives"  # of each target, in a batch


class HardNegatives(NamedTuple):
    """Hard negatives of (request, target) pairs.

    Attributes:
      row: int32 [T], for each place in the column of targets a row of `items`; 0 where none were mined.
      items: int32 [M + 1, n], rows of the item vocabulary, 0 = none; row 0 holds none.
    """

    row: np.ndarray
    items: np.ndarray

    def of(self, places: np.ndarray) -> np.ndarray:
        """Those of some targets: int [R, W], places in the column of targets, below 0 = none -> int32 [R, W, n]."""
        return self.items[np.where(places >= 0, self.row[np.maximum(places, 0)], 0)]


def rank_below(
    queries: np.ndarray,
    items: np.ndarray,
    own: Sequence[np.ndarray],
    excluded: Sequence[np.ndarray],
    bonus: Sequence[tuple[np.ndarray, np.ndarray]],
    count: int,
    margin: float,
    block: int = 256,
) -> np.ndarray:
    """Finds for each pair the `count` items of the catalogue that score highest at or below its own score - margin.

    What scores higher than that is as likely a positive that nobody has seen yet as a negative, and is left out; so are the
    request's other targets and whatever else it is known to lead to.

    Args:
      queries: float32 [R, D].
      items: float32 [N, D].
      own: for each request its targets, rows of `items`; each makes a pair. Below 0: not in the catalogue.
      excluded: for each request, rows of `items` that are no negatives.
      bonus: for each request, distinct rows of `items` and what is added to their scores.
      count: n, at least 1.
      margin: in units of the scores.
      block: requests scored at a time, which bounds memory to block x N floats.

    Returns:
      int32 [sum of targets, n], rows of `items`, best first; -1 where there are no more.
    """
    found = np.full((sum(map(len, own)), count), -1, np.int32)
    pair = 0
    for start in range(0, len(queries), block):
        scores = queries[start : start + block] @ items.T
        for request, row in enumerate(scores, start):
            places, values = bonus[request]
            row[places] += values
            own_scores = np.where(own[request] >= 0, row[own[request]], -np.inf)
            row[own[request][own[request] >= 0]] = -np.inf
            row[excluded[request][excluded[request] >= 0]] = -np.inf
            for score in own_scores:
                eligible = np.where(row <= score - margin, row, -np.inf)
                best = np.argpartition(-eligible, min(count, len(row)) - 1)[:count]
                best = best[eligible[best] > -np.inf]
                found[pair, : len(best)] = best[np.argsort(-eligible[best], kind="stable")]
                pair += 1
    return found


def embed_candidates(model: Any, items: Any, hard: Any, training: bool) -> dict[str, Any]:
    """Embeds a step's candidates, in one call, so that each distinct text is encoded once.

    Args:
      model: a `TwoTower` with a catalogue.
      items: int32 [c].
      hard: int32 [P, n], hard negatives, or None.
      training: whether dropout is on.

    Returns:
      items as they are, and vectors float32 [c, D]; `HARD_NEGATIVES` as they are and hard_vectors float32 [P, n, D], if any.
    """
    if hard is None:
        return {"items": items, "vectors": model.embed_catalogue_items(items, training=training)}
    both = tf.concat([items, tf.reshape(hard, [-1])], 0)
    vectors, others = tf.split(
        model.embed_catalogue_items(both, training=training), [tf.size(items), tf.size(hard)]
    )
    shape = tf.concat([tf.shape(hard), tf.shape(vectors)[1:]], 0)
    return {
        "items": items,
        "vectors": vectors,
        HARD_NEGATIVES: hard,
        "hard_vectors": tf.reshape(others, shape),
    }
