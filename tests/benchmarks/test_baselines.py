"""Baselines on tasks small enough to work out by hand, and against direct solutions."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

from benchmarks.baselines.factors import rank_by_factors
from benchmarks.baselines.purchases import (
    bm25_weights,
    cosine_weights,
    ease,
    item_neighbours,
    nearest,
    own_most_frequent,
    popularity,
)
from benchmarks.baselines.sentences import request_vectors
from benchmarks.baselines.task import Task, best_items, load_task, rank_by_scores, save_arrays


def make_task(events, users=(), excluded=(), items=4, queries=None):
    """events: (user, item, days before) or (user, item, days before, query); users: of the requests."""
    rows = [(*event, "")[:4] for event in events]
    lists = list(excluded) or [[] for _ in users]
    return Task(
        texts=np.array([f"item {n}" for n in range(items)]),
        users=np.array(users, np.int64),
        queries=np.array(queries or [""] * len(users), np.str_),
        excluded=np.array([item for one in lists for item in one], np.int64),
        excluded_offsets=np.cumsum([0, *map(len, lists)], dtype=np.int64),
        event_users=np.array([row[0] for row in rows], np.int64),
        event_items=np.array([row[1] for row in rows], np.int64),
        event_days=np.array([row[2] for row in rows], np.float64),
        event_queries=np.array([row[3] for row in rows], np.str_),
    )


def ranked(ranking, request=0):
    return [int(item) for item in ranking.items[request] if item >= 0]


# Item 2: users 0 and 1, long ago; item 1: user 0, three times, lately; item 3: user 1, lately.
EVENTS = [(0, 2, 90), (1, 2, 80), (0, 1, 3), (0, 1, 2), (0, 1, 1), (1, 3, 28.5)]


def test_popularity_counts_users_not_events():
    assert ranked(popularity(make_task(EVENTS, [0]))) == [2, 1, 3, 0]


def test_recent_popularity_sees_only_its_window():
    # 28 days: only item 1. 29 days: item 3 too, one user each, so by number.
    task = make_task(EVENTS, [0])
    assert ranked(popularity(task, 28)) == [1, 0, 2, 3]
    assert ranked(popularity(task, 29)) == [1, 3, 0, 2]


def test_popularity_of_a_search_log_counts_queries():
    events = [(-1, 3, 1, "lamp"), (-1, 3, 1, "lamp"), (-1, 2, 1, "lamp"), (-1, 2, 1, "mug")]
    assert ranked(popularity(make_task(events, [-1], queries=["cup"]))) == [2, 3, 0, 1]


def test_own_items_come_first_then_those_popular_lately():
    task = make_task(EVENTS, [0, 1, -1], excluded=[[], [2], []])
    own = own_most_frequent(task)
    assert ranked(own, 0) == [1, 2, 0, 3]
    assert ranked(own, 1) == [3, 1, 0]  # 2 is no candidate
    assert ranked(own, 2) == [1, 0, 2, 3]  # a stranger gets what is popular


def test_neighbours_by_hand():
    # Users x items; items 0 and 1 share both users, item 2 shares one with each.
    bought = sparse.csr_matrix(np.array([[1.0, 1, 1], [1, 1, 0], [0, 0, 1]]))
    half = 1 / 2  # item 2 with 0 or 1: one common user / (sqrt 2 * sqrt 2)
    every = nearest(cosine_weights(bought), 3).toarray()
    np.testing.assert_allclose(every, [[1, 1, half], [1, 1, half], [half, half, 1]])
    two = nearest(cosine_weights(bought), 2, block=2).toarray()
    np.testing.assert_allclose(two, [[1, 1, 0], [1, 1, 0], [half, 0, 1]])


def test_older_purchases_count_less_for_the_neighbours():
    # Item 2 goes with 0, item 3 with 1; the request's user bought 0 a half-life before 1.
    events = [(0, 0, 9), (0, 2, 9), (1, 1, 9), (1, 3, 9), (2, 0, 20), (2, 1, 10)]
    task = make_task(events, [2], excluded=[[0, 1]])
    bought = sparse.csr_matrix(np.array([[1.0, 0, 1, 0], [0, 1, 0, 1], [1, 1, 0, 0]]))
    found = item_neighbours(task, cosine_weights(bought), 4, half_life=10)
    # Similarities of 2 with 0 and of 3 with 1: 1 / sqrt 2; weights 2^-2 and 2^-1.
    assert ranked(found) == [3, 2]
    np.testing.assert_allclose(found.scores[0, :2], [0.5 / np.sqrt(2), 0.25 / np.sqrt(2)], rtol=1e-6)


def test_bm25_weights_by_hand():
    # Two users; item 0 by both, item 1 by user 1. k1 = 1, b = 0: 2 n / (1 + n) * (log 2 - log(1 + users)).
    weighted = bm25_weights(sparse.csr_matrix(np.array([[1.0, 0], [3, 1]])), k1=1.0, b=0.0).toarray()
    np.testing.assert_allclose(weighted, [[np.log(2 / 3), 0], [1.5 * np.log(2 / 3), np.log(1)]], atol=1e-12)


def test_ease_weighs_history_by_age_and_leaves_rare_items_out():
    events = [(0, 0, 5), (0, 2, 5), (1, 1, 5), (1, 2, 5), (2, 0, 1), (2, 1, 20), (3, 3, 1)]
    task = make_task(events, [2])
    bought = np.array([[1.0, 0, 1], [0, 1, 1], [1, 1, 0], [0, 0, 0]])
    history = 0.5 ** (np.array([1, 20, np.inf]) / 10)
    precision = np.linalg.inv(bought.T @ bought + np.eye(3))
    expected = history @ (np.eye(3) - precision / np.diag(precision))
    found = ease(task, 1.0, half_life=10, most_bought=3)
    assert ranked(found) == list(np.argsort(-expected))  # item 3 is not among the three most bought
    np.testing.assert_allclose(found.scores[0, :3], -np.sort(-expected), rtol=1e-4)
    # Without the half-life both history items count alike.
    assert not np.allclose(ease(task, 1.0, half_life=np.inf, most_bought=3).scores, found.scores)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.sampled_from([0.0, 1.0, 2.0, -np.inf]), max_size=30), st.integers(1, 12))
def test_best_items_are_the_first_of_a_stable_sort(scores, depth):
    values = np.array(scores, np.float32)
    expected = [n for n in np.argsort(-values, kind="stable") if values[n] > -np.inf][:depth]
    assert best_items(values, depth).tolist() == expected


def test_excluded_items_are_never_ranked_and_short_rankings_are_padded():
    task = make_task([], [-1, -1], excluded=[[0, 3], []])
    found = rank_by_scores(task, lambda block: np.array([[9.0, 1, 2, 9], [1, 1, -np.inf, 0]])[block], depth=5)
    assert found.items.tolist() == [[2, 1, -1, -1, -1], [0, 1, 3, -1, -1]]


def test_a_task_comes_back_from_disk_as_it_was(tmp_path):
    task = make_task(EVENTS, [0, -1], excluded=[[1], []], queries=["mug", ""])
    save_arrays(tmp_path / "task.npz", task)
    for name, values in load_task(tmp_path / "task.npz")._asdict().items():
        np.testing.assert_array_equal(values, getattr(task, name))
    assert [path.name for path in tmp_path.iterdir()] == ["task.npz"]


def test_factors_rank_by_inner_product_and_strangers_get_popularity():
    users, items = (
        np.array([[1, 0], [0, 1], [5, 5]], np.float32),
        np.array([[0, 3], [2, 1], [1, 2], [0, 0]], np.float32),
    )
    task = make_task(EVENTS, [1, -1, 2, 0], excluded=[[], [], [], [1]])  # user 2 has no events
    found = rank_by_factors(task, users, items)
    assert [ranked(found, n) for n in range(4)] == [[0, 2, 1, 3], [0, 1, 2, 3], [0, 1, 2, 3], [2, 0, 3]]


def test_a_request_without_a_query_is_the_mean_of_its_users_texts():
    items = np.eye(4, dtype=np.float32)
    task = make_task(EVENTS, [0, 0, -1], queries=["", "mug", ""])
    queries = np.array([[9, 9, 9, 9], [0, 0, 3, 4], [9, 9, 9, 9]], np.float32)
    # User 0 bought items 1 (three times) and 2: each counts once.
    half = np.sqrt(0.5)
    expected = [[0, half, half, 0], [0, 0, 0.6, 0.8], [0, 0, 0, 0]]
    np.testing.assert_allclose(request_vectors(task, items, queries), expected, rtol=1e-6)


def test_a_search_log_without_users_has_no_history():
    task = make_task([(-1, 1, 1, "mug")], [-1], queries=["lamp"])
    got = request_vectors(task, np.eye(4, dtype=np.float32), np.array([[0, 2, 0, 0]], np.float32))
    np.testing.assert_allclose(got, [[0, 1, 0, 0]])
