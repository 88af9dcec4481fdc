"""history.jsonl in the push directory: one line a verdict, pushed or refused, only ever appended to."""

import fcntl
import json
import os
from typing import NamedTuple

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from transform.errors import TandemError

LOG = "history.jsonl"


class Entry(BaseModel):
    """What became of one candidate."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    time: str = Field(description="When it was decided, ISO 8601, UTC.")
    version: int | None = Field(description="Version it was pushed as; none: refused.")
    parent: int | None = Field(description="Version it was warm-started from.")
    spans: tuple[int, ...] = Field(description="Spans whose events it was trained and evaluated on.")
    examples: int = Field(description="Targets it was trained on in this run.")
    seconds: float | None = Field(description="From the start of the run to the verdict; none: not known.")
    metrics: dict[str, dict[str, float]] = Field(
        description="View -> metric -> mean over the held-out requests."
    )
    refused: tuple[str, ...] = Field(
        description="Why it was refused, one line a reason; none: it was pushed."
    )


class PushLog(NamedTuple):
    """What was read.

    Attributes:
      entries: in the order they were written.
      broken: numbers of the lines that are no entry, from 1: torn by a crash.
    """

    entries: list[Entry]
    broken: list[int]


def append(push_dir: str, entry: Entry) -> None:
    """Adds a line and waits until it is on the disk; the lines before it are never written again.

    The line goes out in one write. One that a crash has torn stays as it is: the next begins on a line of its own.

    Args:
      push_dir: an existing directory.
      entry: the line.
    """
    line = entry.model_dump_json().encode() + b"\n"
    handle = os.open(os.path.join(push_dir, LOG), os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)  # until it is closed: another's half-written line would look torn
        end = os.lseek(handle, 0, os.SEEK_END)
        torn = end > 0 and os.pread(handle, 1, end - 1) != b"\n"
        written = os.write(handle, b"\n" * torn + line)
        if written != torn + len(line):
            raise OSError(f"{LOG}: {written} of {torn + len(line)} bytes were written; is the disk full?")
        os.fsync(handle)
    finally:
        os.close(handle)


def read(push_dir: str) -> PushLog:
    """Reads all lines; none where there is no file yet.

    Raises:
      TandemError: the file is there and cannot be read.
    """
    path = os.path.join(push_dir, LOG)
    try:
        with open(path, "rb") as file:
            lines = file.read().splitlines()
    except FileNotFoundError:
        return PushLog([], [])
    except OSError as error:
        raise TandemError(
            f"{path} cannot be read ({error.strerror}), expected the file that a push appends to: mend it."
        ) from error
    entries, broken = [], []
    for number, line in enumerate(lines, 1):
        try:
            entries.append(Entry.model_validate(json.loads(line)))
        except (ValueError, ValidationError):
            broken.append(number)
    return PushLog(entries, broken)
