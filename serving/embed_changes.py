"""What the changes of the catalogue come to in one version: its model's vectors of the items that it does not hold."""

import datetime
import logging
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serving.catalogue_changes import Item, State
from serving.changed_items import ChangedItems, SideItem
from serving.inputs import no_value
from serving.loaded_bundle import EMBED_ITEM, LoadedBundle
from serving.manifest import BundleError
from transform.features import ITEM_ID, TITLE

logger = logging.getLogger("tandem.serving")

_CATEGORY = "category"
# Items embedded at once: a large change must not take all the memory.
_BATCH = 64
# Two vectors that differ by less, relative to their length, are of one content: batches round differently.
_SAME = 1e-4


def item_columns(bundles: Iterable[LoadedBundle]) -> dict[str, bool]:
    """Columns that any of the versions reads of an item -> whether it holds numbers; a newer version's word counts."""
    columns = {}
    for bundle in sorted(bundles, key=lambda bundle: bundle.manifest.version):
        columns.update(
            {name: bool(spec.dtype.is_floating) for name, spec in bundle.specs[EMBED_ITEM].items()}
        )
    return columns


def changes_of(bundle: LoadedBundle, state: State) -> ChangedItems:
    """A version's catalogue at a state: what it shows now, and what has changed since then.

    An item whose content the version's own catalogue has, too (title, category, attributes and vector), is left to its
    index; so is
    one whose content it, or a version before it, has taken over from the dataset.

    Raises:
      BundleError: the model makes a vector that is not finite.
    """
    if bundle.changes.number == state.number:
        return bundle.changes
    entries = state.since(bundle.changes.number)
    made = _made(bundle)
    upserts: list[Item] = []
    beside: list[SideItem] = []
    hide: list[int] = []
    show: list[int] = []
    for name, entry in entries.items():
        row = bundle.own_row(name.encode())
        if entry.item is not None and not 0 < entry.held <= made:
            upserts.append(entry.item)
        elif row is not None:
            (hide if entry.item is None else show).append(row)
    for item, vector in zip(upserts, _embed(bundle, upserts), strict=True):
        item_id, title, category = (str(item.get(name, "")).encode() for name in (ITEM_ID, TITLE, _CATEGORY))
        new = SideItem(item_id, title, category, vector, _attributes(bundle, item))
        row = bundle.own_row(new.item_id)
        if row is not None and _same(bundle.own_item(row), new):
            show.append(row)
            continue
        beside.append(new)
        if row is not None:
            hide.append(row)
    gone = {name.encode() for name in entries}
    return bundle.changes.replace(state.number, beside, hide, show, gone)


def held_by(bundle: LoadedBundle, state: State) -> dict[str, float]:
    """Upserts made before the version, and found in no version yet, that its own catalogue has -> when it was made."""
    made, held = _made(bundle), {}
    for name, entry in state.entries.items():
        if entry.item is not None and not entry.held and entry.time < made:
            row = bundle.own_row(name.encode())
            if row is not None and bundle.changes.row(name.encode(), row) == row:
                held[name] = made
    return held


def warm_up(bundle: LoadedBundle) -> None:
    """Embeds an item without content: the first call of a signature is slow, and a change should not wait for it."""
    _embed(bundle, [{}])


def _made(bundle: LoadedBundle) -> float:
    return datetime.datetime.fromisoformat(bundle.manifest.created).timestamp()


def _embed(bundle: LoadedBundle, items: Sequence[Item]) -> NDArray[np.float32]:
    """float32 [M, D]."""
    vectors = [np.empty((0, bundle.manifest.dimension), np.float32)]
    for start in range(0, len(items), _BATCH):
        batch = items[start : start + _BATCH]
        inputs = {
            name: _column(bundle, name, spec.dtype, batch) for name, spec in bundle.specs[EMBED_ITEM].items()
        }
        vectors.append(bundle.run(EMBED_ITEM, inputs)["embedding"])
    joined = np.concatenate(vectors)
    broken = np.flatnonzero(~np.isfinite(joined).all(axis=1))
    if len(broken):
        raise BundleError(
            f"version {bundle.manifest.version} makes no finite vector of item {items[broken[0]].get(ITEM_ID)!r}, expected"
            " one: look at the item's numbers."
        )
    return joined


def _column(bundle: LoadedBundle, name: str, dtype: Any, items: Sequence[Item]) -> NDArray[Any]:
    kind = float if dtype.is_floating else str
    values = [item.get(name) for item in items]
    misfits = sum(value is not None and not isinstance(value, kind) for value in values)
    if misfits:
        logger.warning(
            "version %d: column %r of %d changed items holds another kind of value than this version reads, which counts"
            " as none",
            bundle.manifest.version,
            name,
            misfits,
        )
    filler = no_value(dtype)
    return np.array([v if isinstance(v, kind) else filler for v in values], dtype.as_numpy_dtype)


def _attributes(bundle: LoadedBundle, item: Item) -> dict[str, str | float]:
    """What can be filtered by, as the version's own items have it."""
    content: dict[str, str | float] = {}
    for name in bundle.attribute_kinds:
        value = item.get(name)
        floats = bundle.specs[EMBED_ITEM][name].dtype.is_floating
        if floats and isinstance(value, float):
            content[name] = float(np.float32(value))
        elif not floats and isinstance(value, str):
            content[name] = value
    return content


def _same(own: SideItem, new: SideItem) -> bool:
    if (own.title, own.category, own.content) != (new.title, new.category, new.content):
        return False
    distance = np.linalg.norm(own.vector - new.vector)
    return bool(distance <= _SAME * np.linalg.norm(own.vector))
