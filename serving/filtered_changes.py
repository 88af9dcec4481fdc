"""Filters over a changed catalogue: its own items through the index or one by one, those beside it one by one."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from serving.changed_items import ChangedItems
from serving.filtered_search import search_filtered
from serving.filters import Filters
from serving.index import Index, Neighbours
from serving.item_attributes import ItemAttributes, attribute_columns, attribute_schema

if TYPE_CHECKING:
    import tensorflow as tf

Arrays = Mapping[str, NDArray[Any]]


class FilteredChanges:
    """Answers filtered requests to one version, whatever state its catalogue is in; safe to share between threads."""

    def __init__(
        self,
        filters: Filters,
        attributes: ItemAttributes | None,
        taken: "Mapping[str, tf.TensorSpec]",
        index: Index,
        vectors: NDArray[np.float32],
    ) -> None:
        """Takes the filters of the version's own items and their attributes, the query inputs, index and vectors."""
        self._filters = filters
        self._kinds = attributes.kinds if attributes else None
        self._taken = taken
        self._index = index
        self._vectors = vectors
        self._beside: tuple[ChangedItems | None, Filters] = (None, filters)

    def search(
        self,
        changes: ChangedItems,
        inputs: Arrays,
        queries: NDArray[np.float32],
        history: NDArray[np.int64],
        exact: bool,
    ) -> Neighbours:
        """The best k that are eligible.

        Args:
          changes: the state of the catalogue.
          inputs: query inputs and filters.
          queries: float32 [B, D].
          history: int64 [B, H], rows or -1; what is not eligible becomes -1.
          exact: whether each eligible item is compared in any case.

        Returns:
          rows and scores [B, k]; -1 and minus infinity where fewer are eligible.
        """
        own = len(self._vectors)
        requests = range(len(queries))
        everything = np.ones(own, np.bool_) if exact else None
        masks = (self._filters.eligible(inputs, request) for request in requests)
        eligible = (changes.visible(everything if mask is None else mask) for mask in masks)
        own_history = np.where(history < own, history, -1)
        found = search_filtered(queries, eligible, own_history, self._index, self._vectors, exact)
        if not changes.beside:
            history[:] = own_history
            return found
        beside = self._beside_filters(changes)
        given = [beside.eligible(inputs, request) for request in requests]
        passing = np.stack(
            [np.ones(len(changes.beside), np.bool_) if mask is None else mask for mask in given]
        )
        place = np.maximum(history - own, 0)
        stays = (history >= own) & np.take_along_axis(passing, place, axis=1)
        history[:] = np.where(stays, history, own_history)
        return changes.add_beside(found, queries, passing)

    def _beside_filters(self, changes: ChangedItems) -> Filters:
        known, filters = self._beside
        if known is not changes:
            attributes = self._attributes(changes) if self._kinds is not None else None
            own = len(self._vectors)

            def place(item_id: bytes) -> int | None:
                row = changes.row(item_id, None)
                return None if row is None else row - own

            filters = Filters(attributes, len(changes.beside), place, self._taken)
            self._beside = (changes, filters)
        return filters

    def _attributes(self, changes: ChangedItems) -> ItemAttributes:
        import pyarrow as pa

        assert self._kinds is not None
        schema = attribute_schema(self._kinds)
        inputs = {
            name: np.array([item.content.get(name, np.nan) for item in changes.beside], np.float32)
            if kind == "number"
            else np.array([str(item.content.get(name, "")).encode() for item in changes.beside], object)
            for name, kind in self._kinds.items()
        }
        return ItemAttributes(pa.Table.from_arrays(attribute_columns(inputs, self._kinds), schema=schema))
