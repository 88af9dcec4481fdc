"""Gates are checked by TFMA on the `evaluate` signature, slice by slice, against values worked out here."""

import pytest
import tensorflow as tf
from tfx.components.util import examples_utils
from tfx.proto import example_gen_pb2
from tfx.types import standard_artifacts
from tfx.utils import json_utils, proto_utils

from pipeline import evaluator
from pipeline.settings import Gate

# (view, user_group, what the model scores on the row): "all" has mean 0.5, "all" of new users 0.2.
ROWS = [
    ("all", "new", 0.2),
    ("all", "returning", 0.6),
    ("all", "returning", 0.7),
    ("unseen", "returning", 0.1),
]


class _Scores(tf.Module):
    """Answers each row with the number it holds, plus a constant."""

    def __init__(self, offset):
        self.offset = tf.constant(offset)

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="examples")])
    def evaluate(self, examples):
        parsed = tf.io.parse_example(examples, {"score": tf.io.FixedLenFeature([], tf.float32)})
        return {metric: parsed["score"] + self.offset for metric in evaluator.METRICS}


def _save_model(offset, uri):
    model = _Scores(offset)
    tf.saved_model.save(model, f"{uri}/Format-Serving", signatures={"evaluate": model.evaluate})


def _example(view, group, score):
    def text(value):
        return tf.train.Feature(bytes_list=tf.train.BytesList(value=[value.encode()]))

    feature = {
        "view": text(view),
        "user_group": text(group),
        "query_group": text("without_query"),
        "score": tf.train.Feature(float_list=tf.train.FloatList(value=[score])),
        "timestamp": tf.train.Feature(int64_list=tf.train.Int64List(value=[1])),
    }
    return tf.train.Example(features=tf.train.Features(feature=feature)).SerializeToString()


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    root = tmp_path_factory.mktemp("evaluator")
    _save_model(0.0, root / "candidate")
    _save_model(0.05, root / "better")
    (root / "bootstrap").mkdir()
    (root / "examples" / "Split-eval").mkdir(parents=True)
    path = str(root / "examples" / "Split-eval" / "data-00000-of-00001.gz")
    with tf.io.TFRecordWriter(path, "GZIP") as writer:
        for row in ROWS:
            writer.write(_example(*row))
    return root


def _artifact(kind, uri):
    artifact = kind()
    artifact.uri = str(uri)
    return artifact


def evaluate(inputs, out, previous, gates):
    """Runs the component's executor; returns (blessed, metrics by slice, refusals)."""
    examples = _artifact(standard_artifacts.Examples, inputs / "examples")
    examples.split_names = '["eval"]'
    examples_utils.set_payload_format(examples, example_gen_pb2.FORMAT_TF_EXAMPLE)
    blessing = _artifact(standard_artifacts.ModelBlessing, out / "blessing")
    evaluation = _artifact(standard_artifacts.ModelEvaluation, out / "evaluation")
    evaluator.Executor().Do(
        {
            "examples": [examples],
            "model": [_artifact(standard_artifacts.Model, inputs / "candidate")],
            "baseline_model": [_artifact(standard_artifacts.Model, inputs / previous)],
        },
        {"evaluation": [evaluation], "blessing": [blessing]},
        {
            "eval_config": proto_utils.proto_to_json(evaluator.eval_config(gates)),
            "example_splits": json_utils.dumps(["eval"]),
            "fairness_indicator_thresholds": "null",
        },
    )
    blessed = bool(blessing.get_int_custom_property("blessed"))
    return blessed, evaluator.slice_metrics(evaluation.uri), evaluator.refusals(evaluation.uri)


def gate(**bars):
    return Gate(metric="recall_at_10", reason="test", **bars)


def test_bootstrap_is_judged_by_absolute_bars_alone(inputs, tmp_path):
    blessed, metrics, refusals = evaluate(
        inputs, tmp_path, "bootstrap", [gate(at_least=0.49, lose_at_most=0.0)]
    )
    assert blessed and not refusals
    assert metrics["view:all"]["recall_at_10"] == pytest.approx(0.5)
    assert metrics["view:all"]["rows"] == 3
    assert metrics["user_group:new,view:all"]["ndcg_at_10"] == pytest.approx(0.2)
    assert metrics["view:unseen"]["mrr"] == pytest.approx(0.1)


def test_bootstrap_below_its_bar_is_refused_and_says_so(inputs, tmp_path):
    blessed, _, refusals = evaluate(inputs, tmp_path, "bootstrap", [gate(at_least=0.51)])
    assert not blessed
    assert refusals == ["recall_at_10 on view:all: value 0.5000, the gate asks for at least 0.5100"]


def test_candidate_worse_than_the_previous_push_is_refused_and_says_by_how_much(inputs, tmp_path):
    blessed, metrics, refusals = evaluate(inputs, tmp_path, "better", [gate(at_least=0.1, lose_at_most=0.02)])
    assert not blessed
    assert metrics["view:all"]["recall_at_10"] == pytest.approx(0.5), "the figures are the candidate's"
    assert refusals == [
        "recall_at_10 on view:all: change against the previous push -0.0500, the gate asks for at least -0.0200"
    ]


def test_loss_within_the_allowance_is_blessed(inputs, tmp_path):
    blessed, _, refusals = evaluate(inputs, tmp_path, "better", [gate(lose_at_most=0.06)])
    assert blessed and not refusals


def test_gate_on_a_view_without_rows_is_refused_rather_than_skipped(inputs, tmp_path):
    blessed, _, refusals = evaluate(inputs, tmp_path, "bootstrap", [gate(view="tail_item", at_least=0.0)])
    assert not blessed
    assert "no held-out rows" in refusals[0]
