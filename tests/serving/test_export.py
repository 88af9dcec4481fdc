"""The bundle's SavedModel: exact answers, and metrics that agree with NumPy in float64."""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from tensorflow.core.protobuf import saved_model_pb2

from serving.export import SIGNATURES, export_bundle
from serving.manifest import BundleError
from serving.metrics import METRICS, retrieval_metrics
from serving.op_check import check_ops
from tests.serving.conftest import DIMENSION, Shop, load_model


@pytest.fixture(scope="module")
def model(shop: Shop):
    return load_model(shop.bundle_dir)


def oracle(scores: Sequence[float], targets: Sequence[int], excluded: Sequence[int]) -> dict[str, float]:
    """Ranks all candidates by (score down, position up) and counts; plain Python, float64."""
    order = sorted(
        (i for i in range(len(scores)) if i not in set(excluded)), key=lambda i: (-float(scores[i]), i)
    )
    rank = {item: place + 1 for place, item in enumerate(order)}
    found = sorted(rank[target] for target in targets if target in rank)
    total = len(targets)
    ideal = sum(1 / math.log2(r + 1) for r in range(1, min(10, total) + 1))
    return {
        "recall_at_10": sum(r <= 10 for r in found) / min(10, total) if total else 0.0,
        "recall_at_100": sum(r <= 100 for r in found) / min(100, total) if total else 0.0,
        "ndcg_at_10": sum(1 / math.log2(r + 1) for r in found if r <= 10) / ideal if total else 0.0,
        "mrr": 1 / found[0] if found else 0.0,
    }


@tf.function(
    input_signature=[
        tf.TensorSpec([None, None]),
        tf.RaggedTensorSpec([None, None], tf.int64, row_splits_dtype=tf.int64),
        tf.RaggedTensorSpec([None, None], tf.int64, row_splits_dtype=tf.int64),
    ]
)
def compiled_metrics(scores, targets, excluded):
    return retrieval_metrics(scores, targets, excluded)


def measured(scores, targets, excluded) -> dict[str, np.ndarray]:
    result = compiled_metrics(
        tf.constant(scores, tf.float32),
        tf.ragged.constant(targets, tf.int64, row_splits_dtype=tf.int64, ragged_rank=1),
        tf.ragged.constant(excluded, tf.int64, row_splits_dtype=tf.int64, ragged_rank=1),
    )
    return {name: value.numpy() for name, value in result.items()}


def random_requests(count: int, rows: int, seed: int):
    """Few distinct scores, so that ties abound; targets out of the catalogue (-1), and excluded ones."""
    random = np.random.default_rng(seed)

    def some_ids() -> list[int]:
        return random.permutation(count)[: random.integers(0, min(count, 20) + 1)].tolist()

    scores = random.integers(-3, 4, (rows, count)).tolist()
    targets = [some_ids() + [-1] * random.integers(0, 3) for _ in range(rows)]
    return scores, targets, [some_ids() + [-1] * random.integers(0, 2) for _ in range(rows)]


@given(count=st.integers(1, 150), rows=st.integers(1, 8), seed=st.integers(0, 2**32))
@settings(max_examples=60, deadline=None)
def test_metrics_agree_with_a_plain_ranking(count: int, rows: int, seed: int) -> None:
    scores, targets, excluded = random_requests(count, rows, seed)
    result = measured(scores, targets, excluded)
    for row in range(len(scores)):
        expected = oracle(scores[row], targets[row], excluded[row])
        for name in METRICS:
            assert result[name][row] == pytest.approx(expected[name], abs=1e-6), name


def test_each_rule_of_the_metrics_shows() -> None:
    scores = [[float(-n) for n in range(200)]]  # item n is at rank n + 1
    at = measured(scores, [[0, 4, 50, 150]], [[]])
    assert at["recall_at_10"][0] == pytest.approx(2 / 4)
    assert at["recall_at_100"][0] == pytest.approx(3 / 4)
    ideal = 1 + 1 / math.log2(3) + 1 / math.log2(4) + 1 / math.log2(5)
    assert at["ndcg_at_10"][0] == pytest.approx((1 + 1 / math.log2(6)) / ideal)
    assert at["mrr"][0] == 1.0
    # 20 targets, the first 10 found: 10 / min(10, 20), not 10 / 20.
    assert measured(scores, [list(range(20))], [[]])["recall_at_10"][0] == 1.0
    # Leaving out what is ahead moves a target up; leaving out the target itself loses it.
    assert measured(scores, [[150]], [list(range(145))])["mrr"][0] == pytest.approx(1 / 6)
    assert measured(scores, [[0]], [[0]])["mrr"][0] == 0.0
    # A tie goes to the lower position.
    assert measured([[1.0, 1.0, 1.0]], [[2]], [[]])["mrr"][0] == pytest.approx(1 / 3)
    # A broken model is never good.
    assert measured([[math.nan] * 5], [[0, 1]], [[]])["recall_at_10"][0] == 0.0


def example(**features) -> bytes:
    message = tf.train.Example()
    for name, values in features.items():
        kind = message.features.feature[name]
        if values and isinstance(values[0], str):
            kind.bytes_list.value.extend(value.encode() for value in values)
        else:
            kind.float_list.value.extend(values)
    return message.SerializeToString()


