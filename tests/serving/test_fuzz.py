"""Random and broken requests never break the server, and never get a wrong reply."""

import threading
from pathlib import Path

import psutil

from benchmarks.serving_fuzz import Fuzzer
from serving import server as servers
from serving.client import wait_until_available
from serving.memory import give_back_memory
from tests.serving.conftest import wait_for


def test_hundreds_of_random_requests_get_an_answer_or_a_fitting_refusal(push_dir: Path) -> None:
    server = servers.start(push_dir, 0, poll_seconds=0.05, rest_port=0)
    wait_until_available(f"127.0.0.1:{server.port}")
    fuzzer = Fuzzer(f"127.0.0.1:{server.port}", server.rest_port, seed=3)
    fuzzer.run(400)  # which asks good requests in between, and at the end
    counts = fuzzer.counts
    assert sum(counts.values()) == 400
    # The requests are of every kind: without each of these, this test would show little.
    for status in ("OK", "INVALID_ARGUMENT", "NOT_FOUND", "RESOURCE_EXHAUSTED", "HTTP 200", "HTTP 400"):
        assert counts[status] > 0, counts
    server.stop()


def test_random_requests_leave_nothing_behind(push_dir: Path) -> None:
    (push_dir.parent / "batching.txt").write_text("")
    server = servers.start(
        push_dir, 0, rest_port=0, batching_parameters_file=str(push_dir.parent / "batching.txt"), cache_mb=1
    )
    wait_until_available(f"127.0.0.1:{server.port}")
    fuzzer = Fuzzer(f"127.0.0.1:{server.port}", server.rest_port, seed=5)
    process = psutil.Process()

    def held() -> tuple[int, int]:
        return threading.active_count(), process.num_fds()

    fuzzer.run(500)  # the pool has its threads, allocators have what they keep
    threads, files = held()
    grown, memory = [], _memory(process)
    for _ in range(4):
        fuzzer.run(500)
        before, memory = memory, _memory(process)
        grown.append(memory - before)
    wait_for(lambda: server._gate.in_flight == 0)
    assert not server._batcher._rows and not server._batcher._waiting
    # A pool begins one more thread where two requests meet; what one request in a hundred left would be twenty.
    wait_for(lambda: held()[0] < threads + 10 and held()[1] < files + 10)
    # Eight of each 500 requests are 10 MB long. Allocators keep now more, now less; what is left behind grows each time.
    assert min(grown) < 20 << 20 and sum(grown) < 100 << 20, [f"{more >> 20} MiB" for more in grown]
    server.stop()
    wait_for(lambda: threading.active_count() < threads)  # those of batches have ended


def _memory(process: psutil.Process) -> int:
    """Bytes in memory without what the C library keeps of freed ones."""
    give_back_memory()
    return int(process.memory_info().rss)
