"""Writes a dataset directory in one step: a reader sees all of it or nothing."""

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from transform import rows
from transform.columns import as_seconds
from transform.errors import TandemError
from transform.parts import column_types, read_file
from transform.settings import Feature
from transform.source_files import SourceFiles

SPAN_SECONDS = {"day": 86400.0, "week": 7 * 86400.0}
_TITLE = (Feature(name="title", kind="category"),)


def check_is_new(out: str | os.PathLike) -> None:
    """Checks that a dataset directory can be made.

    Raises:
      TandemError: it is there already, or its parent cannot be written.
    """
    if os.path.lexists(out):
        raise TandemError(
            f"{os.fspath(out)!r} is there already; expected a new directory: remove it or name another."
        )
    parent = Path(out).absolute().parent
    while not parent.exists():
        parent = parent.parent
    if not parent.is_dir() or not os.access(parent, os.W_OK | os.X_OK):
        raise TandemError(
            f"{os.fspath(out)!r} cannot be made in {str(parent)!r}; expected a writable directory."
        )


@contextmanager
def new_directory(out: str | os.PathLike) -> Iterator[Path]:
    """A directory to write into, which becomes `out` at the end, or goes away when something fails.

    Raises:
      TandemError: `out` is there already, or cannot be written.
    """
    check_is_new(out)
    target = Path(out).absolute()
    draft = target.with_name(f".{target.name}.tmp-{os.getpid()}")
    try:
        draft.mkdir(parents=True)
        yield draft
        draft.rename(target)
    except OSError as error:
        raise TandemError(
            f"{str(target)!r} cannot be written ({error}); expected a writable directory."
        ) from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def span_of(seconds: np.ndarray, first: float, span_length: str) -> np.ndarray:
    """Span number of each time: 1 for the day (or week) that starts at midnight UTC of the day of `first`.

    Args:
      seconds: [n] float64, seconds since 1970-01-01 UTC.
      first: the earliest time.
      span_length: "day" or "week".

    Returns:
      [n] int64.
    """
    start = np.floor(first / SPAN_SECONDS["day"]) * SPAN_SECONDS["day"]
    return (np.floor((seconds - start) / SPAN_SECONDS[span_length]) + 1).astype(np.int64)


def write_files(files: SourceFiles, out: str | os.PathLike, span_length: str) -> None:
    """Writes the good rows of checked files; what is left out goes to rejected.jsonl with its reason.

    Keys, queries and timestamps are normalised, every other column is copied as it is.

    Args:
      files: complete and checked.
      out: a directory that is not there yet.
      span_length: "day" or "week", for events without spans.

    Raises:
      TandemError: `out` cannot be written.
    """
    assert files.items is not None
    flat = files.events.get(None, ())
    first = min((_first_time(path) for path in flat), default=0.0)
    with new_directory(out) as draft, open(draft / "rejected.jsonl", "w", encoding="utf-8") as rejected:
        known = _write_keyed(files, files.items, draft / "items.parquet", rejected)
        if files.users is not None:
            _write_keyed(files, files.users, draft / "users.parquet", rejected)
        for span, paths in files.events.items():
            for n, path in enumerate(paths):
                name = "events.parquet" if len(paths) == 1 else f"events-{n:05d}.parquet"
                _write_events(files, path, span, draft / "events", name, first, span_length, known, rejected)
        if not rejected.tell():
            os.remove(draft / "rejected.jsonl")


def _write_keyed(files: SourceFiles, path: str, target: Path, rejected) -> set[str]:  # type: ignore[no-untyped-def]
    keys: set[str] = set()
    name = "item_id" if "title" in column_types(path) and path == files.items else "user_id"
    with _Writers() as writers:
        for first, table in read_file(path, list(column_types(path))):
            batch = rows.item_rows(table, _TITLE) if name == "item_id" else rows.user_rows(table, ())
            reason = batch.reason
            for n in np.flatnonzero(pd.isna(reason)):
                if batch.key[n] in keys:
                    reason[n] = rows.DUPLICATE_ITEM if name == "item_id" else rows.DUPLICATE_USER
                keys.add(batch.key[n])
            _set_aside(rejected, files.name(path), first, reason)
            table = _with_column(table, name, pa.array(batch.key, pa.string()))
            writers.write(target, table.filter(pa.array(pd.isna(reason))))
    return keys


def _write_events(  # type: ignore[no-untyped-def]
    files: SourceFiles, path: str, span: int | None, folder: Path, name: str,
    start: float, span_length: str, known: set[str], rejected,
) -> None:  # fmt: skip
    with _Writers() as writers:
        for first, table in read_file(path, list(column_types(path))):
            batch = rows.event_rows(table, ())
            reason = batch.reason
            unknown = np.array([item not in known for item in batch.item], dtype=bool)
            reason[unknown & pd.isna(reason)] = rows.UNKNOWN_ITEM
            _set_aside(rejected, files.name(path), first, reason)
            good = pd.isna(reason)
            moments = pa.array(np.round(np.nan_to_num(batch.seconds) * 1e6).astype(np.int64))
            table = _with_column(table, "timestamp", moments.cast(pa.timestamp("us")))
            for column, values in (("item_id", batch.item), ("event_type", batch.kind)):
                table = _with_column(table, column, pa.array(values, pa.string()))
            for column, values in (("user_id", batch.user), ("query", batch.query)):
                if column in table.column_names:
                    text = pa.array([value or None for value in values], pa.string())
                    table = _with_column(table, column, text)
            numbers = np.full(len(table), span) if span is not None else np.zeros(len(table), dtype=np.int64)
            if span is None:
                numbers[good] = span_of(batch.seconds[good], start, span_length)
            for number in np.unique(numbers[good]):
                target = folder / f"span-{number}" / name
                writers.write(target, table.filter(pa.array(good & (numbers == number))))


def _with_column(table: pa.Table, name: str, values: pa.Array) -> pa.Table:
    return table.set_column(table.column_names.index(name), name, values)


def _first_time(path: str) -> float:
    first = np.inf
    for _, table in read_file(path, ["timestamp"]):
        seconds = as_seconds(table["timestamp"]).values
        first = min(first, np.nanmin(seconds, initial=np.inf))
    return float(first)


def _set_aside(rejected, name: str, first: int, reason: np.ndarray) -> None:  # type: ignore[no-untyped-def]
    for n in np.flatnonzero(~pd.isna(reason)):
        line = {"file": name, "row": first + int(n), "reason": reason[n]}
        rejected.write(json.dumps(line, ensure_ascii=False) + "\n")


class _Writers:
    """Parquet files that are open while batches are dealt out to them."""

    def __init__(self) -> None:
        self._open: dict[Path, pq.ParquetWriter] = {}

    def write(self, path: Path, table: pa.Table) -> None:
        if path not in self._open:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._open[path] = pq.ParquetWriter(path, table.schema)
        self._open[path].write_table(table)

    def __enter__(self) -> "_Writers":
        return self

    def __exit__(self, *error: object) -> None:
        for writer in self._open.values():
            writer.close()
