"""Bundles whose score on every held-out request is written in the request: what judges them is real, they are not."""

import json
from pathlib import Path

import pyarrow as pa
import tensorflow as tf
from pyarrow import parquet
from tfx.components.util import examples_utils
from tfx.proto import example_gen_pb2
from tfx.types import standard_artifacts

from serving.bundle import seal
from serving.metrics import METRICS
from serving.write_bundle import ITEMS, TRAINING_STATE


class _Scores(tf.Module):
    """Answers each row with the number it holds for this bundle."""

    def __init__(self, column, item_ids, item_vectors):
        self.column = column
        self.item_ids = tf.Variable(item_ids, dtype=tf.string, trainable=False)
        self.item_vectors = tf.Variable(item_vectors, dtype=tf.float32, trainable=False)

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="examples")])
    def evaluate(self, examples):
        parsed = tf.io.parse_example(examples, {self.column: tf.io.FixedLenFeature([], tf.float32)})
        return {metric: parsed[self.column] for metric in METRICS}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string)])
    def parse_queries(self, examples):
        """Every row asks for "red | mug", but those of new users, who bought b."""
        parsed = tf.io.parse_example(examples, {"user_group": tf.io.FixedLenFeature([], tf.string)})
        is_new = parsed["user_group"] == "new"
        history = tf.where(is_new, "b", "")[:, tf.newaxis]
        return {"query": tf.where(is_new, "", "red | mug"), "history_item_ids": history}

    @tf.function(
        input_signature=[
            tf.TensorSpec([None], tf.string, name="query"),
            tf.TensorSpec([None, None], tf.string, name="history_item_ids"),
        ]
    )
    def search(self, query, history_item_ids):
        """All items, in the catalogue's order."""
        return {"item_ids": tf.repeat(self.item_ids[tf.newaxis], tf.shape(query)[0], axis=0)}


def artifact(kind, uri):
    made = kind()
    made.uri = str(uri)
    return made


def write_bundle(uri, column, *, spans=(1,), item_ids=("a",), item_vectors=((1.0, 0.0),)):
    """Writes `<uri>/Format-Serving`, sealed, whose metrics of a request are the request's `column`; returns a Model."""
    directory = Path(uri, "Format-Serving")
    model = _Scores(column, list(item_ids), list(item_vectors))
    tf.saved_model.save(
        model, str(directory), signatures={"evaluate": model.evaluate, "serving_default": model.search}
    )
    (directory / TRAINING_STATE).mkdir(parents=True)
    (directory / TRAINING_STATE / "state.json").write_text("{}")
    named = {
        "item_id": list(item_ids),
        "title": [f"Title of\t{one}" for one in item_ids],
        "category": ["A > B"] * len(item_ids),
    }
    parquet.write_table(pa.table(named), directory / ITEMS)
    seal(
        directory,
        item_count=len(item_ids),
        dimension=2,
        k=1,
        spans=spans,
        trained_until=float(max(spans)),
        training_state=TRAINING_STATE,
    )
    return artifact(standard_artifacts.Model, uri)


def write_requests(uri, rows):
    """Writes split eval.

    Args:
      uri: of the Examples artifact that is returned.
      rows: (view, user_group, {column: score}) each.
    """
    split = Path(uri, "Split-eval")
    split.mkdir(parents=True)
    with tf.io.TFRecordWriter(str(split / "data-00000-of-00001.gz"), "GZIP") as writer:
        for row in rows:
            writer.write(_example(*row))
    counts = {"train_targets": 1234}
    Path(uri, "interactions.json").write_text(json.dumps({"counts": counts}))
    examples = artifact(standard_artifacts.Examples, uri)
    examples.split_names = '["eval"]'
    examples_utils.set_payload_format(examples, example_gen_pb2.FORMAT_TF_EXAMPLE)
    return examples


def _example(view, user_group, scores):
    def text(value):
        return tf.train.Feature(bytes_list=tf.train.BytesList(value=[value.encode()]))

    feature = {
        "view": text(view),
        "user_group": text(user_group),
        "query_group": text("without_query"),
        "timestamp": tf.train.Feature(int64_list=tf.train.Int64List(value=[1])),
    }
    for column, score in scores.items():
        feature[column] = tf.train.Feature(float_list=tf.train.FloatList(value=[score]))
    return tf.train.Example(features=tf.train.Features(feature=feature)).SerializeToString()
