"""Work in the background gives way, and what it returns and raises gets through."""

import os
import sys
import threading
import time

import pytest

from serving.background import AT_ONCE, GIVING_WAY, Pace


def test_after_what_held_the_lock_it_rests_so_many_times_as_long() -> None:
    begin = time.perf_counter()
    with Pace(rest=3, nice=0).with_lock():
        time.sleep(0.05)
        worked = time.perf_counter() - begin
    assert time.perf_counter() - begin >= 4 * worked - 0.005


@pytest.mark.skipif(sys.platform != "linux", reason="threads have no priority of their own")
def test_only_the_thread_that_works_gives_way() -> None:
    before = os.getpriority(os.PRIO_PROCESS, threading.get_native_id())
    inside = GIVING_WAY.without_lock(lambda: os.getpriority(os.PRIO_PROCESS, threading.get_native_id()))
    assert inside == min(before + GIVING_WAY.nice, 19) and inside > before
    assert os.getpriority(os.PRIO_PROCESS, threading.get_native_id()) == before
    at_once = AT_ONCE.without_lock(lambda: os.getpriority(os.PRIO_PROCESS, threading.get_native_id()))
    assert at_once == before


@pytest.mark.parametrize("pace", [AT_ONCE, GIVING_WAY])
def test_results_and_errors_get_through(pace: Pace) -> None:
    assert pace.without_lock(lambda: 3) == 3
    with pytest.raises(ZeroDivisionError):
        pace.without_lock(lambda: 1 // 0)
    with pytest.raises(ZeroDivisionError), pace.with_lock():
        _ = 1 // 0
