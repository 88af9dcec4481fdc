"""One training run as the Trainer is asked for it: settings, where its input lies, where its output goes."""

import hashlib
import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import tensorflow as tf

from towers.settings import EncoderSettings, ModelSettings, TrainingSettings
from transform.features import HISTORIES
from transform.settings import FeatureSettings

STATE_DIRECTORY = "training_state"
SUMMARY_FILE = "training_summary.json"  # beside Format-Serving, in the model artifact


class Job(NamedTuple):
    """One training run, all of it parsed.

    Attributes:
      features, encoder, model, training: settings.
      train_files, eval_files, item_files: globs of transformed examples.
      transform_graph: directory of the transform output.
      serving_dir: where the SavedModel goes.
      state_dir: where the training state goes.
      log_dir: TensorBoard directory, or None.
      previous_state: training state to go on from, or None.
      checkpoint_dir: where to go on after a process died, seen by every worker; None, and a run that dies begins anew.
      checkpoint_seconds: between two checkpoints, at least.
      history_files: globs of transformed examples, where a co-occurrence view is made of them.
    """

    features: FeatureSettings
    encoder: EncoderSettings
    model: ModelSettings
    training: TrainingSettings
    train_files: list[str]
    eval_files: list[str]
    item_files: list[str]
    transform_graph: str
    serving_dir: str
    state_dir: str
    log_dir: str | None
    previous_state: str | None
    checkpoint_dir: str | None = None
    checkpoint_seconds: float = 300.0
    history_files: Sequence[str] = ()


def parse_job(fn_args: Any) -> Job:
    """Reads fn_args; the other splits lie beside the train split, the previous state inside base_model.

    Checkpoints lie where the next run with the same settings and input looks for them: beside the Trainer's outputs, whose
    own directories are other ones in each run.
    """
    config = fn_args.custom_config
    train_files = list(fn_args.train_files)
    beside = sorted({os.path.dirname(os.path.dirname(p)) for p in train_files})
    features = FeatureSettings.model_validate_json(config["features"])
    previous = None
    if fn_args.base_model:
        candidate = os.path.join(fn_args.base_model, "assets.extra", STATE_DIRECTORY)
        previous = candidate if tf.io.gfile.exists(fn_args.base_model) else None
    job = Job(
        features=features,
        encoder=EncoderSettings.model_validate_json(config["encoder"]),
        model=ModelSettings.model_validate_json(config["model"]),
        training=TrainingSettings.model_validate_json(config["training"]),
        train_files=train_files,
        eval_files=list(fn_args.eval_files),
        item_files=[os.path.join(parent, "Split-items", "*") for parent in beside],
        transform_graph=fn_args.transform_output,
        serving_dir=fn_args.serving_model_dir,
        state_dir=os.path.join(os.path.dirname(fn_args.serving_model_dir.rstrip("/")), STATE_DIRECTORY),
        log_dir=fn_args.model_run_dir,
        previous_state=previous,
        history_files=[os.path.join(parent, f"Split-{HISTORIES}", "*") for parent in beside]
        if features.cooccurrence_items
        else (),
    )
    component = Path(job.serving_dir).parents[2]
    return job._replace(checkpoint_dir=str(component / "checkpoints" / _digest(job)))


def clear_other_checkpoints(job: Job) -> None:
    """Takes away what trainings with other settings or input left when they were cut off."""
    own = Path(job.checkpoint_dir or "")
    for other in own.parent.glob("*") if job.checkpoint_dir else ():
        if other != own:
            shutil.rmtree(other, ignore_errors=True)


def _digest(job: Job) -> str:
    """Names settings and input; 16 hexadecimal digits."""
    inputs = [*job.train_files, *job.item_files, *job.history_files, job.transform_graph, job.previous_state]
    return hashlib.sha256((settings_text(job) + json.dumps(inputs)).encode()).hexdigest()[:16]


def is_trained(job: Job) -> bool:
    """Whether the job has been done; the summary is written last."""
    return summary_path(job).exists()


def summary_path(job: Job) -> Path:
    """Where the summary of the run goes."""
    return Path(job.state_dir).parent / SUMMARY_FILE


def settings_text(job: Job) -> str:
    """The settings as JSON, for people."""
    parts = {
        name: getattr(job, name).model_dump(mode="json")
        for name in ("features", "encoder", "model", "training")
    }
    return json.dumps(parts, indent=2)
