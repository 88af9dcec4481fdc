"""A module run as a child process that answers requests, and is started again where it dies or hangs."""

import contextlib
import logging
import queue
import signal
import socket
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Sequence
from typing import Any

from prometheus_client import Counter

from serving.manifest import BundleError
from serving.messages import receive, send

logger = logging.getLogger("tandem.serving")

# Of all servers in this process.
RESTARTED = Counter(
    "tandem_restarted_processes", "Times that the process of a version died or hung.", registry=None
)

# After an attempt to start it again that failed, others are not made for so long.
_RETRY_SECONDS = 10.0
# How long it may take to begin to answer: it reads a version, beside those who are being answered.
_START_SECONDS = 1800.0


class ChildProcess:
    """Runs `python -m MODULE DESCRIPTORS ASIDE WORDS...` as long as this object lives; safe to share between threads.

    Messages go over connected sockets, whose descriptors the first word names. Each request, a tuple, is answered by
    (none, answer) or (an exception, none). The first is (), which is answered as soon as the child is ready. It ends when
    the other side has gone.

    Where it dies or hangs, the thread that notices starts it again, and each request that was under way is asked once more.

    Attributes:
      said: the child's answer to ().
    """

    def __init__(self, module: str, words: Sequence[str], is_aside: bool, channels: int) -> None:
        """Starts the child, and returns when it answers.

        Args:
          module: what to run.
          words: the rest of its command line.
          is_aside: whether it lets all others go before until it answers; not when it is started again.
          channels: requests that it can be asked at once; more wait.

        Raises:
          BundleError: it is not ready, and why.
        """
        self._module = module
        self._words = list(words)
        self._channels = channels
        self._starting = threading.Lock()
        self._failed: tuple[float, str] | None = None
        self.said = self._start(is_aside)

    def ask(self, *request: Any, seconds: float) -> Any:
        """Has a request answered.

        Args:
          *request: what the child is asked.
          seconds: how long an answer may take; a child that takes longer hangs.

        Raises:
          BundleError: the child died, and cannot be started again.
          RuntimeError: it died of this request twice.
          Exception: what the child raised.
        """
        run = self._run
        try:
            return run.ask(request, seconds)
        except _GoneError as error:
            self._start_again(run, str(error))
        try:
            return self._run.ask(request, seconds)
        except _GoneError as error:
            raise RuntimeError(
                f"{self._words[-1]}: its process died of one request twice ({error})"
            ) from None

    def _start(self, is_aside: bool) -> Any:
        run = _Run(self._module, self._words, is_aside, self._channels)
        end = weakref.finalize(self, run.end)
        try:
            said = run.ask((), _START_SECONDS)
        except _GoneError as error:
            end()
            raise BundleError(
                f"{self._words[-1]} cannot be loaded (reading it ended a process: {error}), expected a bundle:"
                " push it again."
            ) from None
        except BundleError:
            end()
            raise
        self._run = run
        return said

    def _start_again(self, run: "_Run", why: str) -> None:
        """Once for all whose requests were under way; for a while not at all where that failed."""
        with self._starting:
            if self._run is not run:
                return
            if self._failed and time.monotonic() < self._failed[0]:
                raise BundleError(self._failed[1])
            if not self._failed:
                RESTARTED.inc()
            logger.warning("the process of %s is started again: %s", self._words[-1], why)
            run.end()
            try:
                self._start(is_aside=False)
            except BundleError as error:
                self._failed = (time.monotonic() + _RETRY_SECONDS, str(error))
                raise
            self._failed = None


class _GoneError(Exception):
    """A child gives no answer any more, and why."""


class _Run:
    """One child, from its start to its end."""

    def __init__(self, module: str, words: Sequence[str], is_aside: bool, channels: int) -> None:
        # The last one that got free is taken first: each has a thread in the child, and a thread its own memory to compute in.
        self._free: queue.LifoQueue[socket.socket] = queue.LifoQueue()
        with contextlib.ExitStack() as stack:
            pairs = [socket.socketpair() for _ in range(channels)]
            theirs = [stack.enter_context(pair[1]).fileno() for pair in pairs]
            descriptors, aside = ",".join(map(str, theirs)), str(int(is_aside))
            self._process = subprocess.Popen(
                [sys.executable, "-m", module, descriptors, aside, *words],
                stdin=subprocess.DEVNULL,
                pass_fds=theirs,
            )
        for ours, _ in pairs:
            self._free.put(ours)

    def ask(self, request: Sequence[Any], seconds: float) -> Any:
        """Has a request answered.

        Raises:
          _GoneError: the child died, or hangs.
          Exception: what the child raised.
        """
        channel = self._free.get()
        try:
            channel.settimeout(seconds)
            send(channel, request)
            error, answer = receive(channel)
        except TimeoutError:
            channel.close()
            raise _GoneError(f"no answer within {seconds:g} s") from None
        except (OSError, EOFError):
            channel.close()
            raise _GoneError(self._status()) from None
        finally:
            self._free.put(channel)
        if error is not None:
            raise error
        return answer

    def end(self) -> None:
        """Ends the child, which holds nothing that would be lost, and takes its exit status."""
        self._process.kill()
        self._process.wait()
        idle = []
        with contextlib.suppress(queue.Empty):
            while True:
                idle.append(self._free.get_nowait())
        for channel in idle:  # those who wait for one find it closed; others find out by themselves
            channel.close()
            self._free.put(channel)

    def _status(self) -> str:
        """How the child ended."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            status = self._process.wait(1.0)  # it closed the connection, so it is ending
            return f"killed by {signal.Signals(-status).name}" if status < 0 else f"exit status {status}"
        return "it closed the connection"
