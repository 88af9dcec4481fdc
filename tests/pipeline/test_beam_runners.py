"""The data stages of a mini shop on three ways to run Beam, with the same results: nothing relies on one process."""

import json
from pathlib import Path

import apache_beam as beam
import numpy as np
import pytest
import tensorflow as tf
from tensorflow_metadata.proto.v0 import statistics_pb2

from benchmarks.stages import run_up_to
from pipeline.settings import load_settings
from serving.embed_items import embed_items, read_embedded_items
from tests.mini_shop import write_mini_shop
from tests.pipeline.conftest import mini_profile
from tests.pipeline.portable_cluster import portable_cluster
from tests.tiny_encoder import write_tiny_preset
from tests.transform.run_interaction_gen import IN_PROCESS
from transform.features import SPLITS

pytestmark = pytest.mark.slow

IN_WORKER_PROCESSES = (*IN_PROCESS, "--direct_running_mode=multi_processing", "--direct_num_workers=2")


def run_stages(root, name, beam_args, component):
    profile = mini_profile(
        root,
        paths__pipeline_root=str(root / name),
        beam_args=list(beam_args),
        training__replicas=1,
        training__steps=5,
    )
    return run_up_to(load_settings(profile), component)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("runners")
    write_mini_shop(root / "shop", spans=2)
    write_tiny_preset(root / "encoder")
    return root


@pytest.fixture(scope="module")
def in_memory(root):
    """In this process, through training to the bundle."""
    return run_stages(root, "in_memory", IN_PROCESS, "CatalogIndexer")


@pytest.fixture(scope="module", params=["multi_processing", "portable"])
def elsewhere(request, root, tmp_path_factory):
    """Beam options of another way to run, and what the stages before training made with them."""
    if request.param == "multi_processing":
        yield IN_WORKER_PROCESSES, run_stages(root, request.param, IN_WORKER_PROCESSES, "Transform")
        return
    with portable_cluster(tmp_path_factory.mktemp("cluster")) as beam_args:
        yield beam_args, run_stages(root, request.param, beam_args, "Transform")


def records(directory):
    """File name -> serialised examples in the order of the file."""
    return {
        path.name: list(tf.data.TFRecordDataset(str(path), "GZIP").as_numpy_iterator())
        for path in sorted(Path(directory).iterdir())
    }


def rows(directory):
    """Every example in words, sorted: Transform fixes neither the order of rows nor that of a row's features."""
    return sorted(
        str(tf.train.Example.FromString(row)) for file in records(directory).values() for row in file
    )


def statistics(directory):
    """Feature -> its statistics, whose order TFDV does not fix."""
    message = statistics_pb2.DatasetFeatureStatisticsList.FromString(
        Path(directory, "FeatureStats.pb").read_bytes()
    )
    (dataset,) = message.datasets
    return dataset.num_examples, {feature.path.step[0]: feature for feature in dataset.features}


def test_every_runner_makes_the_same_files_of_requests(in_memory, elsewhere):
    here, there = (Path(uris["InteractionGen"]["examples"]) for uris in (in_memory, elsewhere[1]))
    for split in SPLITS:
        made = records(here / f"Split-{split}")
        assert sum(map(len, made.values())) >= 60
        assert made == records(there / f"Split-{split}")
    assert json.loads((here / "interactions.json").read_text()) == json.loads(
        (there / "interactions.json").read_text()
    )


def test_every_runner_computes_the_same_statistics(in_memory, elsewhere):
    for split in SPLITS:
        here, there = (
            statistics(Path(uris["StatisticsGen"]["statistics"], f"Split-{split}"))
            for uris in (in_memory, elsewhere[1])
        )
        assert here[0] > 0 and here == there


def test_every_runner_makes_the_same_transformed_rows_and_vocabularies(in_memory, elsewhere):
    here, there = (uris["Transform"] for uris in (in_memory, elsewhere[1]))
    for split in SPLITS:
        ours, theirs = (rows(Path(uris["transformed_examples"], f"Split-{split}")) for uris in (here, there))
        assert len(ours) >= 60 and ours == theirs
    ours, theirs = (
        {
            path.name: path.read_bytes()
            for path in Path(uris["transform_graph"], "transform_fn/assets").iterdir()
        }
        for uris in (here, there)
    )
    assert {"item_id", "item_id_counts", "brand", "category"} <= set(ours) and ours == theirs


def test_every_runner_embeds_the_catalogue_alike(in_memory, elsewhere, tmp_path):
    beam_args, _ = elsewhere
    model = Path(in_memory["Trainer"]["model"])
    items = Path(in_memory["InteractionGen"]["examples"], "Split-items", "*")
    out = tmp_path / "embedded"
    out.mkdir()
    embed_items(
        beam.Pipeline(argv=list(beam_args)),
        str(items),
        str(model / "Format-Serving"),
        str(out),
        state_dir=str(model / "training_state"),
    )
    there = read_embedded_items(str(out))
    bundle = tf.saved_model.load(str(Path(in_memory["CatalogIndexer"]["bundle"], "Format-Serving")))
    assert [item.decode() for item in bundle.item_ids.numpy()] == list(there.item_ids)
    np.testing.assert_array_equal(bundle.item_vectors.numpy(), there.vectors)
