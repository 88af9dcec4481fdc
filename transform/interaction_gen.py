"""InteractionGen: the ExampleGen that turns a dataset directory into requests and a catalogue."""

import glob
import json
import os
from collections import Counter

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
from transform.features import HISTORIES, item_columns, written_splits
from transform.interaction_report import (
    REJECTED_DIR,
    REPORT,
    check_counts,
    interaction_report,
    rejected_as_json,
    rejected_count,
)
from transform.interactions import build_interactions
from transform.requests import Rules
from transform.sampling import Sampling
from transform.settings import DataSettings, FeatureSettings
from transform.span_counts import SpanCount, add_spans, from_json
from transform.window import Previous, plan_window
from transform.write_examples import shards_for, write_examples


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
    """Writes the splits (`features.written_splits`), the rejected rows, and a report of the time plan and counts.

    Args:
      examples: `Split-<name>/*.gz` of tf.Example, `rejected/*.jsonl`, `interactions.json`.
      previous_push: `<uri>/previous_push.json` says what has been learnt already, and how large its spans were.
      data: `DataSettings` as JSON.
      features: `FeatureSettings` as JSON.
      span: newest span to use, -1 for the newest there is.
      input_fingerprint: not read; a change of it makes a cached result stale.
      beam_pipeline: given by TFX.

    Raises:
      TandemError: the dataset breaks the contract, too many rows are rejected, or there is nothing to learn
        from or to judge by.
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
    splits = written_splits(settings)
    examples.split_names = artifact_utils.encode_split_names(list(splits))
    examples.span = window.spans[-1]
    examples_utils.set_payload_format(examples, example_gen_pb2.FORMAT_TF_EXAMPLE)
    examples_utils.set_file_format(examples, "tfrecords_gzip")
    sampling = Sampling(
        data_settings.anchor_share,
        data_settings.replay_share,
        data_settings.replay_half_life_days,
        data_settings.replay_rare_factor,
    )
    rules = Rules(
        settings.event_types,
        settings.history_length,
        data_settings.known_positive_days,
        sampling,
        data_settings.target_half_life_days or float("inf"),
        histories=bool(settings.cooccurrence_items),
    )
    counts_file = os.path.join(examples.uri, "counts")
    rejected_file = os.path.join(examples.uri, REJECTED_DIR, "rows")
    known = from_json(record.get("span_counts", {}))
    event_files = [path for number in window.spans for path in dataset.spans[number]]
    with beam_pipeline as pipeline:
        found = build_interactions(
            pipeline,
            dataset,
            settings,
            window,
            rules,
            data_settings.tail_max_events,
            {*window.target_spans} - {*known},
        )
        for split in splits:
            shards = shards_for([dataset.items] if split == "items" else event_files)
            directory = artifact_utils.get_split_uri([examples], split)
            write_examples(found.splits[split], split.title(), directory, shards)
        _ = (
            found.rejected
            | "AsJson" >> beam.MapTuple(rejected_as_json)
            | "WriteRejected" >> beam.io.WriteToText(rejected_file, file_name_suffix=".jsonl")
        )
        reasons = found.rejected | "Reasons" >> beam.MapTuple(
            lambda reason, path, row: (rejected_count(dataset, reason, path), 1)
        )
        sums = (found.counts, reasons) | "AllCounts" >> beam.Flatten() | "Sum" >> beam.CombinePerKey(sum)
        _ = (
            (sums, found.spans)
            | "WithSpans" >> beam.Flatten()
            | "CountsAsJson" >> beam.Map(json.dumps)
            | "WriteCounts" >> beam.io.WriteToText(counts_file, num_shards=1)
        )
    counts, counted = _read_counts(counts_file)
    spans = add_spans(known, window.target_spans, counted)
    with open(os.path.join(examples.uri, REPORT), "w", encoding="utf-8") as file:
        json.dump(interaction_report(window, counts, spans), file, indent=2)
    check_counts(counts, data_settings, window, examples.uri)
    if settings.cooccurrence_items and not counts[f"{HISTORIES} rows"]:
        raise TandemError(
            f"features.cooccurrence_items is {settings.cooccurrence_items:,}, and no event before the held-out days names a"
            " user, expected histories to see in them what goes together: set it to 0."
        )


def _read_counts(prefix: str) -> tuple[Counter[str], dict[int, SpanCount]]:
    """Numbers by name and the counts of spans, which stand under their number; removes the files."""
    counts: Counter[str] = Counter()
    spans: dict[int, SpanCount] = {}
    for path in glob.glob(glob.escape(prefix) + "*"):
        with open(path, encoding="utf-8") as file:
            for name, value in map(json.loads, file):
                if isinstance(name, int):
                    spans[name] = SpanCount(*value)
                else:
                    counts[name] += value
        os.remove(path)
    return counts, spans
