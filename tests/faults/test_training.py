"""A training that stops early and has hard negatives is killed halfway, and ends as an undisturbed one does."""

import json
import logging

import numpy as np
import pytest
from safetensors.numpy import load_file

from towers.checkpoints import Checkpoints

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def job(tmp_path_factory):
    from tests.towers.training_job import make_job

    return make_job(
        tmp_path_factory.mktemp("job"),
        steps=250,
        early_stopping=3,
        evaluation_steps=50,
        hard_negatives=2,
        learning_rate=0.002,
    )


class Killed(Exception):
    """What a kill is to the process that is left."""


def said(caplog):
    """Losses and evaluations of each stretch."""
    return [m.split(" pairs/s")[0].rsplit(",", 1)[0] for m in caplog.messages if m.startswith("step ")]


def test_a_killed_training_ends_with_the_weights_of_an_undisturbed_one(job, tmp_path, monkeypatch, caplog):
    from tests.towers.training_job import places
    from towers.trainer import train

    caplog.set_level(logging.INFO, "tandem.train")
    runs = {
        name: job._replace(
            **places(tmp_path / name), checkpoint_dir=str(tmp_path / name / "kept"), checkpoint_seconds=0
        )
        for name in ("calm", "killed")
    }
    calm = train(runs["calm"])
    assert "training requests held out" in caplog.text and "hard negatives of" in caplog.text
    undisturbed = said(caplog)

    class Kills(Checkpoints):
        def on_epoch_end(self, epoch, logs=None):
            super().on_epoch_end(epoch, logs)
            if self._done >= 150:  # past the middle, where hard negatives were mined
                raise Killed

    with monkeypatch.context() as patch:
        patch.setattr("towers.trainer.Checkpoints", Kills)
        with pytest.raises(Killed):
            train(runs["killed"])
    caplog.clear()
    again = train(runs["killed"])
    assert "going on from the checkpoint of step 175" in caplog.text
    assert "hard negatives of" not in caplog.text, "what was mined is kept"
    late = said(caplog)
    assert late and late == [line for line in undisturbed if line in late], (undisturbed, late)
    assert (again["total_steps"], again["metrics"]) == (calm["total_steps"], pytest.approx(calm["metrics"]))
    states = [
        load_file(tmp_path / name / "model" / "training_state" / "arrays.safetensors")
        for name in ("calm", "killed")
    ]
    for name, value in states[0].items():
        np.testing.assert_allclose(states[1][name], value, atol=1e-5, err_msg=name)
    description = json.loads((tmp_path / "calm/model/training_state/state.json").read_text())
    assert description["step"] == calm["total_steps"] == calm["steps"]
