"""A dataset directory: where its files are, what they must hold, and when its spans are.

items.parquet | items.csv            item_id, title; more columns as declared
users.parquet | users.csv            optional: user_id and declared columns
events/span-<n>/*.parquet | *.csv    timestamp, item_id, event_type; user_id, query, weight, ... optional
"""

import hashlib
import os
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import pandas as pd

from transform.columns import as_seconds, is_scalar
from transform.errors import TandemError
from transform.parts import column_types, read_file
from transform.source_files import span_folders, table_files

ITEM_COLUMNS = ("item_id", "title")
USER_COLUMNS = ("user_id",)
EVENT_COLUMNS = ("timestamp", "item_id", "event_type")
SUFFIXES = (".parquet", ".csv")


class Dataset(NamedTuple):
    """The files of a dataset directory.

    Attributes:
      directory: as it was given.
      items: the items file.
      users: the users file, None where there is none.
      spans: span number -> its event files, both in order.
    """

    directory: str
    items: str
    users: str | None
    spans: dict[int, tuple[str, ...]]


def find_dataset(directory: str | os.PathLike) -> Dataset:
    """Finds the files of a dataset directory; nothing is read yet.

    Raises:
      TandemError: the directory, the items file, the events folder or every span is missing, a span is empty.
    """
    directory = os.fspath(directory)
    if not os.path.isdir(directory):
        raise TandemError(
            f"dataset {directory!r} is not a directory; expected items, users and events/span-<n> in it:"
            " make one with 'tandem prepare', or mend data.dataset."
        )
    items = find_table(directory, "items")
    if items is None:
        raise TandemError(
            f"{directory} holds neither items.parquet nor items.csv; expected one of them with columns"
            f" {', '.join(ITEM_COLUMNS)}: write it."
        )
    return Dataset(directory, items, find_table(directory, "users"), _find_spans(directory))


def spans(directory: str | os.PathLike) -> list[int]:
    """Span numbers of a dataset directory, ascending; at least one.

    Raises:
      TandemError: as `find_dataset`.
    """
    return list(find_dataset(directory).spans)


def check_columns(
    dataset: Dataset, *, items: Iterable[str], users: Iterable[str], context: Iterable[str]
) -> None:
    """Checks that the files have the columns a run needs, before anything runs.

    category, brand, price and description of items are optional even where they are declared: a shop without
    them has no value there. A dataset without users has no declared user feature either. A declared context
    column has to be in the newest span.

    Args:
      dataset: what `find_dataset` found.
      items, users, context: declared columns of the three kinds of file.

    Raises:
      TandemError: a column is missing, or holds lists or structures.
    """
    optional = {"category", "brand", "price", "description"}
    require_columns(dataset.items, [*ITEM_COLUMNS, *(name for name in items if name not in optional)])
    _require_scalars(dataset.items, items)
    if dataset.users is not None:
        require_columns(dataset.users, [*USER_COLUMNS, *users])
    newest = max(dataset.spans)
    for number, files in dataset.spans.items():
        for path in files:
            require_columns(path, [*EVENT_COLUMNS, *(context if number == newest else ())])
            _require_scalars(path, ("user_id", "query", "weight", *context))


def require_columns(path: str, columns: Iterable[str]) -> None:
    """Checks that a file has these columns, one value a row.

    Raises:
      TandemError: a column is missing, or holds lists or structures.
    """
    columns = list(columns)
    found = column_types(path)
    missing = [name for name in columns if name not in found]
    if missing:
        raise TandemError(
            f"{path} has columns {', '.join(found)}; expected also {', '.join(missing)}:"
            " add or rename the column, or do not declare it."
        )
    _require_scalars(path, columns)


def time_range(directory: str | os.PathLike, span: int) -> tuple[float, float]:
    """First and last timestamp of a span, in seconds since 1970-01-01 UTC; reads that column only.

    Raises:
      TandemError: there is no such span, or none of its timestamps parses.
    """
    dataset = find_dataset(directory)
    if span not in dataset.spans:
        raise TandemError(
            f"span {span} is not in {directory}; expected one of {describe_spans(dataset.spans)}: set span."
        )
    first, last = np.inf, -np.inf
    for path in dataset.spans[span]:
        require_columns(path, ["timestamp"])
        for _, table in read_file(path, ["timestamp"]):
            seconds = as_seconds(table["timestamp"]).values
            if np.isfinite(seconds).any():
                first, last = min(first, np.nanmin(seconds)), max(last, np.nanmax(seconds))
    if first > last:
        raise TandemError(
            f"{directory}/events/span-{span} has no row with a timestamp that parses; expected at least one:"
            " write the span again, or remove it."
        )
    return float(first), float(last)


