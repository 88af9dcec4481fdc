"""One metric code for all: a bundle's rankings against its own `evaluate`, chance against drawn orders, the report."""

import json

import numpy as np
import pytest
import tensorflow as tf

from benchmarks.baselines.purchases import own_most_frequent, popularity
from benchmarks.baselines.task import Ranking
from benchmarks.cached import Made, cached, fingerprint
from benchmarks.held_out import read_held_out
from benchmarks.judge import MODEL, chance, judge, summary
from benchmarks.model_ranking import check_bundle, choose_version, rank_by_bundle
from benchmarks.quality_report import report
from pipeline.held_out import score_requests
from serving.export import export_bundle
from serving.manifest import seal
from tests.mini_shop import write_mini_shop
from transform.errors import TandemError
from transform.features import item_inputs, query_inputs
from transform.settings import DataSettings, FeatureSettings

FEATURES = FeatureSettings()


class Towers(tf.Module):
    """A vector a word and a sum of the history's; the history's first "purchase" of an item gets a bonus."""

    def __init__(self):
        super().__init__()
        self.words = tf.Variable(np.random.default_rng(5).normal(size=(1 << 16, 6)), dtype=tf.float32)

    def embed(self, texts):
        there = tf.cast(tf.not_equal(texts, ""), tf.float32)[
            ..., tf.newaxis
        ]  # how far a batch is padded is no matter
        return there * tf.gather(self.words, tf.strings.to_hash_bucket_fast(texts, 1 << 16))

    def embed_query(self, **inputs):
        ids = inputs["history_item_ids"]
        same = tf.cast(tf.equal(ids[:, :, tf.newaxis], ids[:, tf.newaxis, :]), tf.float32)
        first = tf.reduce_sum(tf.linalg.band_part(same, -1, 0), axis=2) <= 1.0
        bought = first & (inputs["history_event_types"] == "purchase")
        vector = self.embed(inputs["query"]) + 0.3 * tf.reduce_sum(self.embed(ids), axis=1)
        return {"embedding": vector, "history_bonus": 3.0 * tf.cast(bought, tf.float32)}

    def embed_item(self, **inputs):
        return {"embedding": self.embed(inputs["item_id"])}


@pytest.fixture(scope="module")
def held_out(tmp_path_factory):
    shop = write_mini_shop(tmp_path_factory.mktemp("shop") / "shop", items=120)
    return read_held_out(DataSettings(dataset=str(shop), holdout_days=2, anchor_share=0), FEATURES)


@pytest.fixture(scope="module")
def push_dir(held_out, tmp_path_factory):
    root = tmp_path_factory.mktemp("bundle")
    towers, signatures = Towers(), {}
    for name, inputs in (("embed_query", query_inputs(FEATURES)), ("embed_item", item_inputs(FEATURES))):
        specs = {n: tf.TensorSpec([None] * spec.rank, spec.dtype, n) for n, spec in inputs.items()}
        signatures[name] = tf.function(getattr(towers, name)).get_concrete_function(**specs)
    tf.saved_model.save(towers, str(root / "towers"), signatures=signatures)
    ids = sorted(held_out.item_ids)
    vectors = towers.embed(tf.constant(ids)).numpy()
    bundle = root / "push" / "7"
    export_bundle(str(root / "towers"), ids, vectors, str(bundle), k=10)
    (bundle / "assets.extra").mkdir()
    seal(
        bundle,
        item_count=len(ids),
        dimension=6,
        k=10,
        spans=(1, 2),
        trained_until=held_out.cut,
        training_state="assets.extra",
    )
    return root / "push"


