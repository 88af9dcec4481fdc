"""Figures of a run, read back from the event files that TensorBoard shows."""

import json

import numpy as np
import pyarrow as pa
import pytest
from google.protobuf import text_format
from hypothesis import given, settings
from hypothesis import strategies as st
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins import projector
from tensorboard.util import tensor_util
from tfx.types import standard_artifacts

from pipeline.drift import Catalogue, drift, read_catalogue
from pipeline.gatekeeper import Gatekeeper
from pipeline.projector import write_projector
from pipeline.push_board import PushBoard
from pipeline.pusher import REPORT
from tests.pipeline.scored_bundles import artifact, write_bundle, write_requests

GATES = json.dumps([{"metric": "mrr", "at_least": 0.1, "reason": "test"}])
ROWS = [
    ("all", "returning", {"first": 0.4, "second": 0.5, "third": 0.3}),
    ("anchor", "new", {"first": 0.4, "second": 0.3, "third": 0.3}),
]
# From first to second, "a" turns by 90 degrees and doubles, "b" keeps both, "c" is gone, "d" and "e" are new.
FIRST = {"item_ids": ["a", "b", "c"], "item_vectors": [[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]]}
SECOND = {"item_ids": ["a", "b", "d", "e"], "item_vectors": [[0.0, 2.0], [0.0, 1.0], [5.0, 5.0], [0.0, 1.0]]}


@pytest.fixture(scope="module")
def scalars(tmp_path_factory):
    """{run: {tag: {step: value}}} after a first push of span 2, a push of span 3 and a refused candidate of span 4."""
    root = tmp_path_factory.mktemp("board")
    examples = write_requests(root / "examples", ROWS)
    bundles = {
        "first": write_bundle(root / "first", "first", spans=(1, 2), **FIRST),
        "second": write_bundle(root / "second", "second", spans=(1, 2, 3), **SECOND),
        "third": write_bundle(root / "third", "third", spans=(4,), **SECOND),
    }
    (root / "none").mkdir()
    bundles["none"] = artifact(standard_artifacts.Model, root / "none")
    for candidate, previous, version in (
        ("first", "none", 5),
        ("second", "first", 6),
        ("third", "second", None),
    ):
        blessing = artifact(standard_artifacts.ModelBlessing, root / f"blessing-{candidate}")
        bundle, push = bundles[candidate], bundles[previous]
        Gatekeeper.test_call(
            bundle=bundle, previous_push=push, examples=examples, blessing=blessing, gates=GATES
        )
        pushed = artifact(standard_artifacts.PushedModel, root / f"pushed-{candidate}")
        (root / f"pushed-{candidate}").mkdir()
        (root / f"pushed-{candidate}" / REPORT).write_text(json.dumps({"version": version}))
        PushBoard.test_call(
            bundle=bundle,
            previous_push=push,
            model_blessing=blessing,
            pushed=pushed,
            examples=examples,
            log_dir=str(root / "tensorboard"),
        )
    return {run: read_scalars(root / "tensorboard" / run) for run in ("candidate", "previous")} | {
        "root": root
    }


def read_scalars(directory):
    events = EventAccumulator(str(directory)).Reload()
    return {
        tag: {e.step: float(tensor_util.make_ndarray(e.tensor_proto)) for e in events.Tensors(tag)}
        for tag in events.Tags()["tensors"]
        if tag != "sample_queries"
    }


def test_candidate_and_previous_push_stand_side_by_side_by_span(scalars):
    assert scalars["candidate"]["mrr/all"] == pytest.approx({2: 0.4, 3: 0.5, 4: 0.3})
    assert scalars["previous"]["mrr/all"] == pytest.approx({3: 0.4, 4: 0.5})
    assert scalars["candidate"]["recall_at_10/anchor"] == pytest.approx({2: 0.4, 3: 0.3, 4: 0.3})


def test_forgetting_is_the_anchors_relative_change(scalars):
    assert scalars["candidate"]["forgetting/ndcg_at_10"] == pytest.approx({3: -0.25, 4: 0.0}, abs=1e-6)


def test_drift_of_carried_items_and_share_of_new_ones(scalars):
    of = scalars["candidate"]
    assert of["items/new_share"] == pytest.approx({3: 0.5, 4: 0.0})  # d and e of four; then the same four
    assert of["items/cosine_distance"] == pytest.approx({3: (1 + 0) / 2, 4: 0.0}, abs=1e-6)
    assert of["items/norm_ratio"] == pytest.approx({3: (2 + 1) / 2, 4: 1.0})


