"""The log of catalogue changes: a file that is only appended to, a checked line a change, on the disk before it counts."""

import contextlib
import errno
import fcntl
import json
import logging
import os
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from serving.catalogue_changes import Change
from serving.durable import sync_directory
from transform.errors import TandemError

logger = logging.getLogger("tandem.serving")

LOG = "changes.log"
_LOCK = "changes.lock"
_NEW = "changes.log.new"

# A log below that is not worth trimming, in bytes.
_SMALL = 1 << 20
# It is trimmed when it is that many times larger than what it comes to.
_LARGER = 4


class CatalogueLogError(TandemError):
    """The log cannot be read or written; says what that means for the change."""


class Read(NamedTuple):
    """What was read of a log.

    Attributes:
      changes: in the order they were made.
      whole: whether they are all there are, rather than those after what was read before.
    """

    changes: list[Change]
    whole: bool


class _End(NamedTuple):
    """Where the last line that was read ends: in which file, at which byte, after how many lines."""

    inode: int
    offset: int
    lines: int


class CatalogueLog:
    """One file that several servers may share; each change is written by one of them and read by all.

    A line is the CRC-32 of the JSON after it, in hexadecimal, a blank, and the JSON: `n`, which counts the lines, and
    the fields of the change. One of the writers at a time holds the lock beside the file. A last
    line that a crash tore has never counted, and is cut off by the next writer; anything else that is damaged is
    refused.
    """

    def __init__(self, directory: str | os.PathLike[str]) -> None:
        self.path = Path(directory) / LOG
        self._end = _End(0, 0, 0)

    def size(self) -> int:
        """Bytes of the file; 0 where there is none."""
        try:
            return self.path.stat().st_size
        except OSError:
            return 0

    def has_news(self) -> bool:
        """Whether there may be changes that were not read."""
        try:
            status = self.path.stat()
        except OSError:
            return self._end.offset > 0
        return (status.st_ino, status.st_size) != (self._end.inode, self._end.offset)

    def open(self) -> list[Change]:
        """Reads all changes, and cuts off a torn last line where the file can be written; to be called once, at first.

        Raises:
          CatalogueLogError: the log is damaged, or cannot be read.
        """
        changes = self.read().changes
        if self.size() > self._end.offset:
            try:
                with self._only_writer():
                    changes += self.read().changes  # it may have been another server's, half written
                    self._cut()
            except CatalogueLogError as error:
                logger.warning("%s ends in a torn line, which never counted and stays: %s", self.path, error)
        return changes

    def read(self) -> Read:
        """Reads the changes that were not read yet, or all of them where another server has trimmed the file.

        Raises:
          CatalogueLogError: the log is damaged, has gone, or cannot be read; what can be read is read next time.
        """
        read, self._end = self._scan()
        return read

    def append(self, change: Change) -> bool:
        """Adds a change and waits until it is on the disk.

        Returns:
          False, and nothing is written, if there are changes of another server to be read first.

        Raises:
          CatalogueLogError: it cannot be written; the log is as it was.
        """
        with self._only_writer():
            if self.has_news():
                if self._scan()[0].changes:
                    return False
                self._cut()
            inode, offset, count = self._end
            line = _line(count + 1, change)
            with self._writing(), open(self.path, "ab", buffering=0) as file:
                try:
                    _write(file.fileno(), line)
                except BaseException:
                    os.ftruncate(file.fileno(), offset)
                    raise
                if not offset:
                    sync_directory(self.path.parent)
                    sync_directory(self.path.parent.parent)
                    inode = os.fstat(file.fileno()).st_ino
            self._end = _End(inode, offset + len(line), count + 1)
            return True

    def trim(self, changes: Sequence[Change]) -> bool:
        """Writes a log that is much larger than what it comes to anew, in one rename; all of it must have been read.

        Args:
          changes: the fewest that come to the same.

        Returns:
          Whether it was written.

        Raises:
          CatalogueLogError: it cannot be written; the log is as it was.
        """
        if self.size() <= _SMALL:
            return False
        text = b"".join(_line(n, change) for n, change in enumerate(changes, start=1))
        if self.size() <= _LARGER * len(text):
            return False
        with self._only_writer():
            if self.has_news():
                return False  # another server is at it
            new = self.path.with_name(_NEW)
            with self._writing():
                with open(new, "wb", buffering=0) as file:
                    _write(file.fileno(), text)
                    inode = os.fstat(file.fileno()).st_ino
                os.replace(new, self.path)
                sync_directory(self.path.parent)
            self._end = _End(inode, len(text), len(changes))
            return True

    def _scan(self) -> "tuple[Read, _End]":
        """What `read` returns, and where that ends."""
        try:
            with open(self.path, "rb") as file:
                status = os.fstat(file.fileno())
                whole = status.st_ino != self._end.inode
                start = _End(status.st_ino, 0, 0) if whole else self._end
                if status.st_size < start.offset:
                    raise self._damaged(start, "the file has become shorter")
                file.seek(start.offset)
                changes, end = self._parse(file.read(), start)
                return Read(changes, whole), end
        except FileNotFoundError as error:
            if self._end.offset:
                raise CatalogueLogError(
                    f"{self.path} has gone, expected the log of catalogue changes: put it back, or restart the server to"
                    " go on without any."
                ) from error
            return Read([], False), self._end
        except OSError as error:
            raise CatalogueLogError(
                f"{self.path} cannot be read ({error.strerror}), expected the log of catalogue changes: mend that."
            ) from error

    def _parse(self, data: bytes, start: "_End") -> "tuple[list[Change], _End]":
        """The changes of all whole lines, and where the last one ends."""
        changes: list[Change] = []
        at = 0
        while at < len(data):
            end = data.find(b"\n", at)
            change = _change(data[at:end], start.lines + len(changes) + 1) if end >= 0 else None
            if change is None:
                is_last = end in (-1, len(data) - 1)
                if is_last and (
                    end < 0 or b"\0" in data[at:]
                ):  # blocks that never reached the disk are zeros
                    break
                bad = _End(start.inode, start.offset + at, start.lines + len(changes))
                raise self._damaged(bad, "its checksum or its number does not fit")
            changes.append(change)
            at = end + 1
        return changes, _End(start.inode, start.offset + at, start.lines + len(changes))

    def _damaged(self, end: "_End", what: str) -> CatalogueLogError:
        return CatalogueLogError(
            f"{self.path} is damaged: line {end.lines + 1} (byte {end.offset}): {what}; expected the log as Tandem wrote"
            " it: restore it from a copy, or move it away to go on without any change to the catalogue."
        )

    def _cut(self) -> None:
        """Cuts off what is behind the last whole line; for the only writer."""
        torn = self.size() - self._end.offset
        if torn > 0:
            with self._writing():
                os.truncate(self.path, self._end.offset)
            logger.warning(
                "%s: a torn last line of %d bytes was cut off: it had never counted", self.path, torn
            )

    @contextlib.contextmanager
    def _only_writer(self) -> Iterator[None]:
        with self._writing():
            self.path.parent.mkdir(parents=True, exist_ok=True)
            handle = os.open(self.path.with_name(_LOCK), os.O_WRONLY | os.O_CREAT, 0o644)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield
        finally:
            os.close(handle)

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
            raise CatalogueLogError(
                f"{self.path} cannot be written ({error.strerror}), expected a writable directory with room for the log of"
                f" catalogue changes: {'make room' if full else 'mend that, or name another with --catalog-dir'} and send"
                " the change again. Nothing was changed."
            ) from error


def _line(number: int, change: Change) -> bytes:
    fields = {"n": number, **change._asdict(), "held": dict(change.held)}
    data = json.dumps(fields, ensure_ascii=False).encode("utf-8")
    return b"%08x %s\n" % (zlib.crc32(data), data)


def _change(line: bytes, number: int) -> Change | None:
    """What a line says; none where it is damaged or another was expected in its place."""
    checksum, _, body = line.partition(b" ")
    if checksum != b"%08x" % zlib.crc32(body):
        return None
    try:
        fields = json.loads(body)
        is_next = fields.pop("n") == number
        return Change(**fields) if is_next else None
    except (ValueError, KeyError, TypeError):
        return None


def _write(handle: int, data: bytes) -> None:
    """Writes everything and waits until it is on the disk."""
    view = memoryview(data)
    while view:
        view = view[os.write(handle, view) :]
    os.fsync(handle)
