"""The bonus of a request's own history: added to exact scores in the graph, and merged into what an index found."""

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from serving.index import Neighbours

if TYPE_CHECKING:
    import tensorflow as tf

    from serving.changed_items import Vectors


def add_bonus(scores: "tf.Tensor", rows: "tf.Tensor", bonus: "tf.Tensor") -> "tf.Tensor":
    """Adds each history item's bonus to its score.

    Args:
      scores: float32 [B, N].
      rows: int64 [B, H], the history items' positions in 0..N-1, or -1 for one that is not in the catalogue.
      bonus: float32 [B, H], 0 at further entries of an item.

    Returns:
      float32 [B, N].
    """
    import tensorflow as tf

    place = tf.where(tf.logical_and(rows >= 0, bonus > 0))
    request, column = place[:, 0], tf.gather_nd(rows, place)
    return tf.tensor_scatter_nd_add(scores, tf.stack([request, column], axis=1), tf.gather_nd(bonus, place))


def merge_bonus(
    found: Neighbours,
    rows: NDArray[np.int64],
    bonus: NDArray[np.float32],
    queries: NDArray[np.float32],
    vectors: "NDArray[np.float32] | Vectors",
) -> Neighbours:
    """Scores the history items exactly and merges them with what a search by inner product found.

    As no bonus is below 0, an item without one that belongs to the best k is among the best k by inner product; so
    nothing is lost that the search did not lose.

    Args:
      found: the best k by inner product.
      rows: int64 [B, H], the history items' positions in 0..N-1, or -1.
      bonus: float32 [B, H], 0 at further entries of an item.
      queries: float32 [B, D].
      vectors: float32 [N, D].

    Returns:
      The best k by inner product plus bonus, ties by position.
    """
    counts = (rows >= 0) & (bonus > 0)
    if not counts.any():
        return found
    merged_rows, merged_scores = found.rows.copy(), found.scores.copy()
    k = found.rows.shape[1]
    for request in np.flatnonzero(counts.any(axis=1)):
        own = rows[request, counts[request]]
        own_scores = vectors[own] @ queries[request] + bonus[request, counts[request]]
        others = ~np.isin(found.rows[request], own)
        all_rows = np.concatenate([own, found.rows[request, others]])
        all_scores = np.concatenate([own_scores, found.scores[request, others]])
        best = np.lexsort((all_rows, -all_scores))[:k]
        merged_rows[request], merged_scores[request] = all_rows[best], all_scores[best]
    return Neighbours(merged_rows, merged_scores)
