"""The baselines' own environment: made once, and a clear line where the index has not what it needs."""

import sys
from pathlib import Path

import pytest

from benchmarks.environment import LOCK, baseline_python, run_there
from transform.errors import TandemError


def test_what_is_installed_by_the_same_lock_is_used_as_it_is(tmp_path):
    (tmp_path / "bin").mkdir()
    python = tmp_path / "bin" / "python"
    python.write_text("")
    (tmp_path / LOCK.name).write_bytes(LOCK.read_bytes())
    assert baseline_python(tmp_path) == python


def test_an_index_without_the_packages_is_one_clear_line(tmp_path, monkeypatch):
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    lock = tmp_path / "requirements.lock"
    lock.write_text("no-such-package-anywhere==1.0\n")
    environment = tmp_path / "environment"
    with pytest.raises(
        TandemError, match="cannot be made .*no-such-package-anywhere==1.0.*; expected a package index"
    ):
        baseline_python(environment, lock)
    # What failed is not taken for installed the next time.
    assert not (environment / lock.name).exists()


def test_the_lock_pins_every_package_once():
    lines = LOCK.read_text().split()
    names = [line.split("==")[0] for line in lines]
    assert all(line.count("==") == 1 for line in lines) and len(set(names)) == len(names)
    assert {"implicit", "bm25s", "pystemmer", "sentence-transformers", "torch"} <= set(names)


def test_a_baseline_that_fails_is_an_error():
    with pytest.raises(TandemError, match="ended with exit status"):
        run_there(
            Path(sys.executable), "benchmarks.baselines.words", ["no-such-task.npz", "out.npz", "--depth", 1]
        )
