"""Baselines of who bought what and when: popularity, own most frequent, item-to-item neighbours, EASE."""

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from benchmarks.baselines.task import Ranking, Task, rank_by_scores

RECENT_DAYS = 28.0


def popularity(task: Task, days: float = np.inf) -> Ranking:
    """What most users, or queries, led to first, the same for everyone; `days`: only so many before the held-out time."""
    counts = popular(task, days)
    return rank_by_scores(
        task, lambda block: np.broadcast_to(counts, (block.stop - block.start, len(counts)))
    )


def popular(task: Task, days: float) -> NDArray[np.int64]:
    """int64 [N], distinct users, or queries of nobody, that each item was acted on by in the last `days`."""
    recent = task.event_days <= days
    nobody = task.event_users < 0
    _, queries = np.unique(task.event_queries, return_inverse=True)
    who = np.where(nobody, queries + task.event_users.max(initial=-1) + 1, task.event_users)
    pairs = np.unique(np.stack([task.event_items, who], axis=1)[recent], axis=0)
    return np.bincount(pairs[:, 0], minlength=len(task.texts))


def own_most_frequent(task: Task) -> Ranking:
    """The user's own items by number of events, then the popular ones of the last 28 days."""
    counts = user_items(task)
    others = popular(task, RECENT_DAYS)
    others = others / (others.max(initial=0) + 1.0)  # below 1, so that one event of one's own is more
    return rank_by_scores(task, lambda block: _rows(counts, task.users[block]).toarray() + others)


def item_neighbours(task: Task, weighted: sparse.csr_matrix, neighbours: int, half_life: float) -> Ranking:
    """ItemKNN: an item's score is the sum of its similarities to the user's items, the older ones counting less.

    Similarity is the inner product of two items' weighted users; each item keeps the most similar ones, itself among
    them.

    Args:
      task: the requests.
      weighted: [users, items], see `cosine_weights` and `bm25_weights`.
      neighbours: how many items each item keeps.
      half_life: days after which a history item, last acted on then, counts half.
    """
    history, similarity = recent_items(task, half_life), nearest(weighted, neighbours)
    return rank_by_scores(task, lambda block: (_rows(history, task.users[block]) @ similarity).toarray())


def nearest(weighted: sparse.csr_matrix, neighbours: int, block: int = 1024) -> sparse.csr_matrix:
    """[items, items] similarity; row i holds the items most similar to i and their inner products with it."""
    by_item = weighted.T.tocsr()
    rows = []
    for start in range(0, by_item.shape[0], block):
        similarity = (by_item[start : start + block] @ weighted).tocsr()
        for row in range(similarity.shape[0]):
            begin, end = similarity.indptr[row : row + 2]
            if end - begin > neighbours:
                values, items = similarity.data[begin:end], similarity.indices[begin:end]
                bar = np.partition(values, -neighbours)[-neighbours]
                at = np.flatnonzero(values == bar)
                dropped = values <= bar
                # Ties by item number, as everywhere.
                dropped[at[np.argsort(items[at])][: neighbours - np.count_nonzero(values > bar)]] = False
                values[dropped] = 0.0
        similarity.eliminate_zeros()
        rows.append(similarity)
    return sparse.vstack(rows).tocsr()


def cosine_weights(counts: sparse.csr_matrix) -> sparse.csr_matrix:
    """Each item's users, scaled to length 1."""
    lengths = np.sqrt(np.asarray(counts.multiply(counts).sum(axis=0)).ravel())
    return (counts @ sparse.diags(1.0 / np.maximum(lengths, 1e-12))).tocsr()


def bm25_weights(counts: sparse.csr_matrix, k1: float = 100.0, b: float = 0.8) -> sparse.csr_matrix:
    """BM25 with users as documents and items as words: what everyone buys, and who buys everything, count less.

    n (k1 + 1) / (n + k1 (1 - b + b length / mean length)) * (log users - log(1 + users of the item)), as the
    `implicit` library has it.
    """
    found = counts.tocoo()
    idf = np.log(counts.shape[0]) - np.log1p(np.bincount(found.col, minlength=counts.shape[1]))
    lengths = np.asarray(counts.sum(axis=1)).ravel()
    norm = (1.0 - b) + b * lengths / lengths.mean()
    data = found.data * (k1 + 1.0) / (k1 * norm[found.row] + found.data) * idf[found.col]
    return sparse.csr_matrix((data, (found.row, found.col)), shape=counts.shape)


def ease(task: Task, regularisation: float, half_life: float, most_bought: int) -> Ranking:
    """EASE with a recency-weighted history (Steck 2019, "Embarrassingly shallow autoencoders").

    Items beyond the most bought ones are not ranked.

    Args:
      task: the requests.
      regularisation: lambda, in users.
      half_life: days after which a history item, last acted on then, counts half.
      most_bought: how many items are modelled; the cost is cubic in it.
    """
    from towers.item_to_item import (
        ease_weights,  # not there in the environment of baselines, which needs no EASE
    )

    size = min(most_bought, len(task.texts))
    weights = ease_weights(binary(user_items(task)[:, :size]), regularisation)
    history = recent_items(task, half_life)[:, :size]

    def score(block: slice) -> NDArray[np.floating]:
        scores = np.full((block.stop - block.start, len(task.texts)), -np.inf, np.float32)
        scores[:, :size] = _rows(history, task.users[block]) @ weights
        return scores

    return rank_by_scores(task, score)


def user_items(task: Task) -> sparse.csr_matrix:
    """[users, items], how often each acted on each; events of nobody are left out."""
    return _matrix(task, np.ones(len(task.event_items)), np.add)


def recent_items(task: Task, half_life: float) -> sparse.csr_matrix:
    """[users, items], 2^(-days since the user last acted on the item / half_life)."""
    return _matrix(task, 0.5 ** (task.event_days / half_life), np.maximum)


def _matrix(task: Task, values: NDArray[np.float64], join: np.ufunc) -> sparse.csr_matrix:
    """Joins the values of one user's events with one item."""
    known = task.event_users >= 0
    users = int(max(task.event_users.max(initial=-1), task.users.max(initial=-1))) + 1
    cells, place = np.unique(
        task.event_users[known] * len(task.texts) + task.event_items[known], return_inverse=True
    )
    joined = np.zeros(len(cells))
    join.at(joined, place, values[known])
    return sparse.csr_matrix((joined, np.divmod(cells, len(task.texts))), shape=(users, len(task.texts)))


def binary(counts: sparse.csr_matrix) -> sparse.csr_matrix:
    """1 where there is anything."""
    return sparse.csr_matrix((np.ones(counts.nnz, np.float32), counts.indices, counts.indptr), counts.shape)


def _rows(matrix: sparse.csr_matrix, users: NDArray[np.int64]) -> sparse.csr_matrix:
    """[B, items]; an unknown user's row is empty."""
    pick = sparse.csr_matrix(
        ((users >= 0).astype(np.float32), (np.arange(len(users)), np.maximum(users, 0))),
        shape=(len(users), matrix.shape[0]),
    )
    return pick @ matrix