def test_evaluate_scores_stored_rows_as_numpy_does(shop: Shop, model) -> None:
    ids = list(shop.catalogue.item_ids)
    rows = [
        {"query": ["red mug"], "target_item_ids": [ids[0], ids[7]], "segment": ["gold"]},
        {"target_item_ids": [ids[3], "not-in-catalogue"], "basket": [120.0]},  # no query, no history
        {
            "history_item_ids": [ids[9], ids[9], ids[20]],
            "history_event_types": ["purchase", "view", "purchase"],
            "history_ages": [1.0, 2.5, 40.0],
            "target_item_ids": [ids[9], ids[11]],
            "known_positive_ids": [ids[20], ids[4], "gone"],
        },
        {"query": ["blue lamp"], "target_item_ids": ["gone"]},
    ]
    padded = {
        "query": [row.get("query", [""])[0] for row in rows],
        "segment": [row.get("segment", [""])[0] for row in rows],
        "basket": [row.get("basket", [np.nan])[0] for row in rows],
        "history_item_ids": [(row.get("history_item_ids", []) + [""] * 3)[:3] for row in rows],
        "history_event_types": [(row.get("history_event_types", []) + [""] * 3)[:3] for row in rows],
        "history_ages": [(row.get("history_ages", []) + [np.nan] * 3)[:3] for row in rows],
    }
    vectors = shop.embed_queries(**padded)
    scores = vectors @ shop.catalogue.vectors.astype(np.float64).T
    place = {item: row for row, item in enumerate(ids)}
    copies = 70  # 280 rows: more than one block
    result = model.signatures["evaluate"](examples=tf.constant([example(**row) for row in rows] * copies))
    for n, row in enumerate(rows):
        expected = oracle(
            scores[n],
            [place.get(item, -1) for item in row["target_item_ids"]],
            [place[item] for item in row.get("known_positive_ids", []) if item in place],
        )
        for name in METRICS:
            values = result[name].numpy()[n :: len(rows)]
            assert len(values) == copies
            np.testing.assert_allclose(values, expected[name], atol=1e-6, err_msg=f"{name} of row {n}")
    none = model.signatures["evaluate"](examples=tf.constant([], tf.string))
    assert all(none[name].shape == (0,) for name in METRICS)


def test_exact_answers_are_the_largest_inner_products(shop: Shop, model) -> None:
    queries = {name: tf.constant(value) for name, value in DENSE.items()}
    vectors = shop.embed_queries(**DENSE)
    answer = model.signatures["serving_default"](**queries)
    assert answer["item_ids"].shape == (2, 20)
    for row in range(2):
        assert [item.decode() for item in answer["item_ids"][row].numpy()] == shop.best(vectors[row], 20)
    embedded = model.signatures["embed_query"](**queries)["embedding"]
    np.testing.assert_allclose(embedded, vectors, rtol=1e-5)
    items = model.signatures["embed_item"](**{k: tf.constant(v) for k, v in shop.items.items()})["embedding"]
    np.testing.assert_allclose(items, shop.catalogue.vectors, rtol=1e-5)


DENSE = {
    "query": ["white vase", ""],
    "segment": ["", "gold"],
    "basket": np.array([np.nan, 3.0], np.float32),
    "history_item_ids": [["", ""], ["sku-4", "sku-9"]],
    "history_event_types": [["", ""], ["purchase", ""]],
    "history_ages": np.array([[np.nan, np.nan], [1.0, -1.0]], np.float32),
}


def test_bundle_has_its_signatures_and_only_ops_that_tf_serving_has(shop: Shop, model) -> None:
    assert set(model.signatures) == set(SIGNATURES)
    assert model.signatures["embed_item"].structured_outputs["embedding"].shape[1] == DIMENSION
    check_ops(shop.bundle_dir)


def test_op_of_another_library_is_named_even_inside_a_function(shop: Shop, tmp_path) -> None:
    graph = saved_model_pb2.SavedModel.FromString(Path(shop.bundle_dir, "saved_model.pb").read_bytes())
    functions = graph.meta_graphs[0].graph_def.library.function
    node = next(node for function in functions for node in function.node_def if node.op == "TopKV2")
    node.op = "Scann>ScannSearch"
    (tmp_path / "saved_model.pb").write_bytes(graph.SerializeToString())
    with pytest.raises(BundleError, match="operations Scann>ScannSearch, expected"):
        check_ops(str(tmp_path))


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        (["a", "b", "a"], "'a' is there twice"),
        (["a", "", "c"], "is empty"),
        (["a", "b\nc", "d"], "line break"),
        (["a", "b"], "one vector for each"),
    ],
)
def test_ids_that_cannot_be_told_apart_are_refused(shop, tmp_path, ids, message) -> None:
    with pytest.raises(BundleError, match=message):
        export_bundle(shop.towers_dir, ids, np.zeros((3, DIMENSION), np.float32), str(tmp_path / "out"), 2)
    assert not (tmp_path / "out").exists()
