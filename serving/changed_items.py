"""What a version's answers differ by from its own catalogue: items beside its index, and items of it that are hidden."""

import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from serving.index import Neighbours

Search = Callable[[NDArray[np.float32], int], Neighbours]

# Scores held at once by an exact search, in floats (64 MiB).
_SCORES = 1 << 24


class SideItem(NamedTuple):
    """An item that a version does not hold, or holds with another content; id and texts in UTF-8.

    `content` has its columns that may be filtered by: text or number, without those that have no value.
    """

    item_id: bytes
    title: bytes
    category: bytes
    vector: NDArray[np.float32]
    content: Mapping[str, Any] = MappingProxyType({})


class ChangedItems:
    """A version's catalogue as it is now; never changed, only replaced, so readers need no lock.

    Rows 0..N-1 are the version's own items, whose hidden ones are found by no search, and N..N+M-1 those beside them.

    Attributes:
      number: of the state of the catalogue that this shows; grows with every change.
      beside: the M items beside the version's own.
      hidden: how many of its own are hidden.
    """

    def __init__(
        self,
        own: int,
        dimension: int,
        number: int = 0,
        beside: Sequence[SideItem] = (),
        is_hidden: NDArray[np.bool_] | None = None,
    ) -> None:
        self.number = number
        self.beside = beside
        self._own = own
        self._is_hidden = np.zeros(own, bool) if is_hidden is None else is_hidden
        self.hidden = int(self._is_hidden.sum())
        self._rows = {item.item_id: own + place for place, item in enumerate(beside)}
        self._ids = np.array([item.item_id for item in beside], object)
        self._vectors = np.array([item.vector for item in beside], np.float32).reshape(-1, dimension)

    def __bool__(self) -> bool:
        """Whether anything differs from the version's own catalogue."""
        return bool(self.beside) or self.hidden > 0

    def row(self, item_id: bytes, own_row: int | None) -> int | None:
        """An item's row; none where there is no such item, or no more.

        Args:
          item_id: of the item.
          own_row: among the version's own items, if it is one of them.
        """
        beside = self._rows.get(item_id)
        if beside is not None or own_row is None:
            return beside
        return None if self._is_hidden[own_row] else own_row

    def replace(
        self,
        number: int,
        beside: Iterable[SideItem],
        hide: Iterable[int],
        show: Iterable[int],
        gone: set[bytes],
    ) -> "ChangedItems":
        """The next state.

        Args:
          number: of the state.
          beside: items to put beside the version's own.
          hide: own rows to hide.
          show: own rows that count again.
          gone: ids that are no longer beside them, those of `beside` among them.
        """
        is_hidden = self._is_hidden.copy()
        is_hidden[list(hide)] = True
        is_hidden[list(show)] = False
        kept = [item for item in self.beside if item.item_id not in gone]
        return ChangedItems(self._own, self._vectors.shape[1], number, [*kept, *beside], is_hidden)

    @functools.cached_property
    def directions(self) -> NDArray[np.float32]:
        """The vectors of the items beside the version's own, with length 1."""
        from serving.related import unit_vectors

        return unit_vectors(self._vectors)

    def visible(self, mask: NDArray[np.bool_] | None) -> NDArray[np.bool_] | None:
        """A mask over the version's own items without the hidden ones; none stays none where nothing is hidden."""
        if not self.hidden:
            return mask
        return ~self._is_hidden if mask is None else mask & ~self._is_hidden

    def add_beside(
        self, found: Neighbours, queries: NDArray[np.float32], passing: NDArray[np.bool_]
    ) -> Neighbours:
        """Lets the items beside the version's own compete with the k that were found of those.

        Args:
          found: rows and scores [B, k]; -1 and minus infinity where there were fewer.
          queries: float32 [B, D].
          passing: bool [B, M], which of the items beside them may be answered.

        Returns:
          As `found`, of all.
        """
        scores = np.where(passing, queries @ self._vectors.T, np.float32("-inf"))
        best = self._best(found, scores, found.rows.shape[1])
        best.rows[np.isneginf(best.scores)] = -1
        return best

    def fetched(self, k: int) -> int:
        """How many of the version's own items a search for k items looks for at first, at least 1."""
        k = min(k, self._own - self.hidden)
        return max(1, k + min(k, self.hidden))

    def search(
        self,
        own: Search,
        queries: NDArray[np.float32],
        k: int,
        beside: NDArray[np.float32] | None = None,
        first: Neighbours | None = None,
    ) -> Neighbours:
        """The best k of all items that count, or all of them where they are fewer.

        Args:
          own: finds the best of the version's own items, hidden ones too.
          queries: float32 [B, D].
          k: at least 1.
          beside: what queries are compared with instead of the vectors of the items beside them, float32 [M, D].
          first: the best `fetched(k)` of the version's own, where they are known.
        """
        found = self._visible(own, queries, min(k, self._own - self.hidden), first)
        vectors = self._vectors if beside is None else beside
        return self._best(found, queries @ vectors.T, k)

    def _best(self, found: Neighbours, beside: NDArray[np.float32], k: int) -> Neighbours:
        """The best k of what was found and of all items beside it, whose scores are given."""
        import tensorflow as tf

        beside_rows = np.broadcast_to(self._own + np.arange(len(self.beside)), beside.shape)
        rows = np.concatenate([found.rows, beside_rows], axis=1)
        scores, places = tf.math.top_k(np.concatenate([found.scores, beside], axis=1), min(k, rows.shape[1]))
        return Neighbours(np.take_along_axis(rows, places.numpy(), axis=1), scores.numpy())

    def ids(self, rows: NDArray[np.int64], own: NDArray[np.object_]) -> NDArray[np.object_]:
        """Ids of rows; `own` are those of the version's own items."""
        ids = own[np.minimum(rows, self._own - 1)]
        is_beside = rows >= self._own
        ids[is_beside] = self._ids[rows[is_beside] - self._own]
        return ids

    def vectors(self, own: NDArray[np.float32]) -> "Vectors":
        """The vectors of all rows; `own` are those of the version's own items."""
        return Vectors(own, self._vectors)

    def _visible(
        self, own: Search, queries: NDArray[np.float32], k: int, first: Neighbours | None
    ) -> Neighbours:
        """The best k that are not hidden: more are fetched until there are so many."""
        rows = np.zeros((len(queries), k), np.int64)
        scores = np.zeros((len(queries), k), np.float32)
        if not k:
            return Neighbours(rows, scores)
        left, fetched = np.arange(len(queries)), self.fetched(k)
        found = first or own(queries, fetched)
        while True:
            out = self._is_hidden[found.rows] | np.isnan(found.scores)
            best = np.argsort(out, axis=1, kind="stable")[:, :k]  # those that count, best first
            rows[left] = np.take_along_axis(found.rows, best, axis=1)
            scores[left] = np.take_along_axis(found.scores, best, axis=1)
            left = left[out.shape[1] - out.sum(axis=1) < k]
            if not len(left):
                return Neighbours(rows, scores)
            if fetched == self._own:
                raise ValueError("the index finds fewer items than it holds: push the bundle again")
            fetched = min(self._own, 2 * fetched)
            found = own(queries[left], fetched)


class Vectors:
    """Vectors of a version's own items and of those beside them, without copying either."""

    def __init__(self, own: NDArray[np.float32], beside: NDArray[np.float32]) -> None:
        self._own = own
        self._beside = beside

    def __getitem__(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """int64 [R] -> float32 [R, D]."""
        vectors = self._own[np.minimum(rows, len(self._own) - 1)]
        is_beside = rows >= len(self._own)
        vectors[is_beside] = self._beside[rows[is_beside] - len(self._own)]
        return vectors


def exact_search(vectors: NDArray[np.float32]) -> Search:
    """Search by comparing with every vector; ties by row."""
    import tensorflow as tf

    def search(queries: NDArray[np.float32], k: int) -> Neighbours:
        block = max(1, _SCORES // len(vectors))
        scores, rows = zip(
            *(
                tf.math.top_k(tf.matmul(queries[start : start + block], vectors, transpose_b=True), k)
                for start in range(0, len(queries), block)
            ),
            strict=True,
        )
        return Neighbours(np.concatenate(rows).astype(np.int64), np.concatenate(scores))

    return search
