"""Work that others must not wait for: it takes what they leave of the lock and of the cores."""

import contextlib
import os
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple, TypeVar

Result = TypeVar("Result")


class Pace(NamedTuple):
    """How far work gives way.

    Attributes:
      rest: how long it rests after what held the interpreter lock, in multiples of what that took.
      nice: added to the niceness of a thread that computes without the lock, where a thread has one of its own.
      aside: whether a process of its own that this starts only takes what nobody else wants of the cores.
    """

    rest: float
    nice: int
    aside: bool

    @contextlib.contextmanager
    def with_lock(self) -> Iterator[None]:
        """For a block that holds the interpreter lock; those who wait for it come in after the block."""
        begin = time.perf_counter()
        yield
        time.sleep(self.rest * (time.perf_counter() - begin))

    def without_lock(self, work: Callable[[], Result]) -> Result:
        """Does what computes without the lock in a thread that the others go before."""
        with ThreadPoolExecutor(1, initializer=give_way, initargs=(self.nice,)) as thread:
            return thread.submit(work).result()


# Nobody waits.
AT_ONCE = Pace(0, 0, False)
# Of threads that compute batches: whoever reads requests and sends answers goes first, so that the next batch is full and
# clients on the same machine get theirs.
COMPUTING_NICE = 5
# Queries are answered meanwhile. At half load those that waited for the lock need as long again until they are through,
# so that half of the rest is spare. Ten levels of niceness are a tenth of what a thread that computes batches gets.
GIVING_WAY = Pace(4, COMPUTING_NICE + 10, True)


def give_way(nice: int) -> None:
    """Adds to the niceness of the calling thread; there is no way back."""
    if sys.platform == "linux":  # elsewhere a thread has no priority of its own
        os.nice(nice)


def aside(work: Callable[[], Result]) -> Result:
    """Does work in a thread, and those that it starts, to which the scheduler gives what nobody else wants.

    For a process of its own: where others wait for a lock that the thread holds, they wait until all are idle.
    """
    with ThreadPoolExecutor(1, initializer=_stand_aside) as thread:
        return thread.submit(work).result()


def _stand_aside() -> None:
    if sys.platform == "linux":
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
