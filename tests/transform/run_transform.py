"""Runs preprocessing_fn over what InteractionGen wrote, as TFX's Transform does."""

import glob
import os
import pickle
from pathlib import Path
from typing import NamedTuple

import apache_beam as beam
import tensorflow_transform as tft
import tensorflow_transform.beam as tft_beam
from tfx_bsl.public import tfxio

from tests.transform.run_interaction_gen import IN_PROCESS
from transform.preprocessing import preprocessing_fn
from transform.schema import curated_schema


class Transformed(NamedTuple):
    """A transform graph and the splits it made.

    Attributes:
      output: the graph.
      rows: split -> list of {output name: list of numbers}.
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
    schema = curated_schema(features)
    config = {"features": features.model_dump_json(), "encoder_preset": str(preset)}
    rows = {}
    with beam.Pipeline(argv=list(IN_PROCESS)) as pipeline, tft_beam.Context(temp_dir=str(Path(root) / "tmp")):
        sources, raw = {}, {}
        for split in ("train", "eval", "items"):
            pattern = os.path.join(glob.escape(examples.uri), f"Split-{split}", "*")
            sources[split] = tfxio.TFExampleRecord(pattern, schema=schema, telemetry_descriptors=["test"])
            raw[split] = pipeline | f"Read_{split}" >> sources[split].BeamSource()
        adapter = sources["train"].TensorAdapterConfig()
        both = (raw["train"], raw["items"]) | beam.Flatten()
        function = (both, adapter) | tft_beam.AnalyzeDataset(lambda inputs: preprocessing_fn(inputs, config))
        _ = function | tft_beam.WriteTransformFn(str(Path(root) / "graph"))
        for split in raw:
            transformed, _ = (
                (raw[split], adapter),
                function,
            ) | f"Transform_{split}" >> tft_beam.TransformDataset(output_record_batches=True)
            _ = (
                transformed
                | f"Rows_{split}" >> beam.FlatMapTuple(lambda batch, _: batch.to_pylist())
                | f"Collect_{split}" >> beam.combiners.ToList()
                | f"Write_{split}" >> beam.Map(_write, str(Path(root) / f"{split}.pickle"))
            )
    for split in ("train", "eval", "items"):
        rows[split] = pickle.loads((Path(root) / f"{split}.pickle").read_bytes())
    return Transformed(tft.TFTransformOutput(str(Path(root) / "graph")), rows)


def _write(rows, path):
    Path(path).write_bytes(pickle.dumps(rows))
