"""Checks a shop's own files against the contract, and writes them as a dataset directory."""

import os
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime, timezone
from typing import NamedTuple

import numpy as np
import pandas as pd

from transform import rows
from transform.check_report import Found, Report
from transform.columns import is_scalar
from transform.dataset import EVENT_COLUMNS, ITEM_COLUMNS, USER_COLUMNS
from transform.errors import TandemError
from transform.parts import column_types, read_file
from transform.settings import DataSettings, Feature, FeatureSettings
from transform.source_files import SourceFiles, find_source


class _Seen(NamedTuple):
    """Keys of a file, for finding duplicates and unknown items."""

    keys: set[str]
    complete: bool


def prepare_files(kind: str, source: str, out: str | None = None, *, span_length: str = "day") -> Report:
    """Checks a shop's files and, with `out`, writes the good rows as a dataset directory.

    Args:
      kind: "csv" or "parquet", the kind of file that is looked for.
      source: directory with items, events and optionally users; events are one file, a folder of files, or
        folders span-<n>.
      out: dataset directory to make; None only checks. Nothing is written when the check fails.
      span_length: "day" or "week", how events that have no spans are split; span 1 starts with the first day.

    Returns:
      The report; `report.failed` says whether a run would stop on these files.

    Raises:
      TandemError: the source is not a directory, or `out` is there already.
    """
    from transform.write_dataset import check_is_new, write_files

    if out is not None:
        check_is_new(out)
    files = find_source(source, (f".{kind}",))
    report = check_files(files)
    if out is not None and not report.failed:
        write_files(files, out, span_length)
        report.written = os.fspath(out)
    return report


def check_dataset(directory: str | os.PathLike) -> Report:
    """Checks a dataset directory, Parquet and CSV alike.

    Raises:
      TandemError: it is not a directory.
    """
    return check_files(find_source(directory, (".parquet", ".csv")))


def check_files(files: SourceFiles) -> Report:
    """Reads every file once and reports on it; keeps the item ids in memory, nothing else.

    Args:
      files: what `find_source` found.
    """
    report = Report(max_rejected_share=DataSettings(dataset="-").max_rejected_share)
    for what, where in files.problems:
        report.problem(what, where, fatal=True)
    items = _Seen(set(), False)
    if files.items is not None:
        items = _check_keyed(report, files, files.items, ITEM_COLUMNS, rows.DUPLICATE_ITEM, fatal=True)
    if files.users is not None:
        _check_keyed(report, files, files.users, USER_COLUMNS, rows.DUPLICATE_USER, fatal=False)
    for paths in files.events.values():
        for path in paths:
            _check_events(report, files, path, items)
    return report


def row_numbers(first: int, where: np.ndarray) -> list[int]:
    """Numbers in the file of the rows of a batch that are marked in `where`."""
    return [first + int(n) for n in np.flatnonzero(where)]


def _check_keyed(
    report: Report, files: SourceFiles, path: str, required: Sequence[str], duplicate: str, *, fatal: bool
) -> _Seen:
    """Checks items or users; returns their keys."""
    where = files.name(path)
    types = _usable_columns(report, path, where, required)
    if types is None:
        return _Seen(set(), False)
    is_items = "title" in required
    declared = FeatureSettings().item if is_items else ()
    columns = (Feature(name="title", kind="category"), *declared) if is_items else ()
    keys: set[str] = set()
    total = 0
    for first, table in _batches(report, path, where, [required[0], *(column.name for column in columns)]):
        batch = rows.item_rows(table, columns) if is_items else rows.user_rows(table, ())
        _add_reasons(report, where, first, batch.reason)
        good = pd.isna(batch.reason)
        again = np.zeros(len(batch.key), dtype=bool)
        for n in np.flatnonzero(good):
            if batch.key[n] in keys:
                again[n] = True
            keys.add(batch.key[n])
        if again.any():
            report.problem(duplicate, where, fatal=fatal).add(row_numbers(first, again))
        total += len(table)
    if not total:
        report.problem("no rows; expected at least one", where, fatal=is_items)
    report.found.append(Found(where, total, f"columns {', '.join(types)}"))
    report.total_rows += total
    return _Seen(keys, True)


def _check_events(report: Report, files: SourceFiles, path: str, items: _Seen) -> None:
    where = files.name(path)
    types = _usable_columns(report, path, where, EVENT_COLUMNS)
    if types is None:
        return
    total, first_time, last_time = 0, np.inf, -np.inf
    kinds: dict[str, int] = {}
    for first, table in _batches(report, path, where, rows.EVENT_FILE_COLUMNS):
        batch = rows.event_rows(table, ())
        reason = batch.reason
        if items.complete:
            unknown = np.array([item not in items.keys for item in batch.item], dtype=bool)
            reason[unknown & pd.isna(reason)] = rows.UNKNOWN_ITEM
        _add_reasons(report, where, first, reason)
        good = pd.isna(reason)
        if good.any():
            first_time = min(first_time, batch.seconds[good].min())
            last_time = max(last_time, batch.seconds[good].max())
        for kind, count in zip(*np.unique(batch.kind[good].astype(str), return_counts=True), strict=True):
            kinds[str(kind)] = kinds.get(str(kind), 0) + int(count)
        total += len(table)
    if not total:
        report.problem("no events; expected at least one: write the span, or remove it", where, fatal=True)
    dates = f"{_date(first_time)} .. {_date(last_time)}; " if first_time <= last_time else ""
    counted = ", ".join(f"{kind} {count:,}" for kind, count in sorted(kinds.items(), key=lambda one: -one[1]))
    report.found.append(Found(where, total, f"{dates}{counted}; columns {', '.join(types)}"))
    report.total_rows += total


def _usable_columns(report: Report, path: str, where: str, required: Iterable[str]) -> list[str] | None:
    """Names of the columns, None where the file cannot be checked any further."""
    try:
        types = column_types(path)
    except TandemError as error:
        report.problem(str(error), where, fatal=True)
        return None
    usable = True
    for name in required:
        if name not in types:
            report.problem(
                f"column {name} is missing; add it, or rename the one that is it", where, fatal=True
            )
            usable = False
        elif not is_scalar(types[name]):
            report.problem(f"column {name} holds {types[name]}, expected one value a row", where, fatal=True)
            usable = False
    return list(types) if usable else None


def _batches(report: Report, path: str, where: str, columns: Sequence[str]) -> Iterator[tuple]:
    """Reads a file; where that breaks off, the rest of it is reported as unreadable."""
    types = column_types(path)
    nested = [name for name in columns if name in types and not is_scalar(types[name])]
    for name in nested:
        report.problem(f"column {name} holds {types[name]}, expected one value a row", where, fatal=True)
    try:
        yield from read_file(path, [name for name in columns if name not in nested])
    except TandemError as error:
        report.problem(str(error), where, fatal=True)


def _add_reasons(report: Report, where: str, first: int, reason: np.ndarray) -> None:
    for text in sorted({text for text in reason if text is not None}):
        report.problem(text, where).add(row_numbers(first, reason == text))


def _date(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, timezone.utc).strftime("%Y-%m-%d")
