"""The indexes of a version in a process of their own: the same answers, whatever becomes of the process."""

import gc
import json
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from serving import index_process, index_worker
from serving.index import load_index
from serving.index_build import build_index
from serving.index_process import load_indexes
from serving.manifest import BundleError
from serving.scann_module import Searcher
from serving.settings import IndexSettings

_WORKER = "serving.index_worker"
VECTORS = np.random.default_rng(3).normal(size=(3000, 16)).astype(np.float32)


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """An index of partitions, and an exact one of fewer vectors."""
    root = tmp_path_factory.mktemp("indexes")
    build_index(VECTORS, IndexSettings(k=10, brute_force_below=0)).save(root / "partitioned")
    build_index(VECTORS[:500], IndexSettings(k=7)).save(root / "exact")
    return [root / "partitioned", root / "exact"]


Workers = Callable[[], list[psutil.Process]]


@pytest.fixture
def workers() -> Workers:
    """Gives the children that search, and those that nobody waited for, without those that other tests' bundles hold."""

    def children() -> list[psutil.Process]:
        found = psutil.Process().children()
        return [p for p in found if p.status() == psutil.STATUS_ZOMBIE or _WORKER in p.cmdline()]

    gc.collect()
    others = children()
    return lambda: [child for child in children() if child not in others]


@pytest.mark.parametrize("k", [None, 3, 40, 500])
def test_answers_are_those_of_an_index_in_this_process(saved: list[Path], k: int | None) -> None:
    there = load_indexes(saved, [10, 7], 0)
    for path, size, index in zip(saved, (10, 7), there, strict=True):
        here = load_index(path, k=size)
        assert (index.size, index.dimension, index.k, index.tuning) == (
            here.size,
            here.dimension,
            here.k,
            here.tuning,
        )
        expected, got = here.search(VECTORS[:30], k), index.search(VECTORS[:30], k)
        np.testing.assert_array_equal(got.rows, expected.rows)
        np.testing.assert_array_equal(got.scores, expected.scores)
        got.scores[:] += 1.0  # who merges a bonus writes into them


def test_threads_get_their_own_answers(saved: list[Path]) -> None:
    exact = load_indexes(saved, [10, 7], 0)[1]
    queries = VECTORS[:500].reshape(100, 5, 16)
    with ThreadPoolExecutor(4) as threads:
        found = list(threads.map(exact.search, queries))
    best = np.argmax(VECTORS[:500] @ VECTORS[:500].T, axis=1)
    np.testing.assert_array_equal(np.concatenate([each.rows[:, 0] for each in found]), best)


def test_a_process_that_dies_is_started_again_and_no_search_is_lost(
    saved: list[Path], caplog: pytest.LogCaptureFixture, workers: Workers
) -> None:
    index, _ = load_indexes(saved, [10, 7], 0)
    before = index.search(VECTORS[:5])
    (first,) = workers()
    (restarted,) = index_process.RESTARTED.collect()
    first.kill()
    while first.status() != psutil.STATUS_ZOMBIE:  # whoever waited for it would take its exit status
        time.sleep(0.01)
    with caplog.at_level(logging.WARNING, "tandem.serving"):
        np.testing.assert_array_equal(index.search(VECTORS[:5]).rows, before.rows)
    assert "is started again: killed by SIGKILL" in caplog.text
    (now,) = index_process.RESTARTED.collect()
    assert now.samples[0].value == restarted.samples[0].value + 1
    (second,) = workers()
    assert second.pid != first.pid


def test_a_process_that_hangs_is_given_up(
    saved: list[Path], monkeypatch: pytest.MonkeyPatch, workers: Workers
) -> None:
    monkeypatch.setattr(index_process, "_SEARCH_SECONDS", 0.5)
    index, _ = load_indexes(saved, [10, 7], 0)
    before = index.search(VECTORS[:5])
    (first,) = workers()
    first.suspend()
    np.testing.assert_array_equal(index.search(VECTORS[:5]).rows, before.rows)
    (second,) = workers()
    assert second.pid != first.pid


def test_a_process_that_cannot_be_started_again_is_an_error_each_time(
    saved: list[Path], tmp_path: Path, workers: Workers
) -> None:
    build_index(VECTORS[:50], IndexSettings(k=5)).save(tmp_path / "scann")
    (index,) = load_indexes([tmp_path / "scann"], [5], 0)
    (worker,) = workers()
    (tmp_path / "scann" / "scann_config.pb").write_bytes(b"no configuration")
    worker.kill()
    for _ in range(2):
        with pytest.raises(BundleError, match="is not an index .*: push the bundle again"):
            index.search(VECTORS[:5])
    assert not workers()


