"""Who may compute now: a bounded number of requests in flight, and none for a caller who no longer waits."""

import contextlib
import threading
from collections.abc import Iterator
from typing import Protocol

from serving.request_inputs import RequestError


class Caller(Protocol):
    """Who waits for an answer.

    Attributes:
      entrypoint: "GRPC" or "REST", as TensorFlow Serving's metrics name them.
    """

    entrypoint: str

    def time_remaining(self) -> float | None:
        """Seconds until the caller's deadline, below 0 once it has passed; none where there is none."""

    def is_active(self) -> bool:
        """Whether the caller still waits."""


class RequestGate:
    """Lets requests in, up to a number, and gives each its turn to compute.

    Attributes:
      in_flight: requests that compute or wait for their turn.
    """

    def __init__(self, max_in_flight: int, workers: int) -> None:
        self.in_flight = 0
        self._most = max_in_flight
        self._lock = threading.Lock()
        self._turns = threading.Semaphore(workers)

    @contextlib.contextmanager
    def place(self, caller: Caller) -> Iterator[None]:
        """Counts a request as in flight.

        Raises:
          RequestError: RESOURCE_EXHAUSTED at once where too many are; DEADLINE_EXCEEDED or CANCELLED where the caller waits
            no longer.
        """
        with self._lock:
            if self.in_flight >= self._most:
                raise RequestError(
                    "RESOURCE_EXHAUSTED",
                    f"{self.in_flight} requests are in flight, expected fewer than {self._most}: try again"
                    " later, or ask another server",
                )
            self.in_flight += 1
        try:
            check_waits(caller)
            yield
        finally:
            with self._lock:
                self.in_flight -= 1

    @contextlib.contextmanager
    def turn(self, caller: Caller) -> Iterator[None]:
        """Holds a turn to compute; waits for it as long as the caller does.

        Raises:
          RequestError: as `place` does.
        """
        with self.place(caller):
            self._wait(caller)
            try:
                check_waits(caller)
                yield
            finally:
                self._turns.release()

    def _wait(self, caller: Caller) -> None:
        remaining = caller.time_remaining()
        timeout = None if remaining is None else min(max(remaining, 0.0), threading.TIMEOUT_MAX)
        if not self._turns.acquire(timeout=timeout):
            raise _late()


def check_waits(caller: Caller) -> None:
    """Lets a caller pass who still waits.

    Raises:
      RequestError: DEADLINE_EXCEEDED or CANCELLED.
    """
    remaining = caller.time_remaining()
    if remaining is not None and remaining <= 0:
        raise _late()
    if not caller.is_active():
        raise left(caller)


def left(caller: Caller) -> RequestError:
    """What is said of a caller who waits no longer."""
    remaining = caller.time_remaining()
    if remaining is not None and remaining <= 0:
        return _late()
    return RequestError("CANCELLED", "the caller left before the work was done")


def _late() -> RequestError:
    return RequestError("DEADLINE_EXCEEDED", "the deadline passed before the work was done")
