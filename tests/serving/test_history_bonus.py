"""The history's bonus: merged into what an index found, the answer is that of scoring every item."""

import numpy as np
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from serving.history_bonus import add_bonus, merge_bonus
from serving.index import Neighbours
from serving.loaded_bundle import load_bundle
from tests.serving.conftest import FEATURES, Shop
from transform.features import query_inputs


def exact(queries, vectors, rows, bonus):
    """Scores of all items in float64, entry by entry."""
    scores = queries.astype(np.float64) @ vectors.T.astype(np.float64)
    for request, (places, added) in enumerate(zip(rows, bonus, strict=True)):
        for place, value in zip(places, added, strict=True):
            if place >= 0:
                scores[request, place] += value
    return scores


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 4), st.integers(1, 30), st.integers(0, 12), st.integers(1, 12))
def test_merging_finds_the_best_of_all_items(seed, requests, items, entries, k):
    random = np.random.default_rng(seed)
    queries = random.normal(size=(requests, 4)).astype(np.float32)
    vectors = random.normal(size=(items, 4)).astype(np.float32)
    rows = np.stack([random.permutation(np.arange(-6, items + 6))[:entries] for _ in range(requests)])
    rows = np.where(rows < items, rows, -1)
    bonus = (random.uniform(0, 4, rows.shape) * (random.random(rows.shape) < 0.7)).astype(np.float32)
    k = min(k, items)
    dense = queries @ vectors.T
    best = np.argsort(-dense, axis=1)[:, :k]
    found = Neighbours(best, np.take_along_axis(dense, best, axis=1))
    merged = merge_bonus(found, rows, bonus, queries, vectors)
    scores = exact(queries, vectors, rows, bonus)
    np.testing.assert_allclose(merged.scores, -np.sort(-scores, axis=1)[:, :k], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(
        merged.scores, np.take_along_axis(scores, merged.rows, axis=1), rtol=1e-4, atol=1e-5
    )
    assert all(len(set(row)) == k for row in merged.rows.tolist())
    in_graph = add_bonus(tf.constant(dense), tf.constant(rows, tf.int64), tf.constant(bonus)).numpy()
    np.testing.assert_allclose(in_graph, scores, rtol=1e-4, atol=1e-5)


def test_a_bundle_answers_alike_through_index_and_brute_force(shop: Shop) -> None:
    bundle = load_bundle(shop.bundle_dir)
    ids = shop.catalogue.item_ids
    history = [[ids[3], ids[50], ids[3], "not there"], [ids[9], ids[8], "", ""]]
    types = [["loved", "loved", "loved", "loved"], ["view", "loved", "", ""]]
    shapes = {name: (2, 4)[: spec.rank] for name, spec in query_inputs(FEATURES).items()}
    inputs = {
        name: np.full(
            shapes[name],
            "" if spec.dtype == "string" else np.nan,
            object if spec.dtype == "string" else np.float32,
        )
        for name, spec in query_inputs(FEATURES).items()
    }
    inputs |= {"history_item_ids": np.array(history, object), "history_event_types": np.array(types, object)}
    inputs = {
        name: np.array([v.encode() for v in value.ravel()], object).reshape(value.shape)
        if value.dtype == object
        else value
        for name, value in inputs.items()
    }
    through_index, brute_force = bundle.run("serving_default", inputs), bundle.run("exact", inputs)
    np.testing.assert_array_equal(through_index["item_ids"], brute_force["item_ids"])
    np.testing.assert_allclose(through_index["scores"], brute_force["scores"], rtol=1e-5)
    embedded = bundle.run("embed_query", inputs)
    assert embedded["history_bonus"].tolist() == [[2.0, 2.0, 0.0, 0.0], [0.0, 2.0, 0.0, 0.0]]
    dense = embedded["embedding"] @ shop.catalogue.vectors[3]  # of an item with a bonus
    place = brute_force["item_ids"][0].tolist().index(ids[3].encode())
    np.testing.assert_allclose(brute_force["scores"][0, place], dense[0] + 2.0, rtol=1e-5)
