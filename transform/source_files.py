"""Finds a shop's own files: items, users, and events in one file, a folder, or spans."""

import os
import re
from collections.abc import Sequence
from typing import NamedTuple

from transform.errors import TandemError

_SPAN = re.compile(r"span-(\d+)")


class SourceFiles(NamedTuple):
    """The files of a shop, complete or not.

    Attributes:
      directory: where they are.
      items, users: paths, None where there is none.
      events: span number -> event files; the key None holds events that have no span yet.
      problems: (what is wrong, name of the file or folder).
    """

    directory: str
    items: str | None
    users: str | None
    events: dict[int | None, tuple[str, ...]]
    problems: list[tuple[str, str]]

    def name(self, path: str) -> str:
        """The path below the source directory, for a report."""
        return os.path.relpath(path, self.directory)


def find_source(directory: str | os.PathLike, suffixes: Sequence[str]) -> SourceFiles:
    """Finds what is there; what is missing is a problem for the report, not an error.

    Args:
      directory: with items, events (one file, a folder of files, or folders span-<n>) and optionally users.
      suffixes: ".parquet", ".csv" or both.

    Raises:
      TandemError: it is not a directory.
    """
    directory = os.fspath(directory)
    if not os.path.isdir(directory):
        raise TandemError(
            f"{directory!r} is not a directory; expected one with items, events and optionally users in it."
        )
    problems: list[tuple[str, str]] = []
    tables = {name: _table(directory, name, suffixes, problems) for name in ("items", "users", "events")}
    if tables["items"] is None:
        problems.append(("the file is missing", f"items{'|'.join(suffixes)}"))
    events: dict[int | None, tuple[str, ...]] = {}
    if tables["events"] is not None:
        events[None] = (tables["events"],)
    folder = os.path.join(directory, "events")
    if os.path.isdir(folder):
        if flat := table_files(folder, suffixes):
            events[None] = (*events.get(None, ()), *flat)
        events.update(_spans(folder, suffixes, problems))
    if None in events and len(events) > 1:
        problems.append(
            ("there are events both inside and outside of span folders; expected one way", "events")
        )
    if not events and not any(name.startswith("events") for _, name in problems):
        problems.append(("there are no events", f"events{'|'.join(suffixes)} or events/span-<n>"))
    return SourceFiles(directory, tables["items"], tables["users"], events, problems)


def table_files(folder: str, suffixes: Sequence[str]) -> tuple[str, ...]:
    """Files of a folder with these suffixes, by name; hidden ones and others are passed over."""
    return tuple(
        os.path.join(folder, name)
        for name in sorted(os.listdir(folder))
        if name.endswith(tuple(suffixes)) and not name.startswith((".", "_"))
    )


def span_folders(folder: str) -> list[tuple[int, str]]:
    """(number, path) of the folders span-<n>, by number; others are passed over."""
    found = []
    for name in os.listdir(folder):
        match = _SPAN.fullmatch(name)
        if match is not None and os.path.isdir(os.path.join(folder, name)):
            found.append((int(match[1]), os.path.join(folder, name)))
    return sorted(found)


def _table(directory: str, name: str, suffixes: Sequence[str], problems: list[tuple[str, str]]) -> str | None:
    found = [path for suffix in suffixes if os.path.isfile(path := os.path.join(directory, name + suffix))]
    if len(found) > 1:
        problems.append(("it is there twice; expected one: remove the other", f"{name}{'|'.join(suffixes)}"))
    return found[0] if found else None


def _spans(
    folder: str, suffixes: Sequence[str], problems: list[tuple[str, str]]
) -> dict[int | None, tuple[str, ...]]:
    found: dict[int | None, tuple[str, ...]] = {}
    for number, path in span_folders(folder):
        name = os.path.join("events", os.path.basename(path))
        if number in found:
            problems.append((f"span {number} is there twice; expected it once", name))
        files = table_files(path, suffixes)
        if not files:
            problems.append((f"the span is empty; expected files {' or '.join(suffixes)} in it", name))
        else:
            found[number] = files
    return found
