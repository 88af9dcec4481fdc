"""Assembles a bundle from trained towers and every item's vector, and seals it."""

import itertools
import os
import shutil
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from serving.export import export_bundle
from serving.index import SCANN_DIR
from serving.index_build import build_index
from serving.inputs import no_value, stored_input_specs
from serving.item_attributes import ATTRIBUTES
from serving.manifest import EXTRA, BundleError, Manifest, seal
from serving.memory import give_back_memory
from serving.op_check import check_ops
from serving.related import RELATED_DIR, build_related_index
from serving.settings import IndexSettings
from serving.warmup import write_warmup_requests
from transform.features import HISTORY_AGES, HISTORY_EVENT_TYPES, HISTORY_ITEM_IDS, QUERY

ITEMS = f"{EXTRA}/items.parquet"
TRAINING_STATE = f"{EXTRA}/training_state"
BASELINE = f"{EXTRA}/baseline"

# Batch sizes and history lengths that are traced and allocated before a version is announced.
_WARMUP_SHAPES = ((1, 0), (1, 8), (8, 8), (32, 32))


class Catalogue(NamedTuple):
    """All items, ordered by id.

    Attributes:
      item_ids: N distinct ids.
      titles: N titles.
      categories: N category paths, "" where there is none.
      vectors: float32 [N, D].
    """

    item_ids: Sequence[str]
    titles: Sequence[str]
    categories: Sequence[str]
    vectors: NDArray[np.float32]


def write_bundle(
    towers_dir: str,
    catalogue: Catalogue,
    out_dir: str,
    settings: IndexSettings,
    *,
    spans: Sequence[int] = (),
    trained_until: float | None = None,
    training_state: str | None = None,
    baseline: str | None = None,
    attributes: str | None = None,
    queries: NDArray[np.float32] | None = None,
) -> Manifest:
    """Writes model, indexes, items, attributes, warm-up requests, training state, baseline and, last of all, the manifest.

    Args:
      towers_dir: the trainer's SavedModel.
      catalogue: every item and its vector.
      out_dir: the bundle; whatever is there is removed first.
      settings: of the index.
      spans: spans whose events the towers were trained and evaluated on.
      trained_until: targets before this time were trained on, seconds UTC.
      training_state: directory that the next warm start needs; copied.
      baseline: directory with what the next run's data is compared with; copied.
      attributes: file with what of the items can be filtered on, in the order of the ids; copied.
      queries: float32 [Q, D], held-out requests that the index is tuned on; none: items stand in.

    Returns:
      The manifest, with version 0.

    Raises:
      BundleError: ids are not distinct or cannot be stored, a vector is not finite, or the model needs
      operations that
        the stock TensorFlow Serving does not have.
      TandemError: the index cannot reach its target recall.
    """
    if any(before >= item for before, item in itertools.pairwise(catalogue.item_ids)):
        raise BundleError(
            "the item ids are not in ascending order, expected distinct ids, sorted: a defect of the indexer."
        )
    broken = np.flatnonzero(~np.isfinite(catalogue.vectors).all(axis=1))
    if len(broken):
        raise BundleError(
            f"the vectors of {len(broken)} items are not finite, the first of item"
            f" {catalogue.item_ids[broken[0]]!r}: training went wrong, lower the learning rate."
        )
    shutil.rmtree(out_dir, ignore_errors=True)
    k = export_bundle(towers_dir, catalogue.item_ids, catalogue.vectors, out_dir, settings.k)
    give_back_memory()  # the export holds all vectors twice
    check_ops(out_dir)
    build_index(catalogue.vectors, settings, queries).save(os.path.join(out_dir, SCANN_DIR))
    give_back_memory()
    related = build_related_index(catalogue.vectors, settings)
    if related is not None:
        related.save(os.path.join(out_dir, RELATED_DIR))
    _write_items(catalogue, os.path.join(out_dir, ITEMS))
    write_warmup_requests(out_dir, list(_warmup_requests(towers_dir, catalogue)))
    if training_state is not None:
        shutil.copytree(training_state, os.path.join(out_dir, TRAINING_STATE))
    if baseline is not None:
        shutil.copytree(baseline, os.path.join(out_dir, BASELINE))
    if attributes is not None:
        shutil.copyfile(attributes, os.path.join(out_dir, ATTRIBUTES))
    return seal(
        out_dir,
        item_count=len(catalogue.item_ids),
        dimension=catalogue.vectors.shape[1],
        k=k,
        spans=tuple(spans),
        trained_until=trained_until,
        training_state=TRAINING_STATE if training_state is not None else None,
    )


def _write_items(catalogue: Catalogue, path: str) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    columns = {"item_id": catalogue.item_ids, "title": catalogue.titles, "category": catalogue.categories}
    parquet.write_table(pa.table({name: pa.array(v, pa.large_string()) for name, v in columns.items()}), path)


def _warmup_requests(towers_dir: str, catalogue: Catalogue) -> Iterator[dict[str, Any]]:
    """Titles as queries and items as history, of several shapes."""
    specs = stored_input_specs(towers_dir, "embed_query")
    pick = np.random.default_rng(0)
    for rows, length in _WARMUP_SHAPES:
        inputs: dict[str, Any] = {}
        for name, spec in specs.items():
            shape = (rows, length)[: spec.shape.rank]
            inputs[name] = np.full(shape, no_value(spec.dtype), spec.dtype.as_numpy_dtype)
        chosen = pick.integers(0, len(catalogue.item_ids), (rows, max(1, length)))
        inputs[QUERY] = np.array([catalogue.titles[row[0]] for row in chosen], object)
        if HISTORY_ITEM_IDS in inputs:
            inputs[HISTORY_ITEM_IDS] = np.array(catalogue.item_ids, object)[chosen[:, :length]]
            inputs[HISTORY_AGES] = np.full((rows, length), 1.0, np.float32)
            inputs[HISTORY_EVENT_TYPES] = np.full((rows, length), "", object)
        yield inputs
