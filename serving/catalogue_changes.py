"""A change of the catalogue: read from what a caller sent, checked, and added to the state that all changes make."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from serving.request_inputs import Limits, RequestError
from transform.features import ITEM_ID, TITLE

# Column -> value, without those that have none.
Item = Mapping[str, str | float]

_SHOWN = 100


class Change(NamedTuple):
    """Items to put into the catalogue and ids to take out of it, in one step.

    Attributes:
      upsert: items, each with its id and title.
      delete: ids.
    """

    upsert: Sequence[Item]
    delete: Sequence[str]


class Entry(NamedTuple):
    """What the changes have made of one item.

    Attributes:
      number: of the state that the last change of it has made.
      item: its content; none: it is deleted.
    """

    number: int
    item: Item | None


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
            entries.update({str(item[ITEM_ID]): Entry(number, item) for item in change.upsert})
            entries.update({item_id: Entry(number, None) for item_id in change.delete})
        return State(number, entries)

    def anew(self, changes: Sequence[Change]) -> "State":
        """The state after all changes, told from the first one on; what they leave as it is keeps its number."""
        number = self.number + 1
        entries = {}
        for item_id, entry in State(0, {}).after(changes).entries.items():
            known = self.entries.get(item_id)
            entries[item_id] = known if known and known.item == entry.item else Entry(number, entry.item)
        return State(number, entries)

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