def test_what_was_pushed_can_be_told_from_what_was_not(scalars):
    assert scalars["candidate"]["push/pushed"] == {2: 1.0, 3: 1.0, 4: 0.0}


def test_the_newest_candidates_items_are_in_the_projector_with_title_and_category(scalars):
    place = scalars["root"] / "tensorboard" / "candidate"
    config = text_format.Parse((place / "projector_config.pbtxt").read_text(), projector.ProjectorConfig())
    (shown,) = config.embeddings
    vectors = np.loadtxt(place / shown.tensor_path, delimiter="\t", ndmin=2)
    np.testing.assert_array_equal(vectors, SECOND["item_vectors"])
    labels = [line.split("\t") for line in (place / shown.metadata_path).read_text().splitlines()]
    assert labels[0] == ["item_id", "title", "category"] and len(labels) == 1 + len(vectors)
    assert labels[3] == ["d", "Title of d", "A > B"], "a tab in a title is no new column"


def test_sample_queries_stand_beside_the_titles_they_find(scalars):
    events = EventAccumulator(str(scalars["root"] / "tensorboard" / "candidate")).Reload()
    tables = {e.step: e.tensor_proto.string_val[0].decode() for e in events.Tensors("sample_queries")}
    assert sorted(tables) == [2, 3, 4]
    first = "Title of a; Title of b; Title of c"
    assert tables[2].splitlines()[2:] == [f"| red / mug | {first} |", f"| history: Title of b | {first} |"]
    assert "Title of d" in tables[3] and "Title of d" not in tables[2]


def test_a_large_catalogue_is_thinned_evenly(tmp_path, monkeypatch):
    monkeypatch.setattr("pipeline.projector.MOST", 4)
    ids = np.array([f"i{n}".encode() for n in range(10)])
    none = pa.table({name: pa.array([], pa.string()) for name in ("item_id", "title", "category")})
    write_projector(str(tmp_path), Catalogue(ids, np.arange(10.0, dtype=np.float32)[:, np.newaxis]), none)
    assert np.loadtxt(tmp_path / "items.tsv").tolist() == [0.0, 3.0, 6.0, 9.0]
    assert (tmp_path / "labels.tsv").read_text().splitlines()[1:] == ["i0\t\t", "i3\t\t", "i6\t\t", "i9\t\t"]


def test_catalogue_is_read_from_a_bundles_variables(tmp_path):
    write_bundle(tmp_path, "first", **FIRST)
    got = read_catalogue(str(tmp_path / "Format-Serving"))
    assert got.ids.tolist() == [b"a", b"b", b"c"]
    np.testing.assert_array_equal(got.vectors, np.array(FIRST["item_vectors"], np.float32))


@given(st.permutations(range(12)), st.floats(0.1, 10), st.integers(0, 6))
@settings(max_examples=30, deadline=None)
def test_order_and_scale_are_no_turn(order, scale, new):
    random = np.random.default_rng(0)
    ids = np.array([f"i{n}".encode() for n in range(12)])
    vectors = random.normal(size=(12, 4)).astype(np.float32)
    more = np.array([f"n{n}".encode() for n in range(new)], np.bytes_)
    now = Catalogue(
        np.concatenate([ids[list(order)], more]),
        np.concatenate(
            [vectors[list(order)] * np.float32(scale), random.normal(size=(new, 4)).astype(np.float32)]
        ),
    )
    got = drift(now, Catalogue(ids, vectors))
    assert (got.carried, got.new_share) == (12, pytest.approx(new / (12 + new)))
    assert got.cosine_distance == pytest.approx(0, abs=1e-6)
    assert got.norm_ratio == pytest.approx(scale, rel=1e-5)
    # Negative control: compared by position, the very same vectors seem to turn.
    if list(order) != list(range(12)):
        apart = drift(Catalogue(ids, now.vectors[:12]), Catalogue(ids, vectors))
        assert apart.cosine_distance > 0.01


def test_catalogues_with_nothing_to_compare_have_no_drift():
    one = Catalogue(np.array([b"a"]), np.ones((1, 2), np.float32))
    assert drift(one, Catalogue(np.array([b"b"]), one.vectors)) == (0, 1.0, None, None)
    assert drift(one, Catalogue(one.ids, np.ones((1, 3), np.float32))) == (1, 0.0, None, None)
    assert drift(one, Catalogue(one.ids, np.zeros((1, 2), np.float32))) == (1, 0.0, None, None)
