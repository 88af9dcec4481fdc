"""Runs InteractionGen's executor as TFX would, without a pipeline around it."""

import json
from pathlib import Path

from tfx.types import standard_artifacts

from transform.interaction_gen import InteractionGen
from transform.settings import DataSettings, FeatureSettings

# With an image named, TFX does not pack itself for remote workers, which takes 4 s; nothing reads it in process.
IN_PROCESS = (
    "--runner=apache_beam.runners.portability.fn_api_runner.FnApiRunner",
    "--sdk_container_image=in-process",
)
NO_PUSH = {"version": None, "trained_until": None, "spans": []}


def run_interaction_gen(root, data, features=None, *, previous=None, span=-1, beam_args=IN_PROCESS):
    """Writes the component's artifact to `root`/examples.

    Args:
      root: a directory.
      data: DataSettings, or the path of a dataset.
      features: FeatureSettings; None for the default ones.
      previous: content of previous_push.json; None for a bootstrap.
      span: newest span to use.

    Returns:
      The Examples artifact.
    """
    root = Path(root)
    if not isinstance(data, DataSettings):
        data = DataSettings(dataset=str(data))
    push = standard_artifacts.Model()
    push.uri = str(root / "push")
    Path(push.uri).mkdir(parents=True)
    (root / "push/previous_push.json").write_text(json.dumps(previous or NO_PUSH))
    examples = standard_artifacts.Examples()
    examples.uri = str(root / "examples")
    Path(examples.uri).mkdir()
    executor_class = InteractionGen.EXECUTOR_SPEC.executor_class
    executor = executor_class(
        executor_class.Context(beam_pipeline_args=list(beam_args), tmp_dir=str(root / "tmp"), unique_id="0")
    )
    executor.Do(
        {"previous_push": [push]},
        {"examples": [examples]},
        {
            "data": data.model_dump_json(),
            "features": (features or FeatureSettings()).model_dump_json(),
            "span": span,
            "input_fingerprint": "",
        },
    )
    return examples
