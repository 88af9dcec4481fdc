"""Freed memory goes back to the system."""

import sys

import psutil
import pytest

from serving.memory import give_back_memory

_MB = 1 << 20


def held() -> float:
    """Memory that this process holds, without files that are mapped, which come and go, in MB."""
    info = psutil.Process().memory_info()
    return float(info.rss - getattr(info, "shared", 0)) / _MB


@pytest.mark.skipif(sys.platform != "linux", reason="glibc alone keeps freed memory")
def test_what_cycles_hold_and_the_c_library_keeps_goes_back() -> None:
    give_back_memory()
    before = held()
    cycle: list = [
        bytes(1000) for _ in range(200_000)
    ]  # small pieces, of which the C library keeps what is freed
    cycle.append(cycle)
    kept = cycle[100_000]  # one in the middle, so that the end of the heap is not all there is to return
    grown = held()
    del cycle
    assert grown > before + 150
    give_back_memory()
    assert held() < before + 50 and kept == bytes(1000)
