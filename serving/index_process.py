"""The indexes of a version in a process of their own: ScaNN holds the interpreter lock while it loads and while it searches."""

import contextlib
import json
import logging
import signal
import socket
import subprocess
import sys
import threading
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from prometheus_client import Counter

from serving.index import Index, check_files, read_tuning
from serving.index_worker import Found, decode_answer, encode_request, receive, send
from serving.manifest import BundleError

logger = logging.getLogger("tandem.serving")

# Of all servers in this process.
RESTARTED = Counter(
    "tandem_restarted_processes", "Times that the process of a version's indexes died or hung.", registry=None
)

# How long a search may take; one that takes longer hangs, and its process is given up.
_SEARCH_SECONDS = 10.0


def load_indexes(directories: Sequence[Path], ks: Sequence[int], nice: int) -> list[Index]:
    """Loads indexes that `Index.save` wrote; they search in one process, which ends with the last of them.

    Args:
      directories: the indexes.
      ks: items that a search of each returns.
      nice: added to the niceness while they load.

    Raises:
      BundleError: one is not there, or cannot be read.
    """
    directories = [directory.absolute() for directory in directories]
    sizes = [check_files(directory) for directory in directories]
    process = _IndexProcess(directories, nice)
    return [
        Index(_RemoteSearcher(process, number), *size, k, read_tuning(directory, process.configs[number]))
        for number, (directory, size, k) in enumerate(zip(directories, sizes, ks, strict=True))
    ]


class _RemoteSearcher(NamedTuple):
    """What `Index` asks, one of a process."""

    process: "_IndexProcess"
    number: int

    def search_batched(
        self,
        queries: NDArray[np.float32],
        final_num_neighbors: int,
        pre_reorder_num_neighbors: int = -1,
        leaves_to_search: int = -1,
    ) -> Found:
        """Rows and scores, both [B, k] of float32 [B, D]."""
        options = final_num_neighbors, pre_reorder_num_neighbors, leaves_to_search
        return self.process.ask(encode_request(self.number, queries, options))


class _IndexProcess:
    """A running `serving.index_worker`; safe to share between threads, which it answers one after the other.

    Where it died or hangs, the thread that notices starts it again and asks once more, so that no request is lost.

    Attributes:
      configs: ScaNN's configuration of each index, as text.
    """

    def __init__(self, directories: Sequence[Path], nice: int) -> None:
        self._directories = directories
        self._turn = threading.Lock()
        self._start(nice)

    def ask(self, request: bytes) -> Found:
        """Has a request answered.

        Raises:
          BundleError: the process died, and the indexes cannot be loaded again.
          RuntimeError: ScaNN refused the request, or the process died of it twice.
        """
        with self._turn:
            try:
                message = self._converse(request)
            except (OSError, EOFError) as error:
                RESTARTED.inc()
                logger.warning(
                    "the process that searches %s is started again: %s",
                    self._directories[0],
                    self._give_up(error),
                )
                self._start(0)
                try:
                    message = self._converse(request)
                except (OSError, EOFError):
                    raise RuntimeError(
                        "the process that searches the index died of one request twice"
                    ) from None
        return decode_answer(message)

    def _converse(self, request: bytes) -> bytes:
        send(self._channel, request)
        return receive(self._channel)

    def _start(self, nice: int) -> None:
        self._channel, theirs = socket.socketpair()
        words = [str(theirs.fileno()), str(nice), *map(str, self._directories)]
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "serving.index_worker", *words],
                stdin=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
            )
        self._end = weakref.finalize(self, _end, self._process, self._channel)
        try:
            said: dict[str, Any] = json.loads(receive(self._channel))
        except (OSError, EOFError) as error:
            said = {
                "error": f"{self._directories[0]} is not an index (reading it ended a process: {self._give_up(error)}),"
                " expected one: push the bundle again."
            }
        if "error" in said:
            self._end()
            raise BundleError(said["error"])
        self.configs: list[str] = said["configs"]
        self._channel.settimeout(_SEARCH_SECONDS)

    def _give_up(self, error: Exception) -> str:
        """Ends the process, and says why it could not go on."""
        if isinstance(error, TimeoutError):
            self._end()
            return f"no answer within {_SEARCH_SECONDS:g} s"
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(1.0)  # it closed the connection, so it is ending
        self._end()
        status = self._process.returncode
        return f"killed by {signal.Signals(-status).name}" if status < 0 else f"exit status {status}"


def _end(process: "subprocess.Popen[bytes]", channel: socket.socket) -> None:
    """Ends the process, which holds nothing that would be lost, and takes its exit status."""
    channel.close()
    process.kill()
    process.wait()
