"""StrictExampleValidator: a run that stops before training where the data breaks the schema or is a bad day."""

import json
import logging
import os
import shlex
from typing import Any

import tensorflow_data_validation as tfdv
from tensorflow_metadata.proto.v0 import anomalies_pb2
from tfx.components.example_validator import executor
from tfx.components.statistics_gen import stats_artifact_utils
from tfx.dsl.component.experimental.annotations import InputArtifact, OutputArtifact, Parameter
from tfx.dsl.component.experimental.decorators import component
from tfx.types import artifact_utils, standard_artifacts
from tfx.utils import io_utils, path_utils, writer_utils

from pipeline.bad_days import (
    DRIFT_TYPES,
    NOT_COMPARABLE,
    Anomaly,
    drifted,
    missing_values,
    odd_spans,
)
from serving.write_bundle import BASELINE
from transform.bad_day_settings import BadDaySettings
from transform.baseline import read_baseline
from transform.errors import TandemError
from transform.settings import FeatureSettings
from transform.span_counts import from_json

REPORT = "bad_day.json"
logger = logging.getLogger("tandem.pipeline")


@component
def StrictExampleValidator(
    statistics: InputArtifact[standard_artifacts.ExampleStatistics],
    schema: InputArtifact[standard_artifacts.Schema],
    examples: InputArtifact[standard_artifacts.Examples],
    previous_push: InputArtifact[standard_artifacts.Model],
    anomalies: OutputArtifact[standard_artifacts.ExampleAnomalies],
    features: Parameter[str],
    bad_days: Parameter[str],
) -> None:
    """Checks each split in the schema environment of its name, and the new spans against the previous push.

    Args:
      statistics: of the examples.
      schema: the curated schema; its drift comparators have the bars for features.
      examples: `interactions.json` has the counts of spans.
      previous_push: its baseline is what the data is compared with; nothing at bootstrap.
      anomalies: one TFDV file a split, and `<uri>/bad_day.json` with what was let through.
      features: `FeatureSettings` as JSON.
      bad_days: `BadDaySettings` as JSON.

    Raises:
      TandemError: a split breaks the schema, or an anomaly is not allowed; the message has all of them in words,
        and the names that let them through.
    """
    declared = FeatureSettings.model_validate_json(features)
    bars = BadDaySettings.model_validate_json(bad_days)
    curated = io_utils.SchemaReader().read(io_utils.get_only_uri_in_dir(schema.uri))
    baseline = read_baseline(os.path.join(path_utils.serving_model_dir(previous_push.uri), BASELINE))
    with open(os.path.join(examples.uri, "interactions.json"), encoding="utf-8") as file:
        interactions = json.load(file)
    splits = artifact_utils.decode_split_names(statistics.split_names)
    anomalies.split_names = artifact_utils.encode_split_names(splits)
    anomalies.span = statistics.span
    broken: list[str] = []
    found = odd_spans(
        from_json(interactions["span_counts"]), interactions["new_spans"], list(baseline.spans), bars
    )
    for split in splits:
        now = stats_artifact_utils.load_statistics(statistics, split).proto()
        before = baseline.statistics.get(split)
        result = tfdv.validate_statistics(now, curated, environment=split, previous_statistics=before)
        path = os.path.join(artifact_utils.get_split_uri([anomalies], split), executor.DEFAULT_FILE_NAME)
        writer_utils.write_anomalies(path, result)
        broken += describe_broken(split, result)
        for name, info in sorted(result.anomaly_info.items()):
            found += drifted(split, name, info.reason)
        if before is not None:
            found += missing_values(split, now, before, declared, bars)
    stopped = [anomaly for anomaly in found if anomaly.name not in bars.allow]
    anomalies.set_json_value_custom_property(
        executor.ARTIFACT_PROPERTY_BLESSED_KEY,
        json.dumps({split: not broken and not stopped for split in splits}),
    )
    _refuse(broken, stopped)
    for anomaly in found:
        logger.warning("allowed: %s (%s)", anomaly.name, anomaly.description)
    _write_report(anomalies.uri, found, bool(baseline.statistics))


def outcome(anomalies_uri: str) -> str:
    """What the check let through, for the table of a run."""
    with open(os.path.join(anomalies_uri, REPORT), encoding="utf-8") as file:
        report = json.load(file)
    if report["allowed"]:
        return f"allowed: {', '.join(sorted({anomaly['name'] for anomaly in report['allowed']}))}"
    return "no anomalies" if report["compared"] else "no anomalies; nothing to compare with"


def describe_broken(split: str, result: anomalies_pb2.Anomalies) -> list[str]:
    """One line a breach of the schema: split, feature and TFDV's own description, sorted by feature."""
    lines = [
        f"split {split}, feature {name!r}: {reason.short_description.lower()} ({reason.description})"
        for name, info in sorted(result.anomaly_info.items())
        for reason in info.reason
        if reason.type not in (*DRIFT_TYPES, *NOT_COMPARABLE)
    ]
    if result.HasField("dataset_anomaly_info"):
        lines.append(f"split {split}: {result.dataset_anomaly_info.description}")
    return lines


def _refuse(broken: list[str], stopped: list[Anomaly]) -> None:
    if broken:
        raise TandemError(
            f"the data does not fit the schema, so nothing was trained: {'; '.join(broken)}."
            " Mend the data, or declare the feature differently in the profile's 'features'."
        )
    if stopped:
        said = "; ".join(f"{anomaly.name} ({anomaly.description})" for anomaly in stopped)
        words = " ".join(dict.fromkeys(f"--allow {shlex.quote(anomaly.name)}" for anomaly in stopped))
        raise TandemError(
            f"this looks like a bad day, so nothing was trained: {said}. Mend the spans, or let it through with {words}."
        )


def _write_report(uri: str, allowed: list[Anomaly], compared: bool) -> None:
    report: dict[str, Any] = {
        "allowed": [anomaly._asdict() for anomaly in allowed],
        "compared": compared,
    }
    with open(os.path.join(uri, REPORT), "w", encoding="utf-8") as file:
        json.dump(report, file, indent=2)
