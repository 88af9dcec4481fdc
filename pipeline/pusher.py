"""Pusher: makes a blessed bundle the newest version, visible only when whole, and keeps a line of every verdict."""

import datetime
import json
import logging
import os
import time

from tfx.dsl.component.experimental.annotations import InputArtifact, OutputArtifact, Parameter
from tfx.dsl.component.experimental.decorators import component
from tfx.types import standard_artifacts
from tfx.utils import path_utils

from pipeline import push_log
from pipeline.evaluator import slice_metrics
from pipeline.gate_report import TABLE, read_report
from pipeline.previous_push import RECORD
from serving import bundle as bundles
from transform.interaction_report import REPORT as INTERACTIONS

REPORT = "push.json"

logger = logging.getLogger("tandem.push")


@component
def Pusher(
    bundle: InputArtifact[standard_artifacts.Model],
    examples: InputArtifact[standard_artifacts.Examples],
    evaluation: InputArtifact[standard_artifacts.ModelEvaluation],
    model_blessing: InputArtifact[standard_artifacts.ModelBlessing],
    index_blessing: InputArtifact[standard_artifacts.InfraBlessing],
    previous_push: InputArtifact[standard_artifacts.Model],
    pushed: OutputArtifact[standard_artifacts.PushedModel],
    push_dir: Parameter[str],
    started: Parameter[float] = 0.0,
) -> None:
    """Publishes the bundle if both validators bless it; otherwise writes why not and leaves the versions alone.

    Args:
      bundle: what CatalogIndexer wrote.
      examples: raw; `interactions.json` says how many targets were trained on.
      evaluation: TFMA's results; its metrics go into the manifest.
      model_blessing: Gatekeeper's report.
      index_blessing: custom property `blessed` is 1 when the index kept its recall and latency.
      previous_push: becomes the parent in the manifest.
      pushed: `<uri>/push.json` holds version, path, the reasons of a refusal, and where the gates' table is.
      push_dir: the directory of versions; `history.jsonl` in it gets a line.
      started: when the run started, seconds UTC; 0 where that is not known.
    """
    gates = read_report(model_blessing.uri)
    reasons = list(gates.refusals)
    if not index_blessing.get_int_custom_property("blessed"):
        reasons.append(index_blessing.get_string_custom_property("reason"))
    with open(os.path.join(previous_push.uri, RECORD), encoding="utf-8") as file:
        parent = json.load(file)["version"]
    with open(os.path.join(examples.uri, INTERACTIONS), encoding="utf-8") as file:
        targets = json.load(file)["counts"]["train_targets"]
    candidate = path_utils.serving_model_path(bundle.uri)
    version, path = 0, ""
    if not reasons:
        version = bundles.next_version(push_dir)
        path = str(
            bundles.publish(
                candidate, push_dir, version, metrics=slice_metrics(evaluation.uri), parent=parent
            )
        )
    entry = push_log.Entry(
        time=datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        version=version or None,
        parent=parent,
        spans=bundles.read_manifest(candidate).spans,
        examples=targets,
        seconds=round(time.time() - started, 1) if started else None,
        metrics={view: means.candidate for view, means in gates.views.items()},
        refused=tuple(reasons),
    )
    try:
        push_log.append(push_dir, entry)
    except OSError as error:  # the verdict stands, and a pushed version is served already
        logger.warning("no line was added to %s in %s: %s", push_log.LOG, push_dir, error)
    pushed.set_int_custom_property("pushed", int(not reasons))
    pushed.set_string_custom_property("pushed_destination", path)
    pushed.set_string_custom_property("pushed_version", str(version))
    report = {
        "version": version or None,
        "path": path,
        "refused": reasons,
        "gates": os.path.join(model_blessing.uri, TABLE),
    }
    os.makedirs(pushed.uri, exist_ok=True)
    with open(os.path.join(pushed.uri, REPORT), "w", encoding="utf-8") as file:
        json.dump(report, file, indent=2)
