"""Exact retrieval metrics over the full corpus, block by block."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from transform.errors import TandemError


class RetrievalMetrics(NamedTuple):
    """One value a query; a query's mean over queries is the figure to report.

    Attributes:
      recall: k -> float64 [Q], |targets among the first k| / min(k, |targets|).
      ndcg: k -> float64 [Q], sum over targets at rank r <= k of 1 / log2(r + 1), over the best such sum.
      mrr: float64 [Q], 1 / rank of the first target in the whole corpus, 0 if no target is in it.
    """

    recall: dict[int, np.ndarray]
    ndcg: dict[int, np.ndarray]
    mrr: np.ndarray

    def by_name(self) -> dict[str, np.ndarray]:
        """Returns recall_at_k, ndcg_at_k and mrr, float64 [Q] each."""
        named = {f"recall_at_{k}": values for k, values in self.recall.items()}
        named |= {f"ndcg_at_{k}": values for k, values in self.ndcg.items()}
        return named | {"mrr": self.mrr}

    def means(self) -> dict[str, float]:
        """Returns recall_at_k, ndcg_at_k and mrr, averaged over queries."""
        return {name: float(values.mean()) if len(values) else 0.0 for name, values in self.by_name().items()}


def evaluate_retrieval(
    queries: np.ndarray,
    items: np.ndarray,
    targets: Sequence[np.ndarray],
    excluded: Sequence[np.ndarray] | None = None,
    bonus: Sequence[tuple[np.ndarray, np.ndarray]] | None = None,
    ks: Sequence[int] = (10, 100),
    block: int = 256,
) -> RetrievalMetrics:
    """Ranks all items for every query by inner product plus bonus and compares with what was acted on.

    Rank = 1 + items with a higher score + items with the same score that come earlier. A target that is not in the
    corpus (row below 0) is never found, and counts. Excluded items are no candidates, unless they are targets.

    Args:
      queries: float32 [Q, D].
      items: float32 [N, D].
      targets: for each query, distinct rows of `items`; at least one.
      excluded: for each query, rows of `items` to leave out.
      bonus: for each query, distinct rows of `items` and what is added to their scores.
      ks: cut-offs.
      block: queries scored at a time, which bounds memory to block x N floats.

    Raises:
      TandemError: a query without targets, or lists of different lengths.
    """
    if len(targets) != len(queries) or (excluded is not None and len(excluded) != len(queries)):
        raise TandemError(
            f"{len(queries)} queries, {len(targets)} target lists, "
            f"{len(excluded) if excluded is not None else 'no'} exclusion lists received, expected one a query."
        )
    ranks = []
    for start in range(0, len(queries), block):
        scores = queries[start : start + block] @ items.T
        for offset, row in enumerate(scores):
            query = start + offset
            out = excluded[query] if excluded is not None else None
            if bonus is not None:
                rows, values = bonus[query]
                row[rows] += values
            ranks.append(_ranks(row, np.asarray(targets[query]), out))
    return RetrievalMetrics(
        recall={k: np.array([_recall(r, k) for r in ranks]) for k in ks},
        ndcg={k: np.array([_ndcg(r, k) for r in ranks]) for k in ks},
        mrr=np.array([1.0 / r.min() for r in ranks]),
    )


def _ranks(scores: np.ndarray, targets: np.ndarray, excluded: np.ndarray | None) -> np.ndarray:
    """Returns float64 [T], the targets' ranks from 1; infinite for a target outside the corpus."""
    if not len(targets):
        raise TandemError("a query without targets received, expected at least one; leave such queries out.")
    known = targets[targets >= 0]
    own = scores[known].copy()
    if excluded is not None and len(excluded):
        scores = scores.copy()
        scores[excluded[excluded >= 0]] = -np.inf
        scores[known] = own
    before = [
        np.count_nonzero(scores > score) + np.count_nonzero(scores[:row] == score)
        for row, score in zip(known, own, strict=True)
    ]
    ranks = np.full(len(targets), np.inf)
    ranks[: len(known)] = np.array(before, np.float64) + 1.0
    return ranks


def _recall(ranks: np.ndarray, k: int) -> float:
    return float(np.count_nonzero(ranks <= k)) / min(k, len(ranks))


def _ndcg(ranks: np.ndarray, k: int) -> float:
    found = ranks[ranks <= k]
    best = 1.0 / np.log2(np.arange(1, min(k, len(ranks)) + 1) + 1.0)
    return float((1.0 / np.log2(found + 1.0)).sum() / best.sum())
