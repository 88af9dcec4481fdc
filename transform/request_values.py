"""What of a request is compared between training and serving: the same labels of a stored row and of a logged request."""

import math
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from transform.features import AGE_BOUNDARIES_DAYS, HISTORY_AGES, HISTORY_EVENT_TYPES, HISTORY_ITEM_IDS, QUERY

# Beside the declared features, whose names have no dot.
QUERY_TEXT = "query.text"
QUERY_WORDS = "query.words"
QUERY_CHARACTERS = "query.characters"
HISTORY_LENGTH = "history.length"
HISTORY_EVENT_TYPE = "history.event_type"
HISTORY_AGE_DAYS = "history.age_days"

NO_VALUE = ""

# Lower edges of what is counted, from one up to what no customer has.
_WORDS = (0, 1, 2, 3, 4, 5, 6, 8, 11, 16, 32)
_CHARACTERS = (0, 2, 4, 6, 8, 12, 16, 24, 32, 48, 64, 128)
_EVENTS = (0, 1, 2, 3, 5, 10, 20, 50, 100, 200, 500)

Row = Mapping[str, Sequence[bytes | float]]


class Compared(BaseModel):
    """How one feature of requests is compared.

    Attributes:
      kind: a category by its values, a number by the interval it falls into.
      threshold: largest distance that is no skew: L-infinity of categories, Jensen-Shannon divergence of numbers.
      edges: of a number's intervals, ascending, each the lowest value of one.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["category", "number"]
    threshold: float = Field(gt=0, le=1)
    edges: tuple[float, ...] = ()


def built_in() -> dict[str, tuple[float, ...] | None]:
    """What every request has: name -> edges, none for a category."""
    return {
        QUERY_TEXT: None,
        QUERY_WORDS: _WORDS,
        QUERY_CHARACTERS: _CHARACTERS,
        HISTORY_LENGTH: _EVENTS,
        HISTORY_EVENT_TYPE: None,
        HISTORY_AGE_DAYS: (0.0, *AGE_BOUNDARIES_DAYS),
    }


def request_values(row: Row, compared: Mapping[str, Compared]) -> dict[str, list[str]]:
    """Labels of one request, for the features that are compared.

    A declared feature has one label, `NO_VALUE` where it has no value. What is said of the words of a query or the
    entries of a history has none where there is no query or history: `query.text` and `history.length` tell that.

    Args:
      row: raw feature -> its values, UTF-8 or numbers; what is not there has no value, nor have "" and NaN.
      compared: feature -> how.
    """
    texts = [_text(value) for value in row.get(QUERY, ())]
    query = texts[0] if texts else ""
    there = [place for place, item in enumerate(row.get(HISTORY_ITEM_IDS, ())) if _text(item)]
    derived: dict[str, list[str | float | bytes]] = {
        QUERY_TEXT: ["with text" if query else "without"],
        QUERY_WORDS: [len(query.split())] if query else [],
        QUERY_CHARACTERS: [len(query)] if query else [],
        HISTORY_LENGTH: [len(there)],
        HISTORY_EVENT_TYPE: [_text(_at(row, HISTORY_EVENT_TYPES, place)) for place in there],
        HISTORY_AGE_DAYS: [_age(_at(row, HISTORY_AGES, place)) for place in there],
    }
    labels = {}
    for name, how in compared.items():
        values = derived.get(name, [_at(row, name, 0)])
        labels[name] = [_label(value, how) for value in values]
    return labels


def interval(value: float, edges: Sequence[float]) -> str:
    """The interval that a number falls into; NaN is no value."""
    if math.isnan(value):
        return NO_VALUE
    place = bisect_right(edges, value)
    if not edges:
        return "any"
    if place == 0:
        return f"<{edges[0]:g}"
    if place == len(edges):
        return f">={edges[-1]:g}"
    return f"{edges[place - 1]:g} to <{edges[place]:g}"


def _label(value: bytes | str | float, how: Compared) -> str:
    if how.kind == "category":
        return _text(value)
    return interval(float(value) if isinstance(value, (int, float)) else math.nan, how.edges)


def _at(row: Row, name: str, place: int) -> bytes | float:
    values = row.get(name, ())
    return values[place] if place < len(values) else b""


def _age(value: bytes | float) -> float:
    """NaN for unknown, which a client may also say with a negative number."""
    return value if isinstance(value, (int, float)) and value >= 0 else math.nan


def _text(value: bytes | str | float) -> str:
    if isinstance(value, bytes):
        return value.decode("utf-8", errors="replace")
    return value if isinstance(value, str) else NO_VALUE
