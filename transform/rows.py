"""Rows of the three kinds of file, column by column, each with the reason it is rejected for, or None."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa

from transform.columns import Column, as_number, as_seconds, as_text
from transform.features import MAX_QUERY_CHARACTERS
from transform.settings import Feature

EVENT_FILE_COLUMNS = ("timestamp", "item_id", "event_type", "user_id", "query", "weight")
UNKNOWN_ITEM = "item_id is not in items"
DUPLICATE_ITEM = "item_id stands more than once in items"
DUPLICATE_USER = "user_id stands more than once in users"


class EventRows(NamedTuple):
    """A batch of events.

    Attributes:
      seconds: [n] float64, seconds since 1970-01-01 UTC.
      item, kind: [n] object, item_id and event_type.
      user, query: [n] object, "" where there is none; runs of white space in a query are one space.
      weight: [n] float64, 1 where the file has none.
      context: one [n] array a declared context feature: object ("" = none) or float64 (NaN = none).
      reason: [n] object, why a row is rejected, None for a good one.
    """

    seconds: np.ndarray
    item: np.ndarray
    kind: np.ndarray
    user: np.ndarray
    query: np.ndarray
    weight: np.ndarray
    context: tuple[np.ndarray, ...]
    reason: np.ndarray


class KeyedRows(NamedTuple):
    """A batch of items or users.

    Attributes:
      key: [n] object, item_id or user_id.
      values: one [n] array a declared feature: object ("" = none) or float64 (NaN = none).
      reason: [n] object, why a row is rejected, None for a good one.
    """

    key: np.ndarray
    values: tuple[np.ndarray, ...]
    reason: np.ndarray


def event_rows(table: pa.Table, context: Sequence[Feature]) -> EventRows:
    """Reads a batch of an events file.

    Args:
      table: with the columns timestamp, item_id, event_type; the others may be absent.
      context: declared context features.
    """
    reason = np.full(len(table), None, dtype=object)
    item = _key(table, "item_id", reason)
    kind = _key(table, "event_type", reason)
    seconds, bad = as_seconds(table["timestamp"])
    _mark(reason, bad, "timestamp does not parse")
    _mark(reason, np.isnan(seconds) & ~bad, "timestamp is missing")
    user, bad = _optional_text(table, "user_id")
    _mark(reason, bad | _has_line_break(user), "user_id is not a text or whole number")
    query, bad = _optional_text(table, "query")
    _mark(reason, bad, "query is not text")
    _mark(
        reason,
        np.array([len(text) > MAX_QUERY_CHARACTERS for text in query], dtype=bool),
        f"query is longer than {MAX_QUERY_CHARACTERS} characters",
    )
    weight, bad = _optional_number(table, "weight")
    weight = np.where(np.isnan(weight) & ~bad, 1.0, weight)
    _mark(reason, bad | ~(weight > 0), "weight is not a number above 0")
    values = _features(table, context, reason)
    return EventRows(seconds, item, kind, user, _single_spaces(query), weight, values, reason)


def item_rows(table: pa.Table, columns: Sequence[Feature]) -> KeyedRows:
    """Reads a batch of an items file; `columns` has to start with title."""
    reason = np.full(len(table), None, dtype=object)
    key = _key(table, "item_id", reason)
    values = _features(table, columns, reason)
    _mark(reason, values[0] == "", "title is missing")
    return KeyedRows(key, values, reason)


def user_rows(table: pa.Table, columns: Sequence[Feature]) -> KeyedRows:
    """Reads a batch of a users file."""
    reason = np.full(len(table), None, dtype=object)
    key = _key(table, "user_id", reason)
    return KeyedRows(key, _features(table, columns, reason), reason)


def _key(table: pa.Table, name: str, reason: np.ndarray) -> np.ndarray:
    values, bad = as_text(table[name])
    _mark(reason, bad | _has_line_break(values), f"{name} is not one line of text or a whole number")
    _mark(reason, pd.isna(values) & ~bad, f"{name} is missing")
    return values


def _features(table: pa.Table, features: Sequence[Feature], reason: np.ndarray) -> tuple[np.ndarray, ...]:
    columns = []
    for feature in features:
        read = _optional_number if feature.kind == "number" else _optional_text
        values, bad = read(table, feature.name)
        what = "a number" if feature.kind == "number" else "text"
        _mark(reason, bad, f"{feature.name} is not {what}")
        columns.append(values)
    return tuple(columns)


def _optional_text(table: pa.Table, name: str) -> Column:
    if name not in table.column_names:
        return Column(np.full(len(table), "", dtype=object), np.zeros(len(table), dtype=bool))
    values, bad = as_text(table[name])
    values = values.copy()
    values[pd.isna(values)] = ""
    return Column(values, bad)


def _optional_number(table: pa.Table, name: str) -> Column:
    if name not in table.column_names:
        return Column(np.full(len(table), np.nan), np.zeros(len(table), dtype=bool))
    return as_number(table[name])


def _has_line_break(values: np.ndarray) -> np.ndarray:
    # A vocabulary file has one value a line, so a key with a line break could never be found again.
    return np.array([value is not None and ("\n" in value or "\r" in value) for value in values], dtype=bool)


def _single_spaces(query: np.ndarray) -> np.ndarray:
    return np.array([text and " ".join(text.split()) for text in query], dtype=object)


def _mark(reason: np.ndarray, where: np.ndarray, text: str) -> None:
    """The first reason a row gets is the one it keeps."""
    where = np.asarray(where, dtype=bool)
    if where.any():
        reason[where & pd.isna(reason)] = text