def fingerprint(directory: str | os.PathLike, newest: int | None = None) -> str:
    """A digest of names, sizes and modification times of all files up to span `newest`; changes when they do.

    Raises:
      TandemError: as `find_dataset`.
    """
    dataset = find_dataset(directory)
    taken = [
        paths for number, paths in dataset.spans.items() if newest is None or newest < 0 or number <= newest
    ]
    files = [
        dataset.items,
        *([dataset.users] if dataset.users else []),
        *(path for paths in taken for path in paths),
    ]
    digest = hashlib.sha256()
    for path in files:
        stat = os.stat(path)
        name = os.path.relpath(path, dataset.directory)
        digest.update(f"{name}\0{stat.st_size}\0{stat.st_mtime_ns}\n".encode())
    return digest.hexdigest()


def read_events(directory: str | os.PathLike, span: int) -> pd.DataFrame:
    """The good rows of a span's events, in memory: for reports and baselines, not for the run itself.

    Returns:
      Columns timestamp (datetime64, UTC without a zone), item_id, event_type, user_id ("" = none), query
      ("" = none) and weight.

    Raises:
      TandemError: there is no such span, or a column is missing.
    """
    from transform.rows import EVENT_FILE_COLUMNS, event_rows

    dataset = find_dataset(directory)
    frames = []
    for path in dataset.spans.get(span, ()):
        require_columns(path, EVENT_COLUMNS)
        for _, table in read_file(path, EVENT_FILE_COLUMNS):
            rows = event_rows(table, ())
            good = pd.isna(rows.reason)
            moments = np.round(rows.seconds[good] * 1e6).astype("datetime64[us]").astype("datetime64[ns]")
            frames.append(
                pd.DataFrame(
                    {
                        "timestamp": moments,
                        "item_id": rows.item[good],
                        "event_type": rows.kind[good],
                        "user_id": rows.user[good],
                        "query": rows.query[good],
                        "weight": rows.weight[good],
                    }
                )
            )
    if not frames:
        raise TandemError(
            f"span {span} is not in {directory}; expected one of {describe_spans(dataset.spans)}."
        )
    return pd.concat(frames, ignore_index=True)


def describe_spans(numbers: Iterable[int]) -> str:
    """Span numbers for a message: "1, 2, 3" or "1 .. 52 (52 spans)"."""
    numbers = sorted(numbers)
    if len(numbers) <= 5:
        return ", ".join(map(str, numbers))
    return f"{numbers[0]} .. {numbers[-1]} ({len(numbers)} spans)"


def find_table(directory: str, name: str) -> str | None:
    """Path of `<name>.parquet` or `<name>.csv` in a directory, None where there is neither.

    Raises:
      TandemError: both are there.
    """
    found = [path for suffix in SUFFIXES if os.path.isfile(path := os.path.join(directory, name + suffix))]
    if len(found) > 1:
        raise TandemError(
            f"{directory} holds both {name}.parquet and {name}.csv; expected one: remove the other."
        )
    return found[0] if found else None


def _find_spans(directory: str) -> dict[int, tuple[str, ...]]:
    events = os.path.join(directory, "events")
    found: dict[int, tuple[str, ...]] = {}
    for number, folder in span_folders(events) if os.path.isdir(events) else ():
        if number in found:
            raise TandemError(
                f"{events} holds span {number} twice ({folder} is one); expected it once: remove one."
            )
        found[number] = table_files(folder, SUFFIXES)
        if not found[number]:
            raise TandemError(
                f"{folder} is empty; expected a .parquet or .csv file in it: write the span, or remove it."
            )
    if not found:
        raise TandemError(
            f"{events} holds no span; expected folders such as span-1 with event files in them:"
            " 'tandem prepare parquet SOURCE --out DIR' makes them from one events file."
        )
    return found


def _require_scalars(path: str, columns: Iterable[str]) -> None:
    types = column_types(path)
    for name in columns:
        if name in types and not is_scalar(types[name]):
            raise TandemError(
                f"{path}: column {name} holds {types[name]}, expected one text, number or time a row:"
                " write it so, or do not declare it."
            )
