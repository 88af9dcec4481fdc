"""CatalogIndexer: embeds every item with Beam, builds the index and writes the bundle."""

import json
import os
import shutil

import apache_beam as beam
from tfx.components.statistics_gen import stats_artifact_utils
from tfx.dsl.component.experimental.annotations import (
    BeamComponentParameter,
    InputArtifact,
    OutputArtifact,
    Parameter,
)
from tfx.dsl.component.experimental.decorators import component
from tfx.types import artifact_utils, standard_artifacts
from tfx.utils import path_utils

from serving.embed_items import embed_items, read_embedded_items, write_embedded_attributes
from serving.embed_queries import embed_queries
from serving.index import TUNING_QUERIES
from serving.inputs import stored_input_specs
from serving.memory import give_back_memory
from serving.settings import IndexSettings
from serving.write_bundle import write_bundle
from transform.bad_day_settings import BadDaySettings
from transform.baseline import write_baseline
from transform.errors import TandemError
from transform.features import SPLITS, item_inputs
from transform.request_baseline import compared_requests, write_comparison
from transform.request_statistics import write_training_statistics
from transform.settings import FeatureSettings
from transform.span_counts import from_json


@component(use_beam=True)
def CatalogIndexer(
    model: InputArtifact[standard_artifacts.Model],
    examples: InputArtifact[standard_artifacts.Examples],
    statistics: InputArtifact[standard_artifacts.ExampleStatistics],
    bundle: OutputArtifact[standard_artifacts.Model],
    features: Parameter[str],
    index: Parameter[str],
    bad_days: Parameter[str],
    beam_pipeline: BeamComponentParameter[beam.Pipeline] = None,
) -> None:
    """Writes `<bundle>/Format-Serving`: SavedModel, index, items, their attributes, warm-up requests, training state,
    the baseline that the next run's data is compared with, manifest.

    Args:
      model: the trainer's; `Format-Serving` and, beside it, `training_state`.
      examples: raw; split `items` is embedded, served requests are compared with `train`, the index is tuned on requests
        of `eval`, `interactions.json` says which spans they are of.
      statistics: of the examples.
      bundle: what is written, with custom properties `item_count` and `dimension`.
      features: `FeatureSettings` as JSON.
      index: `IndexSettings` as JSON.
      bad_days: `BadDaySettings` as JSON; its bars for served requests go into the bundle.
      beam_pipeline: given by TFX.

    Raises:
      TandemError: the model does not take the declared item columns; an id is there twice; vectors are
      broken; the index cannot reach its target recall.
    """
    towers_dir = path_utils.serving_model_path(model.uri)
    declared = FeatureSettings.model_validate_json(features)
    _check_inputs(towers_dir, declared)
    with open(os.path.join(examples.uri, "interactions.json"), encoding="utf-8") as file:
        interactions = json.load(file)
    embedded = os.path.join(bundle.uri, "embedded")
    shutil.rmtree(embedded, ignore_errors=True)
    os.makedirs(embedded)
    items = os.path.join(artifact_utils.get_split_uri([examples], "items"), "*")
    state = os.path.join(model.uri, "training_state")
    baseline = os.path.join(bundle.uri, "baseline")
    computed = {split: stats_artifact_utils.load_statistics(statistics, split).proto() for split in SPLITS}
    write_baseline(baseline, computed, from_json(interactions["span_counts"]), declared)
    comparison = compared_requests(declared, computed["train"], BadDaySettings.model_validate_json(bad_days))
    write_comparison(baseline, comparison)
    requests = os.path.join(artifact_utils.get_split_uri([examples], "train"), "*")
    count = interactions["counts"]["train_rows"]
    write_training_statistics(beam_pipeline, requests, count, comparison.features, baseline)
    kinds = {feature.name: feature.kind for feature in declared.item}
    embed_items(beam_pipeline, items, towers_dir, embedded, declared.item_text, state, kinds)
    queries = embed_queries(towers_dir, artifact_utils.get_split_uri([examples], "eval"), TUNING_QUERIES)
    give_back_memory()  # of a runner in this process, and of the towers
    attributes = write_embedded_attributes(embedded, os.path.join(bundle.uri, "item_attributes.parquet"))
    manifest = write_bundle(
        towers_dir,
        read_embedded_items(embedded),
        path_utils.serving_model_dir(bundle.uri),
        IndexSettings.model_validate_json(index),
        spans=interactions["spans"],
        trained_until=interactions["trained_until"],
        training_state=state if os.path.isdir(state) else None,
        baseline=baseline,
        attributes=attributes,
        queries=queries,
    )
    shutil.rmtree(embedded)
    shutil.rmtree(baseline)
    if attributes is not None:
        os.remove(attributes)
    bundle.set_int_custom_property("item_count", manifest.item_count)
    bundle.set_int_custom_property("dimension", manifest.dimension)


def _check_inputs(towers_dir: str, features: FeatureSettings) -> None:
    takes = set(stored_input_specs(towers_dir, "embed_item"))
    declared = set(item_inputs(features))
    if takes != declared:
        raise TandemError(
            f"the model's embed_item takes {sorted(takes)}, expected the declared columns {sorted(declared)}:"
            " train again with these features."
        )
