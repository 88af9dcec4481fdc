"""The component that blesses or refuses: real bundles on the same requests, a report that says why."""

import pytest
from tfx.types import standard_artifacts

from pipeline.gate_report import TABLE, read_report
from pipeline.gatekeeper import Gatekeeper
from pipeline.settings import Settings
from tests.pipeline.scored_bundles import artifact, write_bundle, write_requests

GATES = """[
  {"metric": "recall_at_10", "view": "all", "at_least": 0.3, "lose_at_most": 0.02, "reason": "the new day"},
  {"metric": "recall_at_10", "view": "anchor", "lose_at_most": 0.05, "reason": "older days"}
]"""


def rows(with_anchor=True):
    """Previous scores 0.2 and 0.6 in turn, 0.4 on average; `forgets` is a fifth worse on the anchor, `keeps` 4 %."""
    made = []
    for view in ("all", "anchor") if with_anchor else ("all",):
        for n in range(60):
            previous = 0.6 if n % 2 else 0.2
            on_anchor = (
                {"forgets": 0.8, "keeps": 0.96} if view == "anchor" else {"forgets": 1.1, "keeps": 1.1}
            )
            scores = {name: factor * previous for name, factor in on_anchor.items()}
            made.append((view, "returning", {"previous": previous, **scores}))
    return made


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    """Judges a candidate: (name, previous, requests) -> the blessing artifact."""
    root = tmp_path_factory.mktemp("gatekeeper")
    bundles = {name: write_bundle(root / name, name) for name in ("previous", "forgets", "keeps")}
    (root / "bootstrap").mkdir()
    bundles["bootstrap"] = artifact(standard_artifacts.Model, root / "bootstrap")
    requests = {
        "whole": write_requests(root / "whole", rows()),
        "first days": write_requests(root / "first_days", rows(with_anchor=False)),
    }

    def judge(candidate, previous, examples="whole"):
        blessing = artifact(
            standard_artifacts.ModelBlessing, root / f"blessing-{candidate}-{previous}-{examples}"
        )
        Gatekeeper.test_call(
            bundle=bundles[candidate],
            previous_push=bundles[previous],
            examples=requests[examples],
            blessing=blessing,
            gates=GATES,
        )
        return blessing.get_int_custom_property("blessed"), read_report(blessing.uri), blessing.uri

    return judge


def test_candidate_that_forgets_is_refused_and_the_report_says_which_gate_where_and_by_how_much(shop):
    blessed, report, uri = shop("forgets", "previous")
    assert not blessed and not report.first_run
    assert report.refusals == [
        "recall_at_10 on view:anchor (60 rows): 0.3200 after 0.4000 of the previous push, a change of -20.0%"
        " (95% interval -20.0% to -20.0%), the gate lets it lose 5.0% at most"
    ]
    with open(f"{uri}/{TABLE}", encoding="utf-8") as file:
        kept = file.read()
    assert "REFUSED" in kept and report.refusals[0] in kept
    # A line a bar, none of them broken over two.
    assert len([line for line in kept.splitlines() if "recall_at_10" in line]) == 3 + 1


def test_candidate_that_keeps_its_memory_is_blessed(shop):
    blessed, report, _ = shop("keeps", "previous")
    assert blessed and not report.refusals
    assert [one.outcome for one in report.judgements] == ["cleared"] * 3
    anchor = report.views["anchor"]
    assert anchor.rows == 60
    assert anchor.previous["mrr"] == pytest.approx(0.4)
    assert anchor.candidate["mrr"] == pytest.approx(0.384)


def test_first_run_is_judged_by_absolute_bars_alone(shop):
    blessed, report, _ = shop("forgets", "bootstrap")
    assert blessed and report.first_run
    assert [one.outcome for one in report.judgements] == ["cleared", "first run", "first run"]
    assert report.views["all"].previous is None


def test_anchor_without_rows_is_reported_and_the_other_gates_decide(shop):
    blessed, report, uri = shop("forgets", "previous", "first days")
    assert blessed
    assert [one.outcome for one in report.judgements] == ["cleared", "cleared", "no rows"]
    with open(f"{uri}/{TABLE}", encoding="utf-8") as file:
        assert "no rows" in file.read()


def test_the_metrics_a_gate_may_name_are_those_a_bundle_answers():
    from serving.metrics import METRICS

    gate = Settings.model_json_schema()["$defs"]["Gate"]["properties"]["metric"]
    assert tuple(gate["enum"]) == METRICS
