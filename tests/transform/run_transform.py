"""Analyses what InteractionGen wrote as TFX's Transform does, and applies the graph to every split."""

import glob
import os
from pathlib import Path
from typing import NamedTuple

import apache_beam as beam
import tensorflow as tf
import tensorflow_transform as tft
import tensorflow_transform.beam as tft_beam
from tfx_bsl.public import tfxio

from tests.transform.run_interaction_gen import IN_PROCESS
from transform.features import SPLITS, raw_feature_spec
from transform.preprocessing import preprocessing_fn
from transform.schema import curated_schema


class Transformed(NamedTuple):
    """A transform graph and the splits it made.

    Attributes:
      output: the graph.
      rows: split -> list of {output name: list of numbers}, in the order of the files.
    """

    output: tft.TFTransformOutput
    rows: dict[str, list[dict]]


def run_transform(root, examples, features, preset):
    """Analyses train and items together, and transforms all three splits.

    Args:
      root: a directory.
      examples: the artifact of InteractionGen.
      features: FeatureSettings.
      preset: directory of the encoder preset.
    """
    config = {"features": features.model_dump_json(), "encoder_preset": str(preset)}
    graph = str(Path(root) / "graph")
    files = {split: _files(examples, split) for split in SPLITS}
    with beam.Pipeline(argv=list(IN_PROCESS)) as pipeline, tft_beam.Context(temp_dir=str(Path(root) / "tmp")):
        source = tfxio.TFExampleRecord(
            [*files["train"], *files["items"]],
            schema=curated_schema(features),
            telemetry_descriptors=["test"],
        )
        raw = pipeline | source.BeamSource()
        function = (raw, source.TensorAdapterConfig()) | tft_beam.AnalyzeDataset(
            lambda inputs: preprocessing_fn(inputs, config)
        )
        _ = function | tft_beam.WriteTransformFn(graph)
    output = tft.TFTransformOutput(graph)
    layer = output.transform_features_layer()
    spec = {name: one for split in SPLITS for name, one in raw_feature_spec(features, split).items()}
    return Transformed(output, {split: _rows(files[split], spec, layer) for split in SPLITS})


def _files(examples, split):
    return sorted(glob.glob(os.path.join(glob.escape(examples.uri), f"Split-{split}", "*")))


def _rows(files, spec, layer):
    records = list(tf.data.TFRecordDataset(files, compression_type="GZIP").as_numpy_iterator())
    outputs = layer(tf.io.parse_example(records, spec))
    rows = [{name: [] for name in outputs} for _ in records]
    for name, value in outputs.items():
        for (row, _), entry in zip(value.indices.numpy(), value.values.numpy().tolist(), strict=True):
            rows[row][name].append(entry)
    return rows
