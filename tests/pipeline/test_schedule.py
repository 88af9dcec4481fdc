"""`tandem schedule`: one run after the other, whatever becomes of each, until SIGTERM."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest

from pipeline.cli import main
from pipeline.lock import only_run
from serving.bundle import publish, seal, versions
from tests.pipeline.conftest import mini_profile

ROOT = Path(__file__).parents[2]


@pytest.fixture
def learnt(tmp_path):
    """A profile and a push that has learnt all spans there are."""
    from tests.mini_shop import write_mini_shop

    write_mini_shop(tmp_path / "shop", spans=2)
    bundle = tmp_path / "bundle"
    bundle.mkdir()
    (bundle / "saved_model.pb").write_text("weights")
    seal(bundle, item_count=1, dimension=1, k=1, spans=(1, 2), trained_until=1.0)
    publish(bundle, tmp_path / "push", 5)
    return mini_profile(tmp_path)


@pytest.fixture
def schedule(learnt):
    """The schedule as a process, ticking once a second."""
    command = [sys.executable, "-m", "tests.pipeline.run_schedule", str(learnt)]
    process = subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, bufsize=1
    )
    too_long = threading.Timer(120, process.kill)  # then what is waited for does not come, and reading ends
    too_long.start()
    yield process
    too_long.cancel()
    if process.poll() is None:
        process.kill()
        process.communicate()


def wait_for(process, text):
    """Reads on until a line holds `text`; returns what was read."""
    said = []
    for line in process.stdout:
        said.append(line)
        if text in line:
            return "".join(said)
    raise AssertionError(f"ended without {text!r}: {''.join(said)}")


def held_run(process):
    """The next run, stopped so that it does not end before it is resumed."""
    wait_for(process, "retrain starts")
    schedule = psutil.Process(process.pid)
    # Until it runs its own program, the schedule waits for it with the interpreter lock in its hands.
    while not (run := [c for c in schedule.children() if c.cmdline() not in ([], schedule.cmdline())]):
        time.sleep(0.01)
    run[0].suspend()
    return run[0]


def test_it_goes_on_after_a_failure_skips_while_another_runs_and_ends_when_told(schedule, learnt, tmp_path):
    assert "next at" in wait_for(schedule, "mini is retrained at")
    assert "nothing to do: version 5 has learnt span 2" in wait_for(schedule, "retrain ended: done")

    os.rename(tmp_path / "shop", tmp_path / "elsewhere")
    assert "tandem: " in wait_for(schedule, "retrain failed with exit status 2; the next tick tries again")
    os.rename(tmp_path / "elsewhere", tmp_path / "shop")
    wait_for(schedule, "retrain ended: done")

    with only_run(str(tmp_path / "push")):
        wait_for(schedule, "retrain ended: another run was going, so this one was skipped")
    run = held_run(schedule)
    schedule.send_signal(signal.SIGTERM)
    assert "retrain ended" not in wait_for(schedule, "stopping")
    run.resume()
    rest = schedule.communicate()[0]
    assert schedule.returncode == 0
    # The run that was going had its end.
    assert "retrain ended: done" in rest, rest
    assert versions(tmp_path / "push") == [5]


def test_a_cron_line_that_is_none_ends_it_at_once(learnt, capsys):
    assert main(["schedule", "--profile", str(learnt), "--cron", "0 3 * *"]) == 2
    assert "4 fields; expected five" in capsys.readouterr().err
