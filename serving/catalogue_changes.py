"""A change of the catalogue: read from what a caller sent, checked, and added to the state that all changes make."""

import math
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

from serving.request_inputs import Limits, RequestError
from transform.features import ITEM_ID, TITLE

# Column -> value, without those that have none.
Item = Mapping[str, str | float]

_SHOWN = 100
_TOGETHER = 1_000  # entries of one change, where a state is written anew


class Change(NamedTuple):
    """Items to put into the catalogue and ids to take out of it, in one step.

    Attributes:
      upsert: items, each with its id and title.
      delete: ids.
      time: when, in seconds since 1970.
      held: upserted item -> when the first version was made that has its content in its own catalogue.
    """

    upsert: Sequence[Item]
    delete: Sequence[str]
    time: float = 0.0
    held: Mapping[str, float] = MappingProxyType({})


class Entry(NamedTuple):
    """What the changes have made of one item.

    Attributes:
      number: of the state that the last change of it has made.
      item: its content; none: it is deleted.
      time: when that was, in seconds since 1970.
      held: when the first later version was made that has this content in its own catalogue; 0: none has. From that
        version on, the dataset has the last word.
    """

    number: int
    item: Item | None
    time: float = 0.0
    held: float = 0.0


class State(NamedTuple):
    """What all changes have made of the items they name; never changed, only replaced.

    Attributes:
      number: how many changes there have been.
      entries: item id -> entry.
    """

    number: int
    entries: Mapping[str, Entry]

    def after(self, changes: Sequence[Change]) -> "State":
        """The state after more changes."""
        number, entries = self.number, dict(self.entries)
        for change in changes:
            number += 1
            entries.update({str(item[ITEM_ID]): Entry(number, item, change.time) for item in change.upsert})
            entries.update({item_id: Entry(number, None, change.time) for item_id in change.delete})
            for item_id, made in change.held.items():
                entry = entries.get(item_id)
                if entry and entry.item is not None and entry.time < made:  # no later change has come between
                    entries[item_id] = entry._replace(number=number, held=made)
        return State(number, entries)

    def anew(self, changes: Sequence[Change]) -> "State":
        """The state after all changes, told from the first one on; what they leave as it is keeps its number."""
        number = self.number + 1
        entries = {}
        for item_id, entry in State(0, {}).after(changes).entries.items():
            known = self.entries.get(item_id)
            same = known and (known.item, known.held) == (entry.item, entry.held)
            entries[item_id] = known if known and same else entry._replace(number=number)
        return State(number, entries)

    def shortest(self) -> list[Change]:
        """The fewest changes that come to this state; an item's time may become a later one."""
        held = [entry for entry in self.entries.values() if entry.item and entry.held]
        rest = sorted((e for e in self.entries.values() if e.item and not e.held), key=lambda e: e.time)
        gone = [item_id for item_id, entry in self.entries.items() if not entry.item]
        changes = []
        for at in range(0, len(held), _TOGETHER):
            items = {str(e.item[ITEM_ID]): e for e in held[at : at + _TOGETHER] if e.item}
            changes.append(Change([e.item for e in items.values() if e.item], []))
            changes.append(Change([], [], held={item_id: e.held for item_id, e in items.items()}))
        for at in range(0, len(rest), _TOGETHER):
            part = rest[at : at + _TOGETHER]
            changes.append(Change([e.item for e in part if e.item], [], part[-1].time))
        return changes + [Change([], gone[at : at + _TOGETHER]) for at in range(0, len(gone), _TOGETHER)]

    def since(self, number: int) -> dict[str, Entry]:
        """The entries that have changed after a state."""
        if number == self.number:
            return {}
        return {item_id: entry for item_id, entry in self.entries.items() if entry.number > number}


