"""The push that a run starts from: a whole copy of it, or one line that says why not and what to do."""

import json
from pathlib import Path

import pytest
from tensorflow_metadata.proto.v0 import statistics_pb2
from tfx.types import standard_artifacts

from pipeline.previous_push import RECORD, PreviousPush
from serving.bundle import publish, seal
from serving.write_bundle import BASELINE, TRAINING_STATE
from transform.baseline import write_baseline
from transform.errors import TandemError
from transform.features import SPLITS
from transform.settings import FeatureSettings
from transform.span_counts import SpanCount


def push(root, version, state=True):
    """Publishes a bundle of a few bytes, with span counts and, with `state`, something to go on from."""
    bundle = root / f"bundle-{version}"
    bundle.mkdir()
    (bundle / "saved_model.pb").write_text("weights")
    empty = statistics_pb2.DatasetFeatureStatisticsList()
    empty.datasets.add(num_examples=1)
    counts = {3: SpanCount(9, "a", 2)}
    write_baseline(bundle / BASELINE, dict.fromkeys(SPLITS, empty), counts, FeatureSettings())
    if state:
        (bundle / TRAINING_STATE).mkdir(parents=True)
        (bundle / TRAINING_STATE / "state.json").write_text("step 20")
    seal(
        bundle, item_count=1, dimension=1, k=1, spans=(3,), trained_until=2.0,
        training_state=TRAINING_STATE if state else None,
    )  # fmt: skip
    return publish(bundle, root / "push", version)


def take(root, version=-1):
    """Runs the component; returns its record and the copy's directory."""
    artifact = standard_artifacts.Model()
    artifact.uri = str(root / "artifact")
    PreviousPush.test_call(push=artifact, push_dir=str(root / "push"), version=version)
    return json.loads(Path(artifact.uri, RECORD).read_text()), Path(artifact.uri, "Format-Serving")


def test_the_newest_whole_push_is_copied_with_what_it_has_learnt(tmp_path):
    push(tmp_path, 5)
    newest = push(tmp_path, 6)
    record, copy = take(tmp_path)
    assert record == {
        "version": 6,
        "trained_until": 2.0,
        "spans": [3],
        "span_counts": {"3": {"events": 9, "top_item": "a", "top_item_events": 2}},
    }
    assert sorted(p.name for p in copy.rglob("*")) == sorted(p.name for p in newest.rglob("*"))


def test_a_bootstrap_starts_from_nothing_whatever_is_there(tmp_path):
    (push(tmp_path, 5) / "saved_model.pb").unlink()
    record, copy = take(tmp_path, version=0)
    assert (record["version"], record["spans"], record["span_counts"]) == (None, [], {})
    assert not copy.exists()


def lose(state):
    state.unlink()


def damage(state):
    state.write_text("step 21")


@pytest.mark.parametrize(
    ("harm", "said"),
    [(lose, r"training_state/state\.json is missing"), (damage, r"training_state/state\.json is damaged")],
)
def test_a_state_that_is_gone_stops_the_run_with_one_line_and_the_ways_out(tmp_path, harm, said):
    harm(push(tmp_path, 5) / TRAINING_STATE / "state.json")
    with pytest.raises(TandemError, match=said) as caught:
        take(tmp_path)
    line = str(caught.value)
    assert line.startswith("the previous push cannot be gone on from: ") and "\n" not in line
    assert line.endswith("or train anew with 'tandem run --from-scratch'.")
    assert "push again" not in line
    assert not (tmp_path / "artifact" / RECORD).exists()


def test_a_push_that_never_had_a_state_stops_the_run(tmp_path):
    push(tmp_path, 5, state=False)
    with pytest.raises(TandemError, match="push/5 holds no training state"):
        take(tmp_path)
