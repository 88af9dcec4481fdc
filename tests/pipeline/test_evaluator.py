"""TFMA averages the `evaluate` signature slice by slice, against values worked out here."""

import pytest
from tfx.components.evaluator import executor
from tfx.types import standard_artifacts
from tfx.utils import json_utils, proto_utils

from pipeline.evaluator import eval_config, slice_metrics
from tests.pipeline.scored_bundles import artifact, write_bundle, write_requests

# "all" has mean 0.5, "all" of new users 0.2.
ROWS = [
    ("all", "new", {"score": 0.2}),
    ("all", "returning", {"score": 0.6}),
    ("all", "returning", {"score": 0.7}),
    ("unseen", "returning", {"score": 0.1}),
]


@pytest.fixture(scope="module")
def metrics(tmp_path_factory):
    root = tmp_path_factory.mktemp("evaluator")
    evaluation = artifact(standard_artifacts.ModelEvaluation, root / "evaluation")
    executor.Executor().Do(
        {
            "examples": [write_requests(root / "examples", ROWS)],
            "model": [write_bundle(root / "candidate", "score")],
        },
        {"evaluation": [evaluation]},
        {
            "eval_config": proto_utils.proto_to_json(eval_config()),
            "example_splits": json_utils.dumps(["eval"]),
            "fairness_indicator_thresholds": "null",
        },
    )
    return slice_metrics(evaluation.uri)


def test_means_by_view_with_the_number_of_rows(metrics):
    assert metrics["view:all"]["recall_at_10"] == pytest.approx(0.5)
    assert metrics["view:all"]["rows"] == 3
    assert metrics["view:unseen"]["mrr"] == pytest.approx(0.1)


def test_means_by_group_never_mix_two_views(metrics):
    assert metrics["user_group:new,view:all"]["ndcg_at_10"] == pytest.approx(0.2)
    assert metrics["user_group:returning,view:all"]["recall_at_100"] == pytest.approx(0.65)
    assert metrics["user_group:returning,view:unseen"]["rows"] == 1
    assert not [name for name in metrics if "view" not in name]