def test_the_process_ends_with_the_last_index_and_leaves_nothing(saved: list[Path], workers: Workers) -> None:
    held = psutil.Process().num_fds()
    first, second = load_indexes(saved, [10, 7], 0)
    (worker,) = workers()
    del first
    second.search(VECTORS[:2])
    del second
    assert not workers()
    assert not worker.is_running()
    assert psutil.Process().num_fds() == held


def test_signals_to_the_group_are_the_servers(saved: list[Path], workers: Workers) -> None:
    index, _ = load_indexes(saved, [10, 7], 0)
    (worker,) = workers()
    for number in (signal.SIGINT, signal.SIGTERM):
        worker.send_signal(number)
    index.search(VECTORS[:5])
    assert workers() == [worker]


def test_a_damaged_index_is_refused_with_what_is_wrong(
    saved: list[Path], tmp_path: Path, workers: Workers
) -> None:
    build_index(VECTORS[:50], IndexSettings(k=5)).save(tmp_path / "scann")
    (tmp_path / "scann" / "scann_config.pb").write_bytes(b"no configuration")
    with pytest.raises(
        BundleError, match=r"scann is not an index \(.*\), expected one: push the bundle again"
    ):
        load_indexes([saved[0], tmp_path / "scann"], [10, 5], 0)
    assert not workers()


def test_what_ends_the_process_while_it_reads_is_a_damaged_index(
    monkeypatch: pytest.MonkeyPatch, saved: list[Path], workers: Workers
) -> None:
    monkeypatch.setattr(index_process.sys, "executable", "/bin/false")
    with pytest.raises(BundleError, match=r"is not an index \(reading it ended a process: exit status 1\)"):
        load_indexes(saved, [10, 7], 0)
    assert not workers()


def test_the_process_ends_when_the_server_is_killed(saved: list[Path]) -> None:
    program = (
        "import sys, psutil; from pathlib import Path; from serving.index_process import load_indexes;"
        " kept = load_indexes([Path(sys.argv[1])], [10], 0);"
        " print(psutil.Process().children()[0].pid, flush=True); sys.stdin.read()"
    )
    server = subprocess.Popen(
        [sys.executable, "-c", program, str(saved[0])],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert server.stdout is not None and server.stdin is not None
    with server, server.stdout, server.stdin:
        worker = psutil.Process(int(server.stdout.readline()))
        server.kill()
        server.wait()
        until = time.monotonic() + 30
        while worker.is_running() and worker.status() != psutil.STATUS_ZOMBIE and time.monotonic() < until:
            time.sleep(0.02)
        assert time.monotonic() < until


@pytest.mark.skipif(sys.platform != "linux", reason="threads have no priority of their own")
def test_reading_the_indexes_gives_way_and_searching_them_does_not(
    saved: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    nice: list[int] = []

    def niceness() -> int:
        return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())

    class Recorded(Searcher):
        def search_batched(self, *given: Any) -> Any:
            nice.append(niceness())
            return super().search_batched(*given)

    load = index_worker.load_searcher
    monkeypatch.setattr(index_worker, "load_searcher", lambda path: nice.append(niceness()) or load(path))
    monkeypatch.setattr("serving.index.Searcher", Recorded)
    monkeypatch.setattr(index_worker.signal, "signal", lambda *_: None)  # this process keeps its own
    ours, theirs = socket.socketpair()
    index_worker.send(ours, index_worker.encode_request(1, VECTORS[:2], (7, -1, -1)))
    ours.shutdown(socket.SHUT_WR)
    before = niceness()
    with ours:
        index_worker.main([str(theirs.detach()), "4", *map(str, saved)])
        assert len(json.loads(index_worker.receive(ours))["configs"]) == 2
        rows, _ = index_worker.decode_answer(index_worker.receive(ours))
    assert rows[:, 0].tolist() == [0, 1]
    assert nice == [min(before + 4, 19)] * 2 + [before]


def test_it_searches_without_tensorflow() -> None:
    program = (
        "import sys, serving.index_worker, serving.scann_module as module; module.scann_module();"
        " assert 'tensorflow' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
