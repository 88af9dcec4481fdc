"""A run that is killed while it trains goes on when the same command is given again, in another execution's directory."""

import logging
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.towers.training_job import make_job
from towers.checkpoints import Checkpoints
from towers.job import clear_other_checkpoints, parse_job


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return make_job(tmp_path_factory.mktemp("job"), steps=75)


def as_tfx_asks(made, root, execution, **training):
    """What TFX's Trainer hands over in one execution: outputs below `root`, input and settings of `made`."""
    model = Path(root, "Trainer", "model", str(execution))
    settings = made.training.model_copy(update=training)
    parts = {"features": made.features, "encoder": made.encoder, "model": made.model, "training": settings}
    return SimpleNamespace(
        custom_config={name: part.model_dump_json() for name, part in parts.items()},
        train_files=made.train_files,
        eval_files=made.eval_files,
        transform_output=made.transform_graph,
        serving_model_dir=str(model / "Format-Serving"),
        model_run_dir=str(root / "logs" / str(execution)),
        base_model=None,
    )


def test_settings_and_input_name_where_checkpoints_lie(made, tmp_path):
    first = parse_job(as_tfx_asks(made, tmp_path, 7))
    again = parse_job(as_tfx_asks(made, tmp_path, 9))
    assert first.checkpoint_dir == again.checkpoint_dir and first.serving_dir != again.serving_dir
    assert Path(first.checkpoint_dir).parent == tmp_path / "Trainer" / "checkpoints"
    elsewhere = as_tfx_asks(made, tmp_path, 9)
    elsewhere.transform_output += "-of-another-day"
    others = [as_tfx_asks(made, tmp_path, 9, learning_rate=0.001), elsewhere]
    places = {parse_job(other).checkpoint_dir for other in others} | {first.checkpoint_dir}
    assert len(places) == 3


def test_what_a_killed_run_had_made_is_not_made_again(made, tmp_path, monkeypatch, caplog):
    from towers.trainer import train

    caplog.set_level(logging.INFO, "tandem.train")

    class Killed(Exception):
        """What a kill is to the process that is left."""

    class Kills(Checkpoints):
        def on_epoch_end(self, epoch, logs=None):
            super().on_epoch_end(epoch, logs)
            raise Killed

    killed = parse_job(as_tfx_asks(made, tmp_path, 7))._replace(checkpoint_seconds=0)
    with monkeypatch.context() as patch:
        patch.setattr("towers.trainer.Checkpoints", Kills)
        with pytest.raises(Killed):
            train(killed)
    assert "new item texts" in caplog.text
    stale = Path(killed.checkpoint_dir).with_name("of-other-settings")
    stale.mkdir()

    caplog.clear()
    again = parse_job(as_tfx_asks(made, tmp_path, 9))
    clear_other_checkpoints(again)
    assert not stale.exists() and Path(killed.checkpoint_dir).exists()
    summary = train(again)
    assert "going on from the checkpoint of step" in caplog.text and "new item texts" not in caplog.text
    assert summary["steps"] == summary["total_steps"] == 75
    assert not Path(again.checkpoint_dir).exists(), "a run that has ended needs none"
