"""One file of items (CSV, Parquet or JSON lines), read as a run reads the catalogue."""

import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa

from transform.errors import TandemError
from transform.features import ITEM_ID, TITLE
from transform.parts import column_types, read_file
from transform.rows import DUPLICATE_ITEM, item_rows
from transform.settings import Feature

_SUFFIXES = (".csv", ".parquet", ".jsonl")
_SHOWN = 5


class ItemsFile(NamedTuple):
    """What a file holds.

    Attributes:
      items: column -> value, without those that have none.
      unread: columns of the file that nobody asked for.
    """

    items: list[dict[str, str | float]]
    unread: list[str]


def read_items_file(path: str, columns: Mapping[str, bool]) -> ItemsFile:
    """Reads a whole file, by its suffix.

    Args:
      path: .csv, .parquet or .jsonl, with item_id and title.
      columns: wanted columns -> whether they hold numbers rather than text.

    Raises:
      TandemError: the file cannot be read, a column is missing, or a row breaks the contract; names the first rows.
    """
    if not path.endswith(_SUFFIXES):
        raise TandemError(f"{path} is no {', '.join(_SUFFIXES)} file, expected one of items: name another.")
    tables, names = _read_json_lines(path) if path.endswith(".jsonl") else _read_tables(path, list(columns))
    for name in (ITEM_ID, TITLE):
        if name not in names:
            raise TandemError(f"{path} has no column {name!r}, expected item_id, title and more: add it.")
    rest = [name for name in columns if name in names and name not in (ITEM_ID, TITLE)]
    features = [Feature(name=name, kind="number" if columns[name] else "category") for name in (TITLE, *rest)]
    items: list[dict[str, str | float]] = []
    wrong: list[str] = []
    seen: set[str] = set()
    for first, table in tables:
        rows = item_rows(table, features)
        for n in range(len(table)):
            reason = rows.reason[n] if pd.notna(rows.reason[n]) else ""
            if not reason and rows.key[n] in seen:
                reason = DUPLICATE_ITEM
            if reason:
                wrong.append(f"row {first + n}: {reason}")
                continue
            seen.add(rows.key[n])
            values = zip((TITLE, *rest), (column[n] for column in rows.values), strict=True)
            items.append(
                {ITEM_ID: rows.key[n]} | {name: _plain(value) for name, value in values if _is_there(value)}
            )
    if wrong:
        more = f" and {len(wrong) - _SHOWN:,} more" if len(wrong) > _SHOWN else ""
        raise TandemError(f"{path} cannot be used: {'; '.join(wrong[:_SHOWN])}{more}: mend these rows.")
    if not items:
        raise TandemError(f"{path} holds no item, expected at least one.")
    return ItemsFile(items, sorted(set(names) - set(columns)))


def _read_tables(path: str, columns: Sequence[str]) -> tuple[Any, list[str]]:
    return read_file(path, columns), list(column_types(path))


def _read_json_lines(path: str) -> tuple[Any, list[str]]:
    rows: list[dict[str, Any]] = []
    try:
        with open(path, encoding="utf-8") as file:
            for line in filter(str.strip, file):
                row = json.loads(line)
                if not isinstance(row, dict):
                    raise ValueError(f"row {len(rows) + 1} is no object")
                rows.append(row)
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else str(error)
        raise TandemError(
            f"{path} cannot be read ({why}), expected a JSON object a line: write it again."
        ) from error
    names = list(dict.fromkeys(name for row in rows for name in row))
    columns = {
        name: pa.array([_as_in_csv(path, n, name, row) for n, row in enumerate(rows, start=1)], pa.string())
        for name in names
    }
    return [(1, pa.table(columns))] if rows else [], names


def _as_in_csv(path: str, number: int, name: str, row: Mapping[str, Any]) -> str | None:
    value = row.get(name)
    if isinstance(value, (list, dict)):
        raise TandemError(
            f"{path}, row {number}: column {name!r} is neither text nor a number: mend the row."
        )
    if value is None or isinstance(value, str):
        return value
    return str(int(value)) if isinstance(value, float) and value.is_integer() else json.dumps(value)


def _is_there(value: Any) -> bool:
    return not (value == "" or value != value)


def _plain(value: Any) -> str | float:
    return float(value) if isinstance(value, (float, np.floating)) else str(value)
