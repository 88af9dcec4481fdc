"""A child process answers as a call would, and whatever becomes of it, no request is lost."""

import gc
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import psutil
import pytest
import tensorflow as tf

from serving import child_process
from serving.background import COMPUTING_NICE
from serving.child_process import RESTARTED, ChildProcess
from serving.manifest import BundleError

_WORKER = "tests.serving.echo_worker"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "state").write_text("ready")
    return tmp_path / "state"


def child(file: Path, is_aside: bool = False, channels: int = 4) -> ChildProcess:
    return ChildProcess(_WORKER, [str(file)], is_aside, channels)


Children = Callable[[], list[psutil.Process]]


@pytest.fixture
def children() -> Children:
    """Gives the children that this test started, dead ones that nobody waited for among them."""

    def all_of_them() -> list[psutil.Process]:
        found = psutil.Process().children()
        return [p for p in found if p.status() == psutil.STATUS_ZOMBIE or _WORKER in p.cmdline()]

    gc.collect()
    others = all_of_them()
    return lambda: [each for each in all_of_them() if each not in others]


def restarts() -> float:
    (metric,) = RESTARTED.collect()
    return metric.samples[0].value


def wait_until_dead(process: psutil.Process) -> None:
    while process.status() != psutil.STATUS_ZOMBIE:  # whoever waited for it would take its exit status
        time.sleep(0.01)


def test_answers_and_errors_get_through(file: Path) -> None:
    process = child(file)
    array = np.array([b"red mug", b"\xff\x00"], object)
    _, got = process.ask("echo", array, seconds=10)
    assert got.tolist() == array.tolist()
    got[:] = b"mine"  # who merges answers writes into them
    large = np.arange(3_000_000, dtype=np.float32)
    np.testing.assert_array_equal(process.ask("echo", large, seconds=10)[1], large)
    with pytest.raises(ValueError, match="not finite"):
        process.ask("raise", ValueError("not finite"), seconds=10)
    with pytest.raises(tf.errors.InvalidArgumentError, match="no example") as caught:
        process.ask("raise", tf.errors.InvalidArgumentError(None, None, "no example"), seconds=10)
    assert caught.value.message == "no example"
    assert process.ask("echo", 1, seconds=10) == ("echo", 1)


def test_an_answer_that_cannot_be_sent_is_an_error_at_once(file: Path) -> None:
    process = child(file, channels=1)
    with pytest.raises(TypeError, match="pickle"):
        process.ask("unsendable", seconds=10)
    assert process.ask("echo", 1, seconds=10) == ("echo", 1)
    assert process.said[0] == process.ask(seconds=10)[0]  # the same child


def test_threads_get_their_own_answers_and_wait_for_a_channel(file: Path) -> None:
    process = child(file, channels=2)
    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(lambda n: process.ask("echo", n, seconds=10), range(400)))
        begin = time.perf_counter()
        list(threads.map(lambda _: process.ask("sleep", 0.2, seconds=10), range(4)))
    assert answers == [("echo", n) for n in range(400)]
    assert time.perf_counter() - begin >= 0.4  # two at once


def test_requests_one_after_another_are_answered_by_one_thread(file: Path) -> None:
    process = child(file)  # each thread of the child that computes keeps memory of its own
    assert len({process.ask("thread", seconds=10) for _ in range(12)}) == 1


def test_a_child_that_dies_is_started_again_once_and_no_request_is_lost(
    file: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, children: Children
) -> None:
    process = child(file)
    (first,) = children()
    assert process.said[0] == first.pid
    before = restarts()
    with caplog.at_level(logging.WARNING, "tandem.serving"), ThreadPoolExecutor(3) as threads:
        waiting = [threads.submit(process.ask, "sleep", 1.0 + n, seconds=10) for n in (0, 0.1)]
        time.sleep(0.3)
        died = threads.submit(process.ask, "die once", str(tmp_path / "flag"), seconds=10)
        assert [each.result() for each in waiting] == [("sleep", 1.0), ("sleep", 1.1)]
        assert died.result()[0] == "die once"
    assert caplog.text.count(f"the process of {file} is started again: killed by SIGKILL") == 1
    assert restarts() == before + 1
    (second,) = children()
    assert second.pid != first.pid
    second.kill()
    wait_until_dead(second)
    assert process.ask("echo", 2, seconds=10) == ("echo", 2)
    assert restarts() == before + 2


