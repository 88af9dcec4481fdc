"""The whole pipeline on a mini shop: two spans, a push, a warm-started push, a served query."""

import json
import os
from pathlib import Path

import apache_beam as beam
import h5py
import numpy as np
import pytest
import tensorflow as tf
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from safetensors.numpy import load_file

from pipeline.due import NothingDue
from pipeline.evaluate import evaluate
from pipeline.gate_report import read_report
from pipeline.history import history
from pipeline.local_runner import run_locally
from serving.bundle import read_manifest, verify_bundle, versions
from serving.client import RetrievalClient, wait_until_available
from serving.embed_items import embed_items, read_embedded_items
from serving.metrics import METRICS
from serving.write_bundle import BASELINE, TRAINING_STATE
from tests.pipeline.days import next_week
from towers.tune_encoder import WEIGHTS_FILE
from transform.baseline import read_baseline
from transform.errors import TandemError

COMPONENTS = [
    "PreviousPush",
    "InteractionGen",
    "StatisticsGen",
    "ImportSchemaGen",
    "StrictExampleValidator",
    "Transform",
    "Trainer",
    "CatalogIndexer",
    "Evaluator",
    "Gatekeeper",
    "IndexValidator",
    "Pusher",
    "PushBoard",
]
# What a change of the gates makes run again.
AFTER_THE_GATES = {"Gatekeeper", "Pusher", "PushBoard"}


def test_candidate_below_its_bar_is_refused_with_status_3_and_a_report_that_is_kept(loop):
    status, said = loop.refused
    assert status == 3
    assert "recall_at_10 on view:all" in said and "the gate asks for at least 0.9990" in said
    path = said.split("kept in ")[1].strip()
    assert "REFUSED" in Path(path).read_text()
    assert not [line for line in said.splitlines() if "Traceback" in line]


def test_another_gate_judges_the_same_candidate_again_without_training_it_anew(loop):
    assert {row.component for row in loop.first.rows if not row.cached} == AFTER_THE_GATES


def test_lineage_holds_the_refused_candidate_the_first_push_and_its_child(loop):
    candidates = history(loop.settings.paths.push_dir).candidates
    first, second = loop.first.version, loop.second.version
    assert [(one.version, one.parent, one.verdict) for one in candidates] == [
        (None, None, "refused"),
        (first, None, "pushed"),
        (second, first, "served"),
    ]
    manifest = read_manifest(os.path.join(loop.settings.paths.push_dir, str(second)))
    for view, means in candidates[-1].metrics.items():
        for metric, value in means.items():
            assert value == pytest.approx(manifest.metrics[f"view:{view}"][metric], abs=1e-6)
    assert candidates[-1].seconds >= sum(row.seconds for row in loop.second.rows[:-2])


def test_gates_compare_both_pushes_on_the_same_requests(loop):
    report = read_report(loop.second.uris["Gatekeeper"]["blessing"])
    figures, _ = evaluate(loop.settings, [loop.first.version, loop.second.version])
    of = {row.name: row.means for row in figures if row.view == "all"}
    for metric in METRICS:
        previous = report.views["all"].previous[metric]
        assert previous == pytest.approx(of[f"version {loop.first.version}"][metric], abs=1e-6)
        candidate = report.views["all"].candidate[metric]
        assert candidate == pytest.approx(of[f"version {loop.second.version}"][metric], abs=1e-6)
    board = Path(loop.settings.paths.pipeline_root, "tensorboard", "pushes")
    assert sorted(path.name for path in board.iterdir()) == ["candidate", "previous"]


def test_every_component_ran_and_says_what_came_out(loop):
    assert sorted(row.component for row in loop.first.rows) == sorted(COMPONENTS)
    outcome = {row.component: row.outcome for row in loop.first.rows}
    assert outcome["PreviousPush"] == "no push yet: bootstrap"
    assert "from scratch" in outcome["Trainer"]
    assert outcome["StrictExampleValidator"] == "no anomalies; nothing to compare with"
    assert outcome["Pusher"] == f"version {loop.first.version} pushed"


def test_second_push_warm_starts_from_the_first_and_learns_what_is_new_and_some_again(loop):
    push_dir = loop.settings.paths.push_dir
    assert versions(push_dir) == [loop.first.version, loop.second.version]
    first, second = (read_manifest(os.path.join(push_dir, str(v))) for v in versions(push_dir))
    assert first.parent_version is None
    assert second.parent_version == first.version
    assert max(second.spans) == 3
    outcome = {row.component: row.outcome for row in loop.second.rows}
    assert "warm start, 20 steps" in outcome["Trainer"]
    assert outcome["StrictExampleValidator"] == "no anomalies", "held against the first push"
    meta = json.loads(Path(loop.second.uris["InteractionGen"]["examples"], "interactions.json").read_text())
    assert meta["train_from"] == first.trained_until, "new targets start where the first push stopped"
    assert 0 < meta["counts"]["replayed_rows"] < meta["counts"]["train_rows"]


def test_both_pushes_serve_the_encoder_that_the_first_run_tuned(loop):
    published = h5py.File(os.path.join(loop.settings.encoder.preset, "model.weights.h5"))
    untuned = []
    published.visititems(
        lambda _, one: untuned.append(np.array(one)) if isinstance(one, h5py.Dataset) else None
    )
    for version in versions(loop.settings.paths.push_dir):
        push = os.path.join(loop.settings.paths.push_dir, str(version))
        tuned = load_file(os.path.join(push, TRAINING_STATE, WEIGHTS_FILE))
        reader = tf.train.load_checkpoint(os.path.join(push, "variables", "variables"))
        served = [np.asarray(reader.get_tensor(name)) for name in reader.get_variable_to_shape_map()]

        def is_among(weight, others):
            return any(np.array_equal(weight, one) for one in others if one.shape == weight.shape)

        assert tuned and all(is_among(weight, served) for weight in tuned.values())
        assert not all(is_among(weight, untuned) for weight in tuned.values()), "tuning changed something"


