"""Work in the background gives way, and what it returns and raises gets through."""

import os
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from serving.background import AT_ONCE, COMPUTING_NICE, GIVING_WAY, Pace, aside
from serving.batching import Batcher, BatchingParameters


def test_after_what_held_the_lock_it_rests_so_many_times_as_long() -> None:
    begin = time.perf_counter()
    with Pace(rest=3, nice=0, aside=False).with_lock():
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


@pytest.mark.skipif(sys.platform != "linux", reason="threads have no priority of their own")
def test_what_stands_aside_and_the_threads_it_starts_get_what_nobody_wants() -> None:
    def inside() -> list[int]:
        with ThreadPoolExecutor(1) as started:
            return [os.sched_getscheduler(0), started.submit(os.sched_getscheduler, 0).result()]

    assert aside(inside) == [os.SCHED_IDLE, os.SCHED_IDLE]
    assert os.sched_getscheduler(0) == os.SCHED_OTHER
    with pytest.raises(ZeroDivisionError):
        aside(lambda: 1 // 0)


@pytest.mark.skipif(sys.platform != "linux", reason="threads have no priority of their own")
def test_batches_are_computed_after_who_listens_and_before_what_loads() -> None:
    before = os.getpriority(os.PRIO_PROCESS, threading.get_native_id())

    def run(*_: Any) -> dict[str, Any]:
        return {"nice": np.array([os.getpriority(os.PRIO_PROCESS, threading.get_native_id())])}

    bundle: Any = SimpleNamespace(manifest=SimpleNamespace(version=1), run=run)
    patient: Any = SimpleNamespace(time_remaining=lambda: None, is_active=lambda: True)
    batcher = Batcher(BatchingParameters(num_batch_threads=1))
    batcher.start()
    try:
        inside = batcher.run(bundle, "exact", {"query": np.array([b"red mug"])}, patient)["nice"][0]
    finally:
        batcher.stop()
    assert inside == min(before + COMPUTING_NICE, 19) and before < inside < before + GIVING_WAY.nice
    assert os.getpriority(os.PRIO_PROCESS, threading.get_native_id()) == before


@pytest.mark.parametrize("pace", [AT_ONCE, GIVING_WAY])
def test_results_and_errors_get_through(pace: Pace) -> None:
    assert pace.without_lock(lambda: 3) == 3
    with pytest.raises(ZeroDivisionError):
        pace.without_lock(lambda: 1 // 0)
    with pytest.raises(ZeroDivisionError), pace.with_lock():
        _ = 1 // 0
