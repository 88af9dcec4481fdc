"""From scores to the push directory: what the gates refuse is not pushed, and the last push serves on."""

import json
import logging
from pathlib import Path
from typing import NamedTuple

import pytest
from tfx.components.evaluator import executor
from tfx.types import standard_artifacts
from tfx.utils import json_utils, proto_utils

from pipeline import push_log
from pipeline.evaluator import eval_config
from pipeline.gatekeeper import Gatekeeper
from pipeline.previous_push import PreviousPush
from pipeline.pusher import REPORT, Pusher
from serving.bundle import verify_bundle, versions
from tests.pipeline.scored_bundles import artifact, write_bundle, write_requests
from transform.errors import TandemError

GATES = json.dumps(
    [
        {"metric": "recall_at_10", "at_least": 0.3, "lose_at_most": 0.02, "reason": "the new day"},
        {"metric": "recall_at_10", "view": "anchor", "lose_at_most": 0.05, "reason": "older days"},
    ]
)
# First push 0.4 on both views; `forgets` gains on the new day and loses a fifth of the anchor; `keeps` loses nothing.
ROWS = [
    ("all", "returning", {"first": 0.4, "forgets": 0.5, "keeps": 0.45, "broken": 0.1}),
    ("anchor", "returning", {"first": 0.4, "forgets": 0.32, "keeps": 0.4, "broken": 0.1}),
] * 30


class Pushed(NamedTuple):
    """What a run of the last components left: push.json and the lines of the log."""

    report: dict
    log: list[push_log.Entry]


class Shop:
    """Previous push, gates and push, as they are wired in a run."""

    def __init__(self, root, examples, evaluation, bundles):
        self.root, self.examples, self.evaluation, self.bundles = root, examples, evaluation, bundles
        self.push_dir = str(root / "push")
        self.runs = 0

    def push(self, candidate, index_problem=""):
        self.runs += 1
        run = self.root / f"run-{self.runs}"
        previous = artifact(standard_artifacts.Model, run / "previous")
        PreviousPush.test_call(push=previous, push_dir=self.push_dir)
        blessing = artifact(standard_artifacts.ModelBlessing, run / "blessing")
        bundle = self.bundles[candidate]
        Gatekeeper.test_call(
            bundle=bundle, previous_push=previous, examples=self.examples, blessing=blessing, gates=GATES
        )
        index_blessing = artifact(standard_artifacts.InfraBlessing, run / "index")
        index_blessing.set_int_custom_property("blessed", int(not index_problem))
        index_blessing.set_string_custom_property("reason", index_problem)
        pushed = artifact(standard_artifacts.PushedModel, run / "pushed")
        Pusher.test_call(
            bundle=bundle,
            examples=self.examples,
            evaluation=self.evaluation,
            model_blessing=blessing,
            index_blessing=index_blessing,
            previous_push=previous,
            pushed=pushed,
            push_dir=self.push_dir,
        )
        report = json.loads(Path(pushed.uri, REPORT).read_text())
        return Pushed(report, push_log.read(self.push_dir).entries)


@pytest.fixture(scope="module")
def artifacts(tmp_path_factory):
    """Requests, bundles and one evaluation, made once."""
    root = tmp_path_factory.mktemp("artifacts")
    spans = {"first": (1, 2), "forgets": (1, 2, 3), "keeps": (1, 2, 3), "broken": (1, 2)}
    bundles = {name: write_bundle(root / name, name, spans=of) for name, of in spans.items()}
    examples = write_requests(root / "examples", ROWS)
    evaluation = artifact(standard_artifacts.ModelEvaluation, root / "evaluation")
    executor.Executor().Do(
        {"examples": [examples], "model": [bundles["keeps"]]},
        {"evaluation": [evaluation]},
        {
            "eval_config": proto_utils.proto_to_json(eval_config()),
            "example_splits": json_utils.dumps(["eval"]),
            "fairness_indicator_thresholds": "null",
        },
    )
    return examples, evaluation, bundles


@pytest.fixture
def shop(artifacts, tmp_path):
    (tmp_path / "push").mkdir()
    return Shop(tmp_path, *artifacts)


def test_candidate_that_forgets_is_refused_and_the_last_push_serves_on(shop):
    first = shop.push("first").report["version"]
    report, log = shop.push("forgets")
    assert report["version"] is None
    assert len(report["refused"]) == 1
    assert "recall_at_10 on view:anchor" in report["refused"][0] and "-20.0%" in report["refused"][0]
    assert "REFUSED" in Path(report["gates"]).read_text()
    assert versions(shop.push_dir) == [first]
    assert (log[-1].version, log[-1].parent, log[-1].spans) == (None, first, (1, 2, 3))
    assert log[-1].refused == tuple(report["refused"])


def test_candidate_that_keeps_its_memory_is_pushed_after_a_refused_one(shop):
    first = shop.push("first").report["version"]
    shop.push("forgets")
    report, log = shop.push("keeps")
    assert versions(shop.push_dir) == [first, report["version"]]
    manifest = verify_bundle(report["path"])
    assert manifest.parent_version == first
    assert manifest.metrics["view:anchor"]["recall_at_10"] == pytest.approx(0.4)
    assert [one.version for one in log] == [first, None, report["version"]]
    assert (log[-1].examples, log[-1].refused) == (1234, ())
    assert log[-1].metrics["all"]["recall_at_10"] == pytest.approx(0.45)


def test_first_run_is_held_against_absolute_bars_and_refused_below_them(shop):
    report, log = shop.push("broken")
    assert report["refused"] == [
        "recall_at_10 on view:all (30 rows): 0.1000, the gate asks for at least 0.3000"
    ]
    assert versions(shop.push_dir) == [] and log[-1].parent is None
    assert shop.push("first").report["version"]


def test_index_that_lost_its_recall_is_refused_whatever_the_gates_say(shop):
    report, log = shop.push("first", index_problem="ScaNN recall@100 0.5 is below 0.95")
    assert report["refused"] == ["ScaNN recall@100 0.5 is below 0.95"] == list(log[-1].refused)
    assert versions(shop.push_dir) == []


def test_push_stands_even_where_its_line_cannot_be_written(shop, caplog, monkeypatch):
    ours = logging.getLogger("tandem")  # as it is in a process of its own, whatever ran in this one before
    monkeypatch.setattr(ours, "handlers", [])
    monkeypatch.setattr(ours, "propagate", True)
    Path(shop.push_dir, push_log.LOG).mkdir()
    with pytest.raises(TandemError, match=r"history.jsonl cannot be read"):
        shop.push("first")  # pushes, then reads the log
    assert len(versions(shop.push_dir)) == 1
    assert "no line was added to history.jsonl" in caplog.text
