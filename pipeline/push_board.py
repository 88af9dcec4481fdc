"""PushBoard: the candidate and the previous push side by side in TensorBoard, one step a span."""

import json
import os

from tfx.dsl.component.experimental.annotations import InputArtifact, Parameter
from tfx.dsl.component.experimental.decorators import component
from tfx.types import artifact_utils, standard_artifacts
from tfx.utils import path_utils

from pipeline.drift import drift, read_catalogue
from pipeline.gate_report import GateReport, read_report
from pipeline.projector import write_projector
from pipeline.pusher import REPORT
from pipeline.sample_queries import sample_queries
from serving.bundle import read_manifest
from serving.embed_queries import read_examples
from serving.write_bundle import ITEMS

_SAMPLE = 12  # held-out requests whose best items are shown


@component
def PushBoard(
    bundle: InputArtifact[standard_artifacts.Model],
    previous_push: InputArtifact[standard_artifacts.Model],
    model_blessing: InputArtifact[standard_artifacts.ModelBlessing],
    pushed: InputArtifact[standard_artifacts.PushedModel],
    examples: InputArtifact[standard_artifacts.Examples],
    log_dir: Parameter[str],
) -> None:
    """Writes the figures of one run as scalars at the step of its newest span, what it finds, and its items for the projector.

    Args:
      bundle: what CatalogIndexer wrote.
      previous_push: the bundle it was compared with, or a record that there is none.
      model_blessing: Gatekeeper's report.
      pushed: whether the candidate was pushed.
      examples: raw; some rows of split eval are asked as sample queries.
      log_dir: `<log_dir>/candidate` and `<log_dir>/previous` get event files.
    """
    import tensorflow as tf
    from pyarrow import parquet

    candidate = path_utils.serving_model_path(bundle.uri)
    previous = path_utils.serving_model_dir(previous_push.uri)
    report = read_report(model_blessing.uri)
    with open(os.path.join(pushed.uri, REPORT), encoding="utf-8") as file:
        version = json.load(file)["version"]
    scalars = {"candidate": {**metrics(report, "candidate"), "push/pushed": float(version is not None)}}
    if os.path.isdir(previous):
        scalars["previous"] = metrics(report, "previous")
        scalars["candidate"] |= forgetting(report) | _drift(candidate, previous)
    step = max(read_manifest(candidate).spans, default=0)
    for run, values in scalars.items():
        with tf.summary.create_file_writer(os.path.join(log_dir, run)).as_default(step):
            for tag, value in values.items():
                tf.summary.scalar(tag, value)
    items = parquet.read_table(os.path.join(candidate, ITEMS))
    rows = read_examples(artifact_utils.get_split_uri([examples], "eval"), _SAMPLE)
    with tf.summary.create_file_writer(os.path.join(log_dir, "candidate")).as_default(step):
        tf.summary.text("sample_queries", sample_queries(candidate, rows, items))
    write_projector(os.path.join(log_dir, "candidate"), read_catalogue(candidate), items)


def metrics(report: GateReport, of: str) -> dict[str, float]:
    """Tag "metric/view" -> mean, of the candidate or the previous push."""
    means = {view: getattr(means, of) or {} for view, means in report.views.items()}
    return {f"{metric}/{view}": value for view, values in means.items() for metric, value in values.items()}


def forgetting(report: GateReport) -> dict[str, float]:
    """Tag "forgetting/metric" -> relative change on requests of older days, -0.05 for a twentieth lost."""
    anchor = report.views.get("anchor")
    if anchor is None or anchor.previous is None:
        return {}
    return {
        f"forgetting/{metric}": anchor.candidate[metric] / before - 1
        for metric, before in anchor.previous.items()
        if before > 0
    }


def _drift(candidate: str, previous: str) -> dict[str, float]:
    found = drift(read_catalogue(candidate), read_catalogue(previous))
    scalars = {
        "items/new_share": found.new_share,
        "items/cosine_distance": found.cosine_distance,
        "items/norm_ratio": found.norm_ratio,
    }
    return {tag: value for tag, value in scalars.items() if value is not None}
