"""Pusher: makes a blessed bundle the newest version, visible only when whole."""

import json
import os

from tfx.dsl.component.experimental.annotations import InputArtifact, OutputArtifact, Parameter
from tfx.dsl.component.experimental.decorators import component
from tfx.types import standard_artifacts
from tfx.utils import path_utils

from pipeline.evaluator import slice_metrics
from pipeline.gate_report import read_report
from pipeline.previous_push import RECORD
from serving import bundle as bundles

REPORT = "push.json"


@component
def Pusher(
    bundle: InputArtifact[standard_artifacts.Model],
    evaluation: InputArtifact[standard_artifacts.ModelEvaluation],
    model_blessing: InputArtifact[standard_artifacts.ModelBlessing],
    index_blessing: InputArtifact[standard_artifacts.InfraBlessing],
    previous_push: InputArtifact[standard_artifacts.Model],
    pushed: OutputArtifact[standard_artifacts.PushedModel],
    push_dir: Parameter[str],
) -> None:
    """Publishes the bundle if both validators bless it; otherwise writes why not and leaves the push directory alone.

    Args:
      bundle: what CatalogIndexer wrote.
      evaluation: TFMA's results; its metrics go into the manifest.
      model_blessing: Gatekeeper's report.
      index_blessing: custom property `blessed` is 1 when the index kept its recall and latency.
      previous_push: becomes the parent in the manifest.
      pushed: `<uri>/push.json` holds version, path and the reasons of a refusal.
      push_dir: the directory of versions.
    """
    reasons = list(read_report(model_blessing.uri).refusals)
    if not index_blessing.get_int_custom_property("blessed"):
        reasons.append(index_blessing.get_string_custom_property("reason"))
    version, path = 0, ""
    if not reasons:
        with open(os.path.join(previous_push.uri, RECORD), encoding="utf-8") as file:
            parent = json.load(file)["version"]
        version = bundles.next_version(push_dir)
        path = str(
            bundles.publish(
                path_utils.serving_model_path(bundle.uri),
                push_dir,
                version,
                metrics=slice_metrics(evaluation.uri),
                parent=parent,
            )
        )
    pushed.set_int_custom_property("pushed", int(not reasons))
    pushed.set_string_custom_property("pushed_destination", path)
    pushed.set_string_custom_property("pushed_version", str(version))
    os.makedirs(pushed.uri, exist_ok=True)
    with open(os.path.join(pushed.uri, REPORT), "w", encoding="utf-8") as file:
        json.dump({"version": version or None, "path": path, "refused": reasons}, file, indent=2)