def test_anchors_are_judged_by_the_gates_and_left_out_beside_baselines(loop):
    anchors = read_report(loop.second.uris["Gatekeeper"]["blessing"]).views["anchor"]
    meta = json.loads(Path(loop.second.uris["InteractionGen"]["examples"], "interactions.json").read_text())
    assert anchors.rows == meta["counts"]["anchor_rows"] > 0
    figures, _ = evaluate(loop.settings, [loop.second.version])
    assert "anchor" not in {row.view for row in figures}


def test_no_text_is_encoded_twice_and_kept_ones_give_the_same_vectors(loop):
    models = [Path(run.uris["Trainer"]["model"]) for run in (loop.first, loop.second)]
    first, second = (json.loads((m / "training_summary.json").read_text())["encoded_texts"] for m in models)
    assert first > 0 == second
    items = Path(loop.second.uris["InteractionGen"]["examples"], "Split-items")
    vectors = []
    for state in (str(models[1] / "training_state"), None):
        out = items.parents[1] / f"embedded-{state is not None}"
        out.mkdir()
        pipeline = beam.Pipeline(runner=FnApiRunner())
        embed_items(pipeline, f"{items}/*", str(models[1] / "Format-Serving"), str(out), state_dir=state)
        vectors.append(read_embedded_items(str(out)).vectors)
    np.testing.assert_allclose(vectors[0], vectors[1], atol=1e-5)


def test_pushed_bundle_is_whole_and_carries_its_metrics(loop):
    directory = os.path.join(loop.settings.paths.push_dir, str(loop.second.version))
    manifest = verify_bundle(directory)
    assert manifest.item_count == 60
    assert manifest.dimension == 24
    assert 0 < manifest.metrics["view:all"]["recall_at_10"] <= 1
    assert os.path.isdir(os.path.join(directory, manifest.training_state))
    assert sorted(read_baseline(os.path.join(directory, BASELINE)).spans) == [1, 2, 3]
    assert {f"{BASELINE}/{name}" for name in ("train.pb", "eval.pb", "items.pb", "spans.json")} <= set(
        manifest.files
    )


def test_the_same_span_again_is_recognised_and_changes_nothing(loop):
    before = versions(loop.settings.paths.push_dir)
    logs = os.listdir(os.path.join(loop.settings.paths.pipeline_root, "logs"))
    for span in (-1, 2, 3):
        with pytest.raises(NothingDue, match=f"version {loop.second.version} has learnt span"):
            run_locally(loop.settings, span=span)
    assert versions(loop.settings.paths.push_dir) == before
    assert os.listdir(os.path.join(loop.settings.paths.pipeline_root, "logs")) == logs


def test_a_bad_day_stops_the_run_before_anything_is_trained(loop, tmp_path):
    shop = next_week(
        loop.settings.data.dataset,
        tmp_path / "shop",
        items=lambda table: table.assign(price=table["price"] * 100),
    )
    settings = loop.settings.model_copy(
        update={
            "data": loop.settings.data.model_copy(update={"dataset": str(shop)}),
            "paths": loop.settings.paths.model_copy(update={"pipeline_root": str(tmp_path / "pipeline")}),
        }
    )
    with pytest.raises(
        TandemError, match="StrictExampleValidator stopped the run: .* drift:price .*Nothing was pushed"
    ):
        run_locally(settings)
    assert not (tmp_path / "pipeline" / "Transform").exists()
    assert versions(loop.settings.paths.push_dir) == [loop.first.version, loop.second.version]


def test_evaluate_reports_the_figures_of_the_manifest_beside_baselines(loop):
    figures, corpus = evaluate(loop.settings)
    assert corpus == 60
    of = {(row.name, row.view): row for row in figures}
    second = of[f"version {loop.second.version}", "all"]
    manifest = read_manifest(os.path.join(loop.settings.paths.push_dir, str(loop.second.version)))
    for metric, value in second.means.items():
        assert value == pytest.approx(manifest.metrics["view:all"][metric], abs=1e-6)
    names = {name for name, _ in of}
    assert {"popularity", "own most frequent", f"version {loop.first.version}"} <= names
    # The mini shop's users buy what they bought before; a model that has learnt anything sees that.
    assert second.means["recall_at_10"] > of["popularity", "all"].means["recall_at_10"]


def test_served_bundle_answers_a_query_and_a_history_with_real_items(loop):
    from serving.server import start

    ids = {f"i{n:03d}" for n in range(60)}
    server = start(loop.settings.paths.push_dir, 0)
    try:
        address = f"127.0.0.1:{server.port}"
        assert wait_until_available(address, 60) == loop.second.version
        with RetrievalClient(address) as client:
            for answer in (client.search("red mug"), client.search(history=["i001", "i002"])):
                assert len(set(answer.item_ids)) == 10 and set(answer.item_ids) <= ids
                assert answer.version == loop.second.version
                assert list(answer.scores) == sorted(answer.scores, reverse=True)
            exact = client.search(history=["i001", "i002"], exact=True)
            np.testing.assert_allclose(exact.scores, answer.scores, rtol=1e-5)
            assert all(info.title for info in client.items(answer.item_ids))
            with pytest.raises(TandemError, match="10,000 characters"):
                client.search("x" * 10_000)
    finally:
        server.stop()