def test_a_bundle_scores_as_its_own_evaluate_says(held_out, push_dir):
    bundle = choose_version(str(push_dir), None)
    check_bundle(bundle, held_out)
    ranking = rank_by_bundle(bundle, held_out)
    expected = score_requests(str(bundle), held_out.examples)
    for view in ("all", "unseen", "new_item"):
        rows = held_out.views == view
        for metric, values in judge(held_out, ranking, view).items():
            np.testing.assert_allclose(values, expected[metric][rows], atol=1e-6)
    # Negative control: with the rows of two requests swapped, the figures differ.
    swapped = Ranking(ranking.items[::-1], ranking.scores[::-1])
    assert not np.allclose(
        judge(held_out, swapped, "all")["recall_at_10"], expected["recall_at_10"][held_out.views == "all"]
    )


def test_a_bundle_that_has_seen_the_held_out_time_is_refused(held_out, push_dir):
    with pytest.raises(TandemError, match="has learnt until .* but the held-out time starts"):
        check_bundle(push_dir / "7", held_out._replace(cut=held_out.cut - 1.0))


def test_a_missing_version_is_named(push_dir, tmp_path):
    with pytest.raises(TandemError, match="version 8 is not in"):
        choose_version(str(push_dir), 8)
    with pytest.raises(TandemError, match="version any is not in"):
        choose_version(str(tmp_path / "none"), None)


def test_chance_is_the_mean_of_random_orders(held_out):
    random = np.random.default_rng(1)
    task, size = held_out.task, len(held_out.item_ids)
    means = []
    for _ in range(60):
        items = np.full((len(task.users), 100), -1, np.int64)
        for request in range(len(task.users)):
            candidates = np.setdiff1d(np.arange(size), task.excluded_of(request))
            drawn = random.permutation(candidates)[:100]
            items[request, : len(drawn)] = drawn
        drawn_order = Ranking(items, np.zeros(items.shape, np.float32))
        means.append([values.mean() for values in judge(held_out, drawn_order, "unseen").values()])
    got = np.array(list(chance(held_out, "unseen").values()))
    error = np.std(means, axis=0) / np.sqrt(len(means))
    assert (np.abs(np.mean(means, axis=0) - got) < 4 * error + 1e-9).all()


def test_the_report_says_how_much_better_the_model_is(held_out):
    made = {
        "popularity": Made(popularity(held_out.task), 1.0),
        MODEL: Made(own_most_frequent(held_out.task), 2.0),
    }
    result = {"name": "shop", "version": "7", "command": "cmd"} | summary(held_out, made)
    json.dumps(result, allow_nan=False)
    row = result["views"]["all"]["ranked_by"]["popularity"]
    change, low, high = row["model_is_better"]["recall_at_10"]
    model = result["views"]["all"]["ranked_by"][MODEL]["recall_at_10"]
    assert change == pytest.approx(model / row["recall_at_10"] - 1) and low < change < high
    text = report(result)
    assert f"| popularity | {row['recall_at_10']:.4f} |" in text and f"{100 * change:+.0f} % (" in text
    assert "**New items**" in text and "```mermaid" in text


def test_a_ranking_is_made_once_and_again_when_what_it_is_made_from_changes(held_out, tmp_path):
    calls = []

    def make(_):
        calls.append(1)
        return popularity(held_out.task)

    key = {"task": fingerprint(held_out.task)}
    first = cached(tmp_path, "popularity", key, make)
    again = cached(tmp_path, "popularity", key, make)
    np.testing.assert_array_equal(first.ranking.items, again.ranking.items)
    assert len(calls) == 1 and again.seconds == first.seconds
    other = held_out.task._replace(event_days=held_out.task.event_days + 1)
    cached(tmp_path, "popularity", {"task": fingerprint(other)}, make)
    assert len(calls) == 2


def test_an_interrupted_ranking_is_made_again(held_out, tmp_path):
    def fail(path):
        path.write_bytes(b"half of it")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cached(tmp_path, "popularity", {}, fail)
    made = cached(tmp_path, "popularity", {}, lambda _: popularity(held_out.task))
    assert made.ranking.items.shape == (len(held_out.task.users), 100)
