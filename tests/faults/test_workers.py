"""Two workers that train together: each is killed once, both come back, and the model is the one of an undisturbed run."""

import json
import time
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from tests.towers.cluster import start, tf_configs
from towers.worker import WORKER_LOST

pytestmark = pytest.mark.slow
STEPS = 600


class Pair:
    """A chief and a worker that are started again as the training operator does, under the same TF_CONFIG."""

    def __init__(self, root, job):
        from tests.towers.training_job import places
        from towers.worker import write_job

        self.root = root
        root.mkdir()
        shared = job._replace(
            **places(root / "chief"), checkpoint_dir=str(root / "checkpoints"), checkpoint_seconds=0
        )
        # The worker has places of its own, so that whatever it writes is seen.
        write_job(root / "0.json", shared)
        write_job(root / "1.json", shared._replace(**places(root / "worker")))
        self._configs = tf_configs(2)
        self.processes = [None, None]

    def start(self):
        for n, config in enumerate(self._configs):
            self.processes[n] = start(
                "towers.worker", self.root / f"{n}.json", tf_config=config, log=self.root / f"{n}.log"
            )

    def said(self, n):
        log = self.root / f"{n}.log"
        return log.read_text() if log.exists() else ""

    def wait_for(self, n, text, times=1):
        until = time.monotonic() + 900
        while self.said(n).count(text) < times:
            assert self.processes[n].poll() is None, self.said(n)
            assert time.monotonic() < until, self.said(n)
            time.sleep(0.02)

    def end(self):
        return [process.wait(timeout=900) for process in self.processes]

    def kill(self):
        for process in self.processes:
            if process is not None and process.poll() is None:
                process.kill()
                process.wait()


@pytest.fixture(scope="module")
def job(tmp_path_factory):
    from tests.towers.training_job import make_job

    return make_job(tmp_path_factory.mktemp("job"), steps=STEPS)


@pytest.fixture
def pair(tmp_path, job):
    pairs = []

    def make(name):
        pairs.append(Pair(tmp_path / name, job))
        pairs[-1].start()
        return pairs[-1]

    yield make
    for one in pairs:
        one.kill()


def state(pair):
    return load_file(pair.root / "chief" / "model" / "training_state" / "arrays.safetensors")


def test_killed_workers_come_back_and_end_where_they_would_have(pair):
    calm = pair("calm")
    assert calm.end() == [0, 0], calm.said(0) + calm.said(1)

    disturbed = pair("disturbed")
    for victim in (1, 0):
        before = disturbed.said(0).count("checkpoint of step")
        disturbed.wait_for(0, "checkpoint of step", before + 1)
        disturbed.processes[victim].kill()
        codes = (
            disturbed.end()
        )  # the other one does not wait for ever: it ends by itself, to be started again
        assert (codes[victim], codes[1 - victim]) == (-9, WORKER_LOST), disturbed.said(1 - victim)
        disturbed.start()
        disturbed.wait_for(0, "going on from the checkpoint of step", 2 - victim)
    assert disturbed.end() == [0, 0], disturbed.said(0) + disturbed.said(1)

    expected, found = state(calm), state(disturbed)
    assert set(found) == set(expected)
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, atol=1e-5, err_msg=name)
    summary = json.loads(Path(disturbed.root, "chief/model/training_summary.json").read_text())
    assert (summary["workers"], summary["replicas"], summary["total_steps"]) == (2, 2, STEPS)
    only_the_chief_wrote(disturbed)
    what_is_done_is_not_done_again(disturbed)


def only_the_chief_wrote(pair):
    assert (pair.root / "chief/model/Format-Serving/saved_model.pb").exists()
    assert list((pair.root / "chief/logs").glob("events.*"))
    assert not (pair.root / "worker").exists()
    assert "checkpoint of step" not in pair.said(1).replace("going on from the checkpoint of step", "")
    assert not (pair.root / "checkpoints").exists(), "what they were for is done"


def what_is_done_is_not_done_again(pair):
    once_more = start("towers.worker", pair.root / "0.json", log=pair.root / "again.log")
    assert once_more.wait(timeout=900) == 0
    assert "trained before" in (pair.root / "again.log").read_text()
