"""The best k among the eligible items: out of a wider search of the index, or by comparing each of them."""

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serving.filters import Mask
from serving.index import Index, Neighbours

# So many times the items that would do if the filter had nothing to do with the query: a random number of them is
# eligible, and with twice as many as expected fewer than k are once in two hundred times for k = 10, never for 100.
_SPARE = 2
# From this share of eligible items on, comparing all and picking is quicker than gathering the vectors of some.
_GATHERED_SHARE = 0.25
# Vectors gathered at once, which stay in the processor's cache.
_BLOCK = 1024


def search_filtered(
    queries: NDArray[np.float32],
    eligible: Iterable[Mask | None],
    history: NDArray[np.int64],
    index: Index,
    vectors: NDArray[np.float32],
    exact: bool = False,
) -> Neighbours:
    """Finds the k eligible items of largest inner product for each query.

    Args:
      queries: float32 [B, D].
      eligible: bool [N] a query, or none where all items are; looked at one after the other, so that they need not
        be in memory together.
      history: int64 [B, H], the history items' positions in 0..N-1, or -1; what is not eligible becomes -1.
      index: over the vectors.
      vectors: float32 [N, D].
      exact: whether filtered queries are compared with each eligible item in any case.

    Returns:
      rows and scores [B, k]; -1 and minus infinity where fewer are eligible.

    Raises:
      ValueError: a query is not finite.
    """
    if not np.isfinite(queries).all():
        raise ValueError("a query vector is not finite, expected finite float32: the model is broken")
    shape = (len(queries), index.k)
    found = Neighbours(np.empty(shape, np.int64), np.empty(shape, np.float32))
    unfiltered = []
    for request, mask in enumerate(eligible):
        if mask is None:
            unfiltered.append(request)
            continue
        history[request, ~mask[history[request]]] = -1
        part = search_eligible(queries[request], mask, index, vectors, exact=exact)
        found.rows[request], found.scores[request] = part.rows[0], part.scores[0]
    if unfiltered:
        found.rows[unfiltered], found.scores[unfiltered] = index.search(queries[unfiltered])
    return found


def search_eligible(
    query: NDArray[np.float32],
    eligible: Mask,
    index: Index,
    vectors: NDArray[np.float32],
    *,
    exact: bool = False,
) -> Neighbours:
    """Finds the k eligible items of largest inner product with one query.

    A wide filter is answered out of what the index finds for so many items that k of them should be eligible. It is
    taken for narrow when comparing each eligible item costs no more vectors than that search would compare, and so
    answered exactly; so is any request of which the index found too few.

    Args:
      query: float32 [D].
      eligible: bool [N].
      index: over the vectors.
      vectors: float32 [N, D].
      exact: whether to compare each eligible item in any case.

    Returns:
      rows and scores [1, k], ties by position where it is exact; -1 and minus infinity where fewer are eligible.
    """
    count, k = int(np.count_nonzero(eligible)), index.k
    if not exact and count >= k:
        wider = wider_search(k, count, len(eligible))
        if count > index.compared(wider):
            found = index.search(query[np.newaxis], wider)
            kept = np.flatnonzero(eligible[found.rows[0]])[:k]
            if len(kept) == k:
                return Neighbours(found.rows[:, kept], found.scores[:, kept])
    return _compare_each(query, eligible, count, vectors, k)


def wider_search(k: int, eligible: int, items: int) -> int:
    """How many of all items to search for, so that k of the eligible ones should be among them."""
    return min(k + items - eligible, -(-_SPARE * k * items // eligible))


def _compare_each(
    query: NDArray[np.float32], eligible: Mask, count: int, vectors: NDArray[np.float32], k: int
) -> Neighbours:
    rows = np.flatnonzero(eligible)
    wide = count > _GATHERED_SHARE * len(eligible)
    parts = (rows[start : start + _BLOCK] for start in range(0, max(count, 1), _BLOCK))
    scores = (vectors @ query)[rows] if wide else np.concatenate([vectors[part] @ query for part in parts])
    best = _largest(scores, k)
    found = Neighbours(np.full((1, k), -1, np.int64), np.full((1, k), -np.inf, np.float32))
    found.rows[0, : len(best)] = rows[best]
    found.scores[0, : len(best)] = scores[best]
    return found


def _largest(scores: NDArray[Any], k: int) -> NDArray[np.int64]:
    """Places of the k largest, best first, ties by position."""
    if len(scores) > k:
        least = np.partition(scores, len(scores) - k)[len(scores) - k]
        above = np.flatnonzero(scores > least)
        places = np.concatenate([above, np.flatnonzero(scores == least)[: k - len(above)]])
    else:
        places = np.arange(len(scores))
    return places[np.lexsort((places, -scores[places]))]
