"""Two rankings made one: by reciprocal rank, or by a weighted sum of their scores."""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from benchmarks.baselines.task import DEPTH, Ranking

_RECIPROCAL_RANK_K = 60


def reciprocal_rank(rankings: Sequence[Ranking]) -> Ranking:
    """Sum of 1 / (60 + rank) over the rankings that hold an item (Cormack, Clarke & Buettcher 2009)."""

    def values(ranking: Ranking) -> NDArray[np.float64]:
        ranks = np.arange(1, ranking.items.shape[1] + 1)
        return np.broadcast_to(1.0 / (_RECIPROCAL_RANK_K + ranks), ranking.items.shape)

    return _fuse(rankings, [1.0] * len(rankings), values)


def weighted_sum(rankings: Sequence[Ranking], weights: Sequence[float]) -> Ranking:
    """Weighted sum of scores, each list's scaled to 0..1; 0 for an item that a list does not hold."""

    def values(ranking: Ranking) -> NDArray[np.float64]:
        there = ranking.items >= 0
        scores = ranking.scores.astype(np.float64)
        low = np.min(scores, axis=1, where=there, initial=np.inf)[:, np.newaxis]
        high = np.max(scores, axis=1, where=there, initial=-np.inf)[:, np.newaxis]
        span = high - low
        return np.divide(scores - low, span, out=np.ones_like(scores), where=there & (span > 0))

    return _fuse(rankings, weights, values)


def _fuse(
    rankings: Sequence[Ranking],
    weights: Sequence[float],
    values: Callable[[Ranking], NDArray[np.float64]],
) -> Ranking:
    """The best of the sums, ties by item number."""
    requests = len(rankings[0].items)
    items = np.full((requests, DEPTH), -1, np.int64)
    scores = np.full((requests, DEPTH), -np.inf, np.float32)
    weighted = [weight * values(ranking) for ranking, weight in zip(rankings, weights, strict=True)]
    for request in range(requests):
        found = np.concatenate([ranking.items[request] for ranking in rankings])
        value = np.concatenate([part[request] for part in weighted])
        distinct, place = np.unique(found[found >= 0], return_inverse=True)
        sums = np.bincount(place, value[found >= 0], len(distinct))
        best = np.lexsort((distinct, -sums))[:DEPTH]
        items[request, : len(best)], scores[request, : len(best)] = distinct[best], sums[best]
    return Ranking(items, scores)
