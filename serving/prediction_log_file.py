"""One file of the prediction log: hidden and locked while it is written, renamed when it is whole."""

import contextlib
import datetime
import fcntl
import logging
import os
import secrets
import time
from pathlib import Path
from typing import Any, NamedTuple

from serving.durable import sync_directory

logger = logging.getLogger("tandem.serving")

SUFFIX = ".tfrecord"
_UNFINISHED = ".unfinished-"


class Rotation(NamedTuple):
    """When a file is finished and the next one begun.

    Attributes:
      size: in bytes, at least.
      seconds: after its first record.
    """

    size: int = 64 << 20
    seconds: float = 300.0


class PredictionLogFile:
    """A file under its hidden name.

    Attributes:
      path: of it.
    """

    def __init__(self, directory: Path) -> None:
        """Makes an empty file.

        Raises:
          OSError: the disk refuses.
        """
        now = datetime.datetime.now(datetime.timezone.utc)
        name = f"{now:%Y%m%dT%H%M%S}-{secrets.token_hex(4)}{SUFFIX}"
        self.path = directory / f"{_UNFINISHED}{name}"
        # For its owner only: it holds what customers wrote.
        self._descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        fcntl.flock(self._descriptor, fcntl.LOCK_EX)
        os.stat(self.path)  # gone, if a server that started just now took it for left over
        self._writer: Any = None
        self._good = 0
        self._began = time.monotonic()

    def write(self, records: list[bytes]) -> None:
        """Writes records and makes sure that the system has them.

        Raises:
          OSError, tf.errors.OpError: the disk did not take them all; `finish` leaves out all of them.
        """
        import tensorflow as tf

        if self._writer is None:
            self._writer = tf.io.TFRecordWriter(str(self.path))
        for record in records:
            self._writer.write(record)
        self._writer.flush()
        self._good = os.fstat(self._descriptor).st_size

    def is_due(self, rotation: Rotation) -> bool:
        """Whether it is large or old enough."""
        return self._good >= rotation.size or not self.seconds_left(rotation)

    def seconds_left(self, rotation: Rotation) -> float:
        """Until it is old enough."""
        return max(0.0, self._began + rotation.seconds - time.monotonic())

    def finish(self) -> None:
        """Cuts off what was not written whole and gives the file its name; an empty one is removed.

        Raises:
          OSError: the disk refuses.
        """
        import tensorflow as tf

        if self._writer is not None:
            with contextlib.suppress(tf.errors.OpError):
                self._writer.close()
        try:
            os.ftruncate(self._descriptor, self._good)
            _show(self.path, self._descriptor)
        finally:
            os.close(self._descriptor)


def finish_left_overs(directory: Path) -> None:
    """Gives the files of servers that are no more their names; those of running ones are locked.

    Raises:
      OSError: the disk refuses.
    """
    for path in sorted(directory.glob(f"{_UNFINISHED}*{SUFFIX}")):
        try:
            descriptor = os.open(path, os.O_RDWR)
        except FileNotFoundError:
            continue
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _show(path, descriptor)
            logger.warning("prediction log: %s was left by a server that did not end; its last record may be"
                           " torn", path)  # fmt: skip
        except BlockingIOError:
            continue
        finally:
            os.close(descriptor)


def _show(path: Path, descriptor: int) -> None:
    if os.fstat(descriptor).st_size:
        os.fsync(descriptor)
        os.rename(path, path.with_name(path.name.removeprefix(_UNFINISHED)))
    else:
        os.unlink(path)
    sync_directory(path.parent)
