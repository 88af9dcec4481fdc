"""What goes together and what is on the rise, against NumPy float64 written out."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import sparse

from towers.item_to_item import Actions, ease_weights, item_to_item, low_rank, newest_actions, trend
from transform.features import AGE_BOUNDARIES_DAYS

USERS, ITEMS = 30, 9
BOUGHT = (np.random.default_rng(1).random((USERS, ITEMS)) < 0.3).astype(np.float32)


def ridge(bought, penalty):
    """Each item's regression on the others, one at a time: the b of least |x_j - X b|^2 + penalty |b|^2 with b_j = 0."""
    items = bought.shape[1]
    weights = np.zeros((items, items))
    for item in range(items):
        others = np.arange(items) != item
        x = bought[:, others].astype(np.float64)
        weights[others, item] = np.linalg.solve(
            x.T @ x + penalty * np.eye(items - 1), x.T @ bought[:, item].astype(np.float64)
        )
    return weights


@settings(max_examples=25, deadline=None)
@given(arrays(np.float32, (7, 5), elements=st.sampled_from([0.0, 1.0])), st.floats(0.5, 50))
def test_ease_is_the_ridge_regression_of_each_item_on_the_others(bought, penalty):
    got = ease_weights(sparse.csr_matrix(bought), penalty)
    np.testing.assert_allclose(got, ridge(bought, penalty), atol=1e-5)
    assert not np.diag(got).any()


def test_another_penalty_is_another_solution():
    got = ease_weights(sparse.csr_matrix(BOUGHT), 20.0)
    assert np.abs(got - ridge(BOUGHT, 40.0)).max() > 1e-3


def test_a_penalty_that_solves_nothing_is_named():
    with pytest.raises(ValueError, match="is not positive definite, expected a penalty above 0"):
        ease_weights(sparse.csr_matrix(np.zeros((3, 2), np.float32)), 0.0)


@pytest.mark.parametrize("dimension", [1, 3, ITEMS, ITEMS + 4])
def test_so_many_dimensions_say_as_much_of_the_scores_as_any_could(dimension):
    bought, weights = sparse.csr_matrix(BOUGHT), ridge(BOUGHT, 2.0).astype(np.float32)
    given, gives = low_rank(bought, weights, dimension)
    assert given.shape == gives.shape == (ITEMS, dimension)
    scores = BOUGHT.astype(np.float64) @ weights
    left_over = np.linalg.svd(scores, compute_uv=False)[dimension:]
    error = np.linalg.norm(scores - BOUGHT @ given @ gives.T)
    assert error == pytest.approx(np.sqrt(np.sum(left_over**2)), abs=1e-4)
    sizes = np.sqrt(np.mean((BOUGHT @ given) ** 2, axis=0))
    np.testing.assert_allclose(sizes[: min(dimension, ITEMS)], 1.0, rtol=1e-4)


def test_of_many_items_the_leading_directions_are_found():
    """More items than the randomised decomposition has columns, in groups that users keep to."""
    random = np.random.default_rng(5)
    group = random.integers(0, 6, 80)
    bought = (
        random.random((300, 80)) < np.where(random.integers(0, 6, 300)[:, None] == group, 0.5, 0.05)
    ) * 1.0
    weights = ridge(bought, 20.0)
    scores = bought @ weights
    given, gives = low_rank(
        sparse.csr_matrix(bought.astype(np.float32)), weights.astype(np.float32), dimension=8
    )
    left_over = np.linalg.svd(scores, compute_uv=False)[8:]
    error = np.linalg.norm(scores - bought @ given @ gives.T)
    assert error == pytest.approx(np.sqrt(np.sum(left_over**2)), rel=1e-3)


events = st.lists(  # of one user, newest first: item, bucket of its age, whether it counts
    st.tuples(st.integers(0, 5), st.integers(0, 12), st.booleans()), max_size=8
)


@settings(max_examples=100, deadline=None)
@given(st.lists(events, min_size=1, max_size=5))
def test_each_users_newest_event_with_an_item_is_taken(users):
    columns = list(zip(*(event for one in users for event in one), strict=True)) or [(), (), ()]
    items, ages, counts = (np.array(c, t) for c, t in zip(columns, (np.int32, np.int32, bool), strict=True))
    offsets = np.concatenate([[0], np.cumsum([len(one) for one in users])])
    expected = {}
    for user, one in enumerate(users):
        for item, age, does_count in one:
            if item and does_count:
                expected.setdefault((user, item), age)
    got = newest_actions(items, ages, counts, offsets)
    found = dict(
        zip(zip(got.users.tolist(), got.items.tolist(), strict=True), got.ages.tolist(), strict=True)
    )
    assert found == expected
    assert len(got.users) == len(expected)


def actions_of(pairs):
    """(user, item, bucket of the age) as actions."""
    return Actions(*(np.array(column, np.int64) for column in zip(*pairs, strict=True)))


def test_the_trend_is_an_items_share_of_recent_users_over_that_of_all():
    last_month = AGE_BOUNDARIES_DAYS.index(32.0) + 1
    rising = [(user, 1, 3) for user in range(8)] + [(8, 1, last_month), (9, 1, last_month + 1)]
    falling = [(user, 2, 12) for user in range(9)] + [(9, 2, 0)]
    got = trend(actions_of(rising + falling), 4)
    share = 9 / 20
    expected = [0.0, *(np.log((recent + 5 * share) / (10 + 5) / share) for recent in (9, 0)), 0.0]
    np.testing.assert_allclose(got, expected, atol=1e-6)
    assert got[1] > 0 > got[2]
    assert not trend(actions_of(falling), 4).any()


def test_the_items_that_most_users_acted_on_are_modelled():
    counts = {1: 2, 2: 7, 3: 1, 4: 6, 6: 4}
    actions = actions_of([(user, item, 1) for item, users in counts.items() for user in range(users)])
    found = item_to_item(actions, 8, 3, 4)
    assert found.rows.tolist() == [2, 4, 6]
    assert found.given.shape == found.gives.shape == (3, 4)
    assert found.trend.shape == (8,)
    bought = np.array([[user < counts[item] for item in (2, 4, 6)] for user in range(7)], np.float32)
    np.testing.assert_allclose(
        bought @ found.given @ found.gives.T, bought @ ridge(bought, 300.0), atol=1e-5, rtol=1e-3
    )
    assert item_to_item(actions, 8, 100, 4).rows.tolist() == [2, 4, 6, 1, 3]