def read_change(body: Mapping[str, Any], columns: Mapping[str, bool], limits: Limits) -> Change:
    """Checks what a caller sent: {"upsert": [{column: value}], "delete": [id]}, either of them or both.

    Args:
      body: decoded JSON.
      columns: of items, as the loaded versions take them: name -> whether it holds numbers rather than text.
      limits: of strings, numbers, and items in one change.

    Returns:
      The change; values that are null or "" are left out.

    Raises:
      RequestError: INVALID_ARGUMENT; names the place and the column, what was received and what is expected.
    """
    unknown = sorted(set(body) - {"upsert", "delete"})
    if unknown:
        raise _invalid(
            f"received {_show(unknown[0])}, expected 'upsert', a list of items, and 'delete', a list of ids"
        )
    upsert, delete = (_list(name, body.get(name)) for name in ("upsert", "delete"))
    count = len(upsert) + len(delete)
    if not 1 <= count <= limits.rows:
        raise _invalid(
            f"received {count:,} items to upsert and delete, expected 1 to {limits.rows:,} in one change"
        )
    items = [_item(f"upsert[{place}]", row, columns, limits) for place, row in enumerate(upsert)]
    ids = [_item_id(f"delete[{place}]", item_id, limits) for place, item_id in enumerate(delete)]
    _check_once([*(str(item[ITEM_ID]) for item in items), *ids])
    return Change(items, ids)


def _list(name: str, value: Any) -> list[Any]:
    if value is None:
        return []
    if not isinstance(value, list):
        raise _invalid(
            f"{name!r} is no list, expected a list of {'items' if name == 'upsert' else 'item ids'}"
        )
    return value


def _item(place: str, row: Any, columns: Mapping[str, bool], limits: Limits) -> Item:
    if not isinstance(row, Mapping):
        raise _invalid(f"{place} is no object, expected an item: column names with their values")
    unknown = sorted(set(row) - set(columns))
    if unknown:
        raise _invalid(
            f"{place}: column {_show(unknown[0])} is unknown, expected some of {', '.join(columns)}"
        )
    item: dict[str, str | float] = {}
    for name, value in row.items():
        if value is None or value == "":
            continue
        at = f"{place}: column {name!r}"
        item[name] = _number(at, value, limits) if columns[name] else _text(at, value, limits)
    for name in (ITEM_ID, TITLE):
        if name not in item:
            raise _invalid(f"{place}: column {name!r} is missing, expected text that is not empty")
    _item_id(f"{place}: column {ITEM_ID!r}", item[ITEM_ID], limits)
    return item


def _item_id(at: str, value: Any, limits: Limits) -> str:
    text = _text(at, value, limits)
    if not text or "\n" in text or "\r" in text:
        raise _invalid(f"{at} is {_show(text)}, expected an id: one line of text")
    return text


def _text(at: str, value: Any, limits: Limits) -> str:
    if not isinstance(value, str):
        raise _invalid(f"{at} holds {_kind(value)}, expected text")
    try:
        size = len(value.encode("utf-8"))
    except UnicodeEncodeError as error:  # a lone surrogate
        raise _invalid(f"{at} holds what is not Unicode text, expected text") from error
    if size > limits.text_bytes:
        raise _invalid(f"{at} holds {size:,} bytes, expected at most {limits.text_bytes:,}")
    return value


def _number(at: str, value: Any, limits: Limits) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise _invalid(f"{at} holds {_kind(value)}, expected a number, or null for no value")
    if not math.isfinite(value) or abs(value) > limits.number:
        raise _invalid(f"{at} holds {value:.3g}, expected a number of at most {limits.number:g}")
    return float(value)


def _check_once(ids: Sequence[str]) -> None:
    seen: set[str] = set()
    for item_id in ids:
        if item_id in seen:
            raise _invalid(f"item {_show(item_id)} is there twice, expected each item once in a change")
        seen.add(item_id)


def _kind(value: Any) -> str:
    kinds = {bool: "true or false", int: "a number", float: "a number", str: "text", list: "a list"}
    return kinds.get(type(value), "an object")


def _show(text: str) -> str:
    return ascii(text if len(text) <= _SHOWN else f"{text[:_SHOWN]}...")


def _invalid(message: str) -> RequestError:
    return RequestError("INVALID_ARGUMENT", message)
