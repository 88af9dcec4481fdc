"""One run at a time; going back."""

import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.lock import only_run
from pipeline.rollback import rollback
from serving.bundle import publish, seal, verify_bundle, versions
from transform.errors import TandemError

ROOT = Path(__file__).parents[2]


@pytest.fixture
def push_dir(tmp_path):
    """Versions 5 and 6; 6 was warm-started from 5."""
    for version, spans, parent in ((5, (1, 2), None), (6, (1, 2, 3), 5)):
        bundle = tmp_path / f"bundle-{version}"
        bundle.mkdir()
        (bundle / "saved_model.pb").write_text(f"weights of {version}")
        seal(bundle, item_count=1, dimension=1, k=1, spans=spans, trained_until=float(version))
        metrics = {"view:all": {"recall_at_10": version / 10}}
        publish(bundle, tmp_path / "push", version, metrics=metrics, parent=parent)
    return str(tmp_path / "push")


def test_second_run_is_refused_while_the_first_holds_the_lock(push_dir):
    with (
        only_run(push_dir),
        pytest.raises(TandemError, match=r"another run pushes to .*process \d+ since"),
        only_run(push_dir),
    ):
        pass
    with only_run(push_dir):
        pass  # the first has ended


def test_rollback_serves_the_parent_again_and_the_next_run_starts_from_it(push_dir):
    version, number = rollback(push_dir)
    assert version == 5 and number == versions(push_dir)[-1] > 6
    manifest = verify_bundle(f"{push_dir}/{number}")
    assert (manifest.spans, manifest.trained_until, manifest.parent_version) == ((1, 2), 5.0, 5)
    assert Path(push_dir, str(number), "saved_model.pb").read_text() == "weights of 5"
    assert versions(push_dir)[:2] == [5, 6], "what was pushed stays"


@pytest.mark.parametrize(("version", "said"), [(7, "version 7 is not in"), (6, "newest and served already")])
def test_rollback_to_nowhere_is_refused(push_dir, version, said):
    with pytest.raises(TandemError, match=said):
        rollback(push_dir, version)
    assert versions(push_dir) == [5, 6]


def test_rollback_to_a_damaged_version_is_refused(push_dir):
    with open(f"{push_dir}/5/saved_model.pb", "a") as file:
        file.write("!")
    with pytest.raises(TandemError, match="damaged"):
        rollback(push_dir)
    assert versions(push_dir) == [5, 6]


def test_full_disk_leaves_nothing_half_done_and_the_same_command_succeeds_later(push_dir):
    """A write past the limit of a process fails as on a full disk."""
    before = sorted(os.listdir(push_dir))
    command = [sys.executable, "-m", "pipeline.cli", "rollback", "--push-dir", push_dir]

    def full():
        resource.setrlimit(resource.RLIMIT_FSIZE, (10, 10))

    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, preexec_fn=full)
    assert done.returncode == 2
    said = [line for line in done.stderr.splitlines() if line.startswith("tandem:")]
    assert len(said) == 1 and "with room for it" in said[0] and "Traceback" not in done.stderr, done.stderr
    assert sorted(os.listdir(push_dir)) == sorted({*before, ".run.lock", ".publish.lock"})
    assert versions(push_dir) == [5, 6]

    subprocess.run(command, cwd=ROOT, capture_output=True, check=True)
    verify_bundle(f"{push_dir}/{versions(push_dir)[2]}")
