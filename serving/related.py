"""Related items: those whose vectors point the same way, by cosine, in the graph and through an index."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from serving.changed_items import ChangedItems
from serving.index import Index
from serving.index_build import build_index
from serving.manifest import EXTRA
from serving.request_inputs import RequestError
from serving.settings import IndexSettings
from transform.features import ITEM_ID

if TYPE_CHECKING:
    import tensorflow as tf

RELATED = "related"
RELATED_DIR = f"{EXTRA}/scann_related"

# Rounding in float32: vectors whose lengths differ by no more are taken to be normalised.
_SAME_LENGTH = 1e-3


def score_related(module: Any, item_ids: "tf.Tensor") -> "tf.Tensor":
    """Cosines between some items and all, as graph operations.

    Cosine rather than the inner product: an item's length may carry its popularity, and best-sellers would be
    related to everything. A vector of zeros has the cosine 0 with all.

    Args:
      module: has `rows` (table of ids), `item_vectors` [N, D] and `item_lengths` [N].
      item_ids: string [B], all in the catalogue.

    Returns:
      float32 [B, N]; minus infinity at the item itself, which is not related to itself.
    """
    import tensorflow as tf

    rows = module.rows.lookup(item_ids)
    products = tf.matmul(tf.gather(module.item_vectors, rows), module.item_vectors, transpose_b=True)
    lengths = tf.gather(module.item_lengths, rows)[:, tf.newaxis] * module.item_lengths
    own = tf.stack([tf.range(tf.size(rows, tf.int64)), rows], axis=1)
    lowest = tf.fill(tf.shape(rows), float("-inf"))
    return tf.tensor_scatter_nd_update(tf.math.divide_no_nan(products, lengths), own, lowest)


def build_related_index(vectors: NDArray[np.float32], settings: IndexSettings) -> Index | None:
    """The index over vectors of length 1; none where the item vectors are that as they are."""
    if np.abs(np.linalg.norm(vectors, axis=1) - 1.0).max() <= _SAME_LENGTH:
        return None
    k = settings.k + 1  # the item itself is found, too
    return build_index(unit_vectors(vectors), settings.model_copy(update={"k": k}))


def unit_vectors(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """The same directions with length 1; zeros stay zeros."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.divide(vectors, lengths, out=np.zeros_like(vectors), where=lengths > 0)


class RelatedItems:
    """Finds related items through an index; safe to share between threads."""

    def __init__(
        self,
        index: Index,
        item_ids: NDArray[Any],
        vectors: NDArray[np.float32],
        row_of: Callable[[bytes], int | None],
        k: int,
    ) -> None:
        self._index = index
        self._item_ids = item_ids
        self._vectors = vectors
        self._row_of = row_of
        self._k = k

    def of(self, item_ids: NDArray[Any], changes: ChangedItems) -> dict[str, NDArray[Any]]:
        """The items of largest cosine, best first, never the item itself.

        Args:
          item_ids: bytes [B].
          changes: the state of the catalogue.

        Returns:
          `item_ids` bytes and `scores` float32, the cosines, both [B, k]; one less where there are only k items.

        Raises:
          RequestError: NOT_FOUND; an id is not in the catalogue.
        """
        rows = np.array([self._row(item, changes) for item in item_ids.tolist()], np.int64)
        queries = unit_vectors(changes.vectors(self._vectors)[rows])
        if changes:
            found = changes.search(self._index.search, queries, self._k + 1, changes.directions)
        else:
            found = self._index.search(queries, min(self._k + 1, self._index.size))
        others = found.rows != rows[:, np.newaxis]
        others[others.all(axis=1), -1] = False  # an approximate search may miss the item itself
        shape = (len(rows), found.rows.shape[1] - 1)
        return {
            "item_ids": changes.ids(found.rows[others].reshape(shape), self._item_ids),
            "scores": found.scores[others].reshape(shape),
        }

    def _row(self, item_id: bytes, changes: ChangedItems) -> int:
        row = changes.row(item_id, self._row_of(item_id))
        if row is None:
            shown = item_id[:100].decode("utf-8", errors="replace")
            raise RequestError(
                "NOT_FOUND", f"input {ITEM_ID!r} holds {shown!r}, expected ids of items in the catalogue"
            )
        return row
