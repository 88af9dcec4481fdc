"""InteractionGen: the ExampleGen that turns a dataset directory into requests and a catalogue."""

import glob
import json
import os
from collections import Counter
from typing import Any

import apache_beam as beam
from tfx.components.util import examples_utils
from tfx.dsl.component.experimental.annotations import (
    BeamComponentParameter,
    InputArtifact,
    OutputArtifact,
    Parameter,
)
from tfx.dsl.component.experimental.decorators import component
from tfx.proto import example_gen_pb2
from tfx.types import artifact_utils, standard_artifacts

from transform.dataset import check_columns, find_dataset
from transform.errors import TandemError
from transform.features import SPLITS, item_columns
from transform.interactions import build_interactions
from transform.requests import Rules
from transform.settings import DataSettings, FeatureSettings
from transform.window import Previous, Window, plan_window

REPORT = "interactions.json"


@component(use_beam=True)
def InteractionGen(
    examples: OutputArtifact[standard_artifacts.Examples],
    previous_push: InputArtifact[standard_artifacts.Model],
    data: Parameter[str],
    features: Parameter[str],
    span: Parameter[int] = -1,
    input_fingerprint: Parameter[str] = "",
    beam_pipeline: BeamComponentParameter[beam.Pipeline] = None,
) -> None:
    """Writes splits train, eval and items, the rejected rows, and a report of the time plan and counts.

    Args:
      examples: `Split-<name>/*.gz` of tf.Example, `rejected/*.jsonl`, `interactions.json`.
      previous_push: `<uri>/previous_push.json` says what has been learnt already.
      data: `DataSettings` as JSON.
      features: `FeatureSettings` as JSON.
      span: newest span to use, -1 for the newest there is.
      input_fingerprint: not read; a change of it makes a cached result stale.
      beam_pipeline: given by TFX.

    Raises:
      TandemError: the dataset breaks the contract, too many rows are rejected, or there is nothing to learn from or to judge by.
    """
    data_settings = DataSettings.model_validate_json(data)
    settings = FeatureSettings.model_validate_json(features)
    dataset = find_dataset(data_settings.dataset)
    check_columns(
        dataset,
        items=[name for name in item_columns(settings) if name != "title"],
        users=[feature.name for feature in settings.user],
        context=[feature.name for feature in settings.context],
    )
    with open(os.path.join(previous_push.uri, "previous_push.json"), encoding="utf-8") as file:
        record = json.load(file)
    previous = Previous(record["version"], record["trained_until"], tuple(record["spans"]))
    window = plan_window(data_settings, span, previous)
    examples.split_names = artifact_utils.encode_split_names(list(SPLITS))
    examples.span = window.spans[-1]
    examples_utils.set_payload_format(examples, example_gen_pb2.FORMAT_TF_EXAMPLE)
    examples_utils.set_file_format(examples, "tfrecords_gzip")
    rules = Rules(settings.event_types, settings.history_length, data_settings.known_positive_days)
    counts_file = os.path.join(examples.uri, "counts")
    with beam_pipeline as pipeline:
        found = build_interactions(pipeline, dataset, settings, window, rules, data_settings.tail_max_events)
        for split in SPLITS:
            prefix = os.path.join(artifact_utils.get_split_uri([examples], split), "data_tfrecord")
            _ = found.splits[split] | f"Write_{split}" >> beam.io.WriteToTFRecord(
                prefix, file_name_suffix=".gz", num_shards=1 if split == "eval" else 0
            )
        _ = (
            found.rejected
            | "AsJson"
            >> beam.MapTuple(
                lambda reason, path, row: json.dumps({"reason": reason, "file": path, "row": row})
            )
            | "WriteRejected"
            >> beam.io.WriteToText(os.path.join(examples.uri, "rejected", "rows"), file_name_suffix=".jsonl")
        )
        reasons = found.rejected | "Reasons" >> beam.MapTuple(lambda reason, *_: (f"rejected: {reason}", 1))
        _ = (
            (found.counts, reasons)
            | "AllCounts" >> beam.Flatten()
            | "Sum" >> beam.CombinePerKey(sum)
            | "CountsAsJson" >> beam.Map(json.dumps)
            | "WriteCounts" >> beam.io.WriteToText(counts_file, num_shards=1)
        )
    report = _report(window, _read_counts(counts_file))
    with open(os.path.join(examples.uri, REPORT), "w", encoding="utf-8") as file:
        json.dump(report, file, indent=2)
    _check(report, data_settings, window, os.path.join(examples.uri, "rejected"))


def _read_counts(prefix: str) -> Counter[str]:
    counts: Counter[str] = Counter()
    for path in glob.glob(glob.escape(prefix) + "*"):
        with open(path, encoding="utf-8") as file:
            counts.update(dict(json.loads(line) for line in file))
        os.remove(path)
    return counts


def _report(window: Window, counts: Counter[str]) -> dict[str, Any]:
    rejected = {
        name.removeprefix("rejected: "): n for name, n in counts.items() if name.startswith("rejected: ")
    }
    return {
        "span_first": min(window.target_spans, default=None),
        "span_last": window.spans[-1],
        "spans": sorted({*window.known_spans, *window.target_spans}),
        "history_spans": list(window.spans),
        "train_from": None if window.late_from == float("-inf") else window.late_from,
        "trained_until": window.cut,
        "eval_until": window.until,
        "counts": {
            "events": counts["event rows"],
            "rows": counts["event rows"] + counts["item rows"] + counts["user rows"],
            "rejected": dict(sorted(rejected.items())),
            "left_for_later": sum(n for name, n in counts.items() if name.startswith("later than")),
            "train_rows": counts["train rows"],
            "train_targets": counts["train targets"],
            "eval_rows": counts["eval rows"],
            "items": counts["items"],
        },
    }


def _check(report: dict[str, Any], data: DataSettings, window: Window, rejected_dir: str) -> None:
    counts = report["counts"]
    rejected = sum(counts["rejected"].values())
    if rejected > data.max_rejected_share * counts["rows"]:
        reasons = ", ".join(f"{n} x {reason}" for reason, n in counts["rejected"].items())
        raise TandemError(
            f"{rejected:,} of {counts['rows']:,} rows were rejected ({reasons}), expected at most"
            f" {data.max_rejected_share:.2%}: see {rejected_dir}, mend the data or raise data.max_rejected_share."
        )
    for split, what in (("train", "learn from"), ("eval", "judge by")):
        if not counts[f"{split}_rows"]:
            raise TandemError(
                f"there is nothing to {what}: spans {window.target_spans or '(none new)'} hold no target events"
                f" {'before' if split == 'train' else 'at or after'} the cut {_utc(window.cut)}"
                f" (holdout_days {data.holdout_days:g}); expected some: add a span, change data.holdout_days, or check"
                " that features.event_types names the shop's types."
            )


def _utc(seconds: float) -> str:
    import datetime

    return datetime.datetime.fromtimestamp(seconds, datetime.timezone.utc).strftime("%Y-%m-%d %H:%M UTC")