def test_a_child_that_hangs_is_given_up(
    file: Path, caplog: pytest.LogCaptureFixture, children: Children
) -> None:
    process = child(file)
    (first,) = children()
    first.suspend()
    with caplog.at_level(logging.WARNING, "tandem.serving"):
        large = np.zeros(3_000_000, np.float32)  # more than the socket holds
        assert process.ask("echo", large, seconds=0.5)[0] == "echo"
    assert "is started again: no answer within 0.5 s" in caplog.text
    (second,) = children()
    assert second.pid != first.pid


def test_a_request_that_it_dies_of_each_time_is_an_error_and_others_are_answered(
    file: Path, children: Children
) -> None:
    process = child(file)
    with pytest.raises(RuntimeError, match="died of one request twice"):
        process.ask("die", seconds=10)
    assert process.ask("echo", 1, seconds=10) == ("echo", 1)
    assert len(children()) == 1


def test_one_that_cannot_be_started_again_is_an_error_each_time_and_tried_after_a_while(
    file: Path, monkeypatch: pytest.MonkeyPatch, children: Children
) -> None:
    process = child(file)
    (first,) = children()
    before = restarts()
    file.write_text("damaged")
    first.kill()
    for _ in range(2):
        with pytest.raises(BundleError, match="says 'damaged', expected 'ready'"):
            process.ask("echo", 1, seconds=10)
    assert not children()
    file.write_text("ready")
    with pytest.raises(BundleError, match="says 'damaged'"):  # not tried again so soon
        process.ask("echo", 1, seconds=10)
    later = time.monotonic() + child_process._RETRY_SECONDS
    monkeypatch.setattr(child_process.time, "monotonic", lambda: later)
    assert process.ask("echo", 1, seconds=10) == ("echo", 1)
    assert restarts() == before + 1


def test_one_that_does_not_get_ready_says_why_and_leaves_nothing(file: Path, children: Children) -> None:
    held = psutil.Process().num_fds()
    file.write_text("damaged")
    with pytest.raises(BundleError, match="says 'damaged', expected 'ready'"):
        child(file)
    file.write_text("dies")
    with pytest.raises(
        BundleError,
        match=r"state cannot be loaded \(reading it ended a process: exit status 3\), .* push it again",
    ):
        child(file)
    assert not children()
    gc.collect()
    assert psutil.Process().num_fds() == held


def test_it_ends_with_its_object_and_leaves_nothing(file: Path, children: Children) -> None:
    held = psutil.Process().num_fds()
    process = child(file)
    (first,) = children()
    first.kill()
    process.ask("echo", 1, seconds=10)
    (second,) = children()
    del process
    assert not children()
    assert not second.is_running()
    assert psutil.Process().num_fds() == held


def test_signals_to_the_group_are_the_servers(file: Path, children: Children) -> None:
    process = child(file)
    (first,) = children()
    for number in (signal.SIGINT, signal.SIGTERM):
        first.send_signal(number)
    assert process.ask("echo", 1, seconds=10) == ("echo", 1)
    assert children() == [first]


def test_it_ends_when_the_server_is_killed(file: Path) -> None:
    program = (
        "import sys; from serving.child_process import ChildProcess;"
        f" kept = ChildProcess({_WORKER!r}, [sys.argv[1]], False, 2);"
        " print(kept.said[0], flush=True); sys.stdin.read()"
    )
    server = subprocess.Popen(
        [sys.executable, "-c", program, str(file)],
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
def test_getting_ready_stands_aside_where_asked_and_answering_does_not(
    file: Path, children: Children
) -> None:
    ours = os.getpriority(os.PRIO_PROCESS, 0)
    for is_aside, policy in ((True, os.SCHED_IDLE), (False, os.SCHED_OTHER)):
        process = child(file, is_aside)
        assert process.said[1] == (policy, ours)
        assert process.ask("scheduled", seconds=10) == (os.SCHED_OTHER, min(ours + COMPUTING_NICE, 19))
