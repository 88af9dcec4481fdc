"""A verified bundle in memory: its SavedModel, its ScaNN index and its items, answering by signature."""

import bisect
import functools
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from serving.background import AT_ONCE, Pace
from serving.changed_items import ChangedItems, SideItem, exact_search
from serving.engine import EMBED_QUERY, Arrays, Engine, LoadEngine, load_here
from serving.filtered_changes import FilteredChanges
from serving.filters import Filters
from serving.history_bonus import merge_bonus
from serving.index import SCANN_DIR, read_vectors
from serving.item_attributes import read_attributes
from serving.manifest import BundleError
from serving.related import RELATED, RelatedItems
from serving.write_bundle import ITEMS
from transform.features import HISTORY_ITEM_IDS, ITEM_ID

if TYPE_CHECKING:
    import tensorflow as tf
    from tensorflow.core.protobuf.meta_graph_pb2 import SignatureDef

DEFAULT = "serving_default"
EXACT = "exact"
EMBED_ITEM = "embed_item"
ITEMS_SIGNATURE = "items"

# Signatures that filters apply to.
FILTERED = frozenset({DEFAULT, EXACT})

# The score of no item: a number that JSON can hold, too, and that no item is below.
LOWEST = np.finfo(np.float32).min


class LoadedBundle:
    """One version, ready to answer; safe to share between threads.

    Signatures: those of the SavedModel, where `serving_default` and `related` search a ScaNN index and `exact` is
    the SavedModel's `serving_default`; and `items`, which takes `item_ids` and returns `titles` and `categories`, "" for an
    item that is not there. All of them answer from the catalogue as it has been changed since the version was made.

    Attributes:
      changes: what the catalogue differs by from the version's own; replaced, not changed.
      engine: its model and indexes, which know nothing of filters and changes.
      manifest: what it is.
      own_row: an item's row in the version's own catalogue; none where it is not there.
      filters: what `serving_default` and `exact` may be filtered by, beside their `specs`.
      specs: signature -> input name -> `tf.TensorSpec`.
      signature_defs: signature -> `SignatureDef`, as GetModelMetadata shows them.
    """

    def __init__(
        self,
        directory: str | os.PathLike[str],
        engine: Engine,
        pace: Pace = AT_ONCE,
    ) -> None:
        """Reads the items beside the engine, at a pace.

        Raises:
          BundleError: the parts do not fit together.
        """
        import tensorflow as tf

        self.manifest = engine.manifest
        self.engine = engine
        self._item_ids = engine.variable("item_ids")
        self._item_vectors = pace.without_lock(lambda: read_vectors(Path(directory, SCANN_DIR)))
        self._sorted_ids: list[bytes] = self._item_ids.tolist()
        self.own_row = functools.partial(_row_of, self._sorted_ids)  # a method's object would be a cycle
        self._titles, self._categories = pace.without_lock(lambda: _read_items(Path(directory, ITEMS)))
        self._attributes = pace.without_lock(lambda: read_attributes(directory))
        self._check(directory)
        self.changes = ChangedItems(len(self._item_ids), self._item_vectors.shape[1])
        self._related = RelatedItems(
            engine.related_index, self._item_ids, self._item_vectors, self.own_row, self.manifest.k
        )
        self.specs = dict(engine.specs)
        self.specs[EXACT] = self.specs[DEFAULT]
        self.specs[ITEMS_SIGNATURE] = {"item_ids": tf.TensorSpec([None], tf.string)}
        self.filters = Filters(self._attributes, len(self._item_ids), self.own_row, self.specs[DEFAULT])
        self._filtered = FilteredChanges(
            self.filters, self._attributes, self.specs[DEFAULT], engine.index, self._item_vectors
        )
        self.signature_defs: dict[str, SignatureDef] = _signature_defs(
            engine.signature_defs, self.filters.specs
        )

    def run(self, signature: str, inputs: Arrays) -> dict[str, NDArray[Any]]:
        """Answers one batch.

        Args:
          signature: a key of `specs`.
          inputs: every input of it, and filters.

        Returns:
          Output name -> array, strings as bytes. Where fewer than k items are eligible, "" and `LOWEST` fill the rest.

        Raises:
          RequestError: NOT_FOUND; `related` is asked of an item that is not there.
          tf.errors.InvalidArgumentError: the graph refuses the inputs, such as a record that is no example.
          ValueError: the model made a vector that is not finite.
        """
        changes = self.changes  # one state of the catalogue from here on
        if signature == ITEMS_SIGNATURE:
            return self._describe(inputs["item_ids"], changes)
        if signature == RELATED:
            return self._related.of(inputs[ITEM_ID], changes)
        if signature in FILTERED:
            return self._retrieve(signature, self.filters.in_use(inputs), inputs, changes)
        return self.engine.run(signature, inputs)

    def compute_first(self, signature: str, inputs: Arrays) -> None:
        """Has the model compute once what `run` needs of it: the first time takes long, but not the interpreter lock."""
        if signature not in (ITEMS_SIGNATURE, RELATED):  # they compute nothing
            self.engine.run_first(EMBED_QUERY if signature in FILTERED else signature, inputs)

    def own_item(self, row: int) -> SideItem:
        """An item of the version's own catalogue, hidden or not."""
        title, category = (column[row].as_py() or "" for column in (self._titles, self._categories))
        content = self._attributes.of(row) if self._attributes else {}
        return SideItem(
            self._sorted_ids[row], title.encode(), category.encode(), self._item_vectors[row], content
        )

    @property
    def attribute_kinds(self) -> Mapping[str, str]:
        """Attributes of items that can be filtered by -> "category", "path" or "number"."""
        return self._attributes.kinds if self._attributes else {}

    def has(self, item_id: bytes) -> bool:
        """Whether the item is in the catalogue as this version shows it now."""
        return self._row(item_id, self.changes) is not None

    def some_titles(self, most: int) -> list[str]:
        """At most so many titles, spread evenly over the catalogue."""
        titles = self._titles.to_pylist()
        return titles[:: max(1, len(titles) // most)][:most]

    def _retrieve(
        self, signature: str, filtered: list[str], inputs: Arrays, changes: ChangedItems
    ) -> dict[str, NDArray[Any]]:
        """Searches, and lets the request's own history compete with the bonus that the towers give it."""
        k = self.manifest.k
        if filtered or signature == EXACT:
            embedded, first = self.engine.run(EMBED_QUERY, inputs), None
        else:
            embedded, first = self.engine.retrieve(inputs, changes.fetched(k))
        queries, bonus = embedded["embedding"], embedded["history_bonus"]
        rows = np.full(bonus.shape, -1, np.int64)
        for request, entry in np.argwhere(bonus > 0):
            row = self._row(inputs[HISTORY_ITEM_IDS][request, entry], changes)
            rows[request, entry] = -1 if row is None else row
        if filtered:
            found = self._filtered.search(changes, inputs, queries, rows, signature == EXACT)
        elif first is None:
            own = exact_search(self._item_vectors)
            found = changes.search(own, queries, k) if changes else own(queries, k)
        else:
            found = changes.search(self.engine.index.search, queries, k, first=first) if changes else first
        found = merge_bonus(found, rows, bonus, queries, changes.vectors(self._item_vectors))
        item_ids, scores, missing = changes.ids(found.rows, self._item_ids), found.scores, found.rows < 0
        if missing.any():
            item_ids[missing] = b""
            scores = np.maximum(scores, LOWEST)
        return {"item_ids": item_ids, "scores": scores}

    def _describe(self, item_ids: NDArray[Any], changes: ChangedItems) -> dict[str, NDArray[Any]]:
        items = [self._item(self._row(item_id, changes), changes) for item_id in item_ids.tolist()]
        return {
            "titles": np.array([item.title if item else b"" for item in items], object),
            "categories": np.array([item.category if item else b"" for item in items], object),
        }

    def _item(self, row: int | None, changes: ChangedItems) -> SideItem | None:
        own = len(self._sorted_ids)
        if row is None:
            return None
        return self.own_item(row) if row < own else changes.beside[row - own]

    def _row(self, item_id: bytes, changes: ChangedItems) -> int | None:
        return changes.row(item_id, self.own_row(item_id))

    def _check(self, directory: str | os.PathLike[str]) -> None:
        expected = self.manifest.item_count
        sizes = {
            "the model": len(self._item_ids),
            "the index": self.engine.index.size,
            "the index of related items": self.engine.related_index.size,
            "the items file": len(self._titles),
        }
        if self._attributes:
            sizes["the attributes file"] = self._attributes.size
        for what, size in sizes.items():
            if size != expected:
                raise BundleError(
                    f"{directory}: {what} holds {size} items, expected the manifest's {expected}: push again."
                )
        if self._item_vectors.shape[1] != self.manifest.dimension or self.engine.index.k != self.manifest.k:
            raise BundleError(
                f"{directory}: vectors of {self._item_vectors.shape[1]} and k {self.engine.index.k},"
                " expected the"
                f" manifest's {self.manifest.dimension} and {self.manifest.k}: push again."
            )


def load_bundle(
    directory: str | os.PathLike[str], pace: Pace = AT_ONCE, load_engine: LoadEngine = load_here
) -> LoadedBundle:
    """Verifies every file of a bundle and loads it.

    Args:
      directory: the bundle.
      pace: how far this gives way to those who are being answered.
      load_engine: verifies the files, and loads what computes.

    Raises:
      BundleError: the bundle is damaged, or its parts do not fit together.
    """
    return LoadedBundle(directory, load_engine(Path(directory), pace), pace)


def _row_of(sorted_ids: list[bytes], item_id: bytes) -> int | None:
    row = bisect.bisect_left(sorted_ids, item_id)
    return row if row < len(sorted_ids) and sorted_ids[row] == item_id else None


def _read_items(path: Path) -> tuple[Any, Any]:
    from pyarrow import parquet

    table = parquet.read_table(path).combine_chunks()
    return table["title"], table["category"]


def _signature_defs(
    stored: "Mapping[str, SignatureDef]", filters: "Mapping[str, tf.TensorSpec]"
) -> "dict[str, SignatureDef]":
    import tensorflow as tf
    from tensorflow.core.protobuf import meta_graph_pb2

    definitions = dict(stored)
    definitions[DEFAULT] = meta_graph_pb2.SignatureDef()
    definitions[DEFAULT].CopyFrom(stored[DEFAULT])
    for name, spec in filters.items():
        info = definitions[DEFAULT].inputs[name]
        info.name, info.dtype = f"{name}:0", spec.dtype.as_datatype_enum
        info.tensor_shape.CopyFrom(spec.shape.as_proto())
    definitions[EXACT] = definitions[DEFAULT]
    items = meta_graph_pb2.SignatureDef(method_name="tensorflow/serving/predict")
    for side, name in ((items.inputs, "item_ids"), (items.outputs, "titles"), (items.outputs, "categories")):
        side[name].name = f"items_{name}:0"
        side[name].dtype = tf.string.as_datatype_enum
        side[name].tensor_shape.dim.add().size = -1
    definitions[ITEMS_SIGNATURE] = items
    return definitions
