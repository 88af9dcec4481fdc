"""Chooses how much of a partitioned index a query looks at: the cheapest setting that finds enough of the exact top k."""

import logging
from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from transform.errors import TandemError

logger = logging.getLogger("tandem.index")

# Candidates compared in full, in multiples of k.
_REORDER = (1, 1.5, 2, 3, 4, 6, 8, 12, 20)
# A code holds two dimensions in 4 bits, where a vector has 64, and every vector lies in two partitions.
_CODE_COST = 2 / 16
_SCORES = 1 << 24  # held at once by exact search, in floats (64 MiB)

# Query vectors, partitions to look into, candidates to compare in full -> scores [B, k], best first.
Search = Callable[[NDArray[np.float32], int, int], NDArray[np.float32]]


class Tuning(BaseModel):
    """What a search of an index looks at, and what that was measured to find."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    leaves: int = Field(ge=1, description="Partitions of the tree.")
    searched: int = Field(ge=1, description="Partitions that a query looks into.")
    reorder: int = Field(ge=1, description="Candidates compared with their full float32 vectors.")
    k: int = Field(default=0, description="Items that were looked for; 0: chosen by hand.")
    target: float = Field(default=0.0, description="Share of the exact top k that was to be found.")
    recall: float = Field(default=0.0, description="Share that was found.")
    queries: int = Field(default=0, description="Queries it was measured on.")


def tune(
    search: Search,
    vectors: NDArray[np.float32],
    queries: NDArray[np.float32],
    *,
    k: int,
    leaves: int,
    target: float,
) -> Tuning:
    """Finds the setting of least cost whose answers hold the target share of the exact top k.

    The cost is counted, in vectors read: all centres of partitions, what is in those that are looked into, in codes of a
    sixteenth, and the candidates compared in full. So it is the same on a busy machine. For each number of
    candidates the fewest partitions that do are found by halving, among those that could still be cheapest: some 40
    searches of all queries at most.

    Args:
      search: of the index.
      vectors: float32 [N, D], those in the index.
      queries: float32 [Q, D].
      k: items to look for, at most N.
      leaves: partitions of the index.
      target: share of the exact top k, 0..1; an item as good as the k-th counts as found.

    Raises:
      TandemError: not even all partitions and the most candidates reach the target.
    """
    least = least_scores(vectors, queries, k)
    shares: dict[tuple[int, int], float] = {}

    def share(searched: int, reorder: int) -> float:
        if (searched, reorder) not in shares:
            found = search(queries, searched, reorder)
            shares[searched, reorder] = float((found >= least[:, np.newaxis]).mean())
        return shares[searched, reorder]

    def cost(searched: int, reorder: int) -> float:
        return leaves + _CODE_COST * len(vectors) * searched / leaves + reorder

    candidates = sorted({min(len(vectors), round(k * times)) for times in _REORDER})
    best = (leaves, candidates[-1])
    if share(*best) < target:
        raise TandemError(
            f"the index finds {share(*best):.4f} of the exact top {k} at best (all {leaves} partitions, {best[1]} vectors"
            f" compared in full, {len(queries)} queries), expected at least index.target_recall {target}: lower"
            f" it, or search exactly with index.brute_force_below above {len(vectors)}."
        )
    steps = list(_steps(leaves))
    for reorder in reversed(candidates):
        affordable = [searched for searched in steps if cost(searched, reorder) < cost(*best)]
        if not affordable or share(affordable[-1], reorder) < target:
            continue
        low, high = 0, len(affordable) - 1
        while low < high:
            middle = (low + high) // 2
            if share(affordable[middle], reorder) >= target:
                high = middle
            else:
                low = middle + 1
        best = (affordable[high], reorder)
    tuning = Tuning(
        leaves=leaves,
        searched=best[0],
        reorder=best[1],
        k=k,
        target=target,
        recall=share(*best),
        queries=len(queries),
    )
    logger.info(
        "index: %d of %d partitions and %d of %d vectors compared in full find %.4f of the exact top %d (target %g,"
        " %d queries, %d settings tried)",
        *(tuning.searched, leaves, tuning.reorder, len(vectors), tuning.recall, k, target),
        *(len(queries), len(shares)),
    )
    return tuning


def least_scores(vectors: NDArray[np.float32], queries: NDArray[np.float32], k: int) -> NDArray[np.float32]:
    """The exact k-th largest inner product of each query, less what float32 sums differ by; float32 [Q]."""
    least = np.empty(len(queries), np.float32)
    block = max(1, min(len(queries), _SCORES // len(vectors)))
    held = np.empty((block, len(vectors)), np.float32)
    for start in range(0, len(queries), block):
        asked = queries[start : start + block]
        scores = np.matmul(asked, vectors.T, out=held[: len(asked)])
        slack = 1e-5 * np.maximum(scores.max(axis=1), -scores.min(axis=1))
        scores.partition(-k, axis=1)
        least[start : start + block] = scores[:, -k] - slack
    return least


def _steps(leaves: int) -> Iterator[int]:
    """1, 2, 3, 4, 5, 6, 8, 10, ... and all: each at most a fourth more than the one before, or one."""
    step = 1
    while step < leaves:
        yield step
        step += max(1, step // 4)
    yield leaves
