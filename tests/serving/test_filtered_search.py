"""Filtered search finds the best eligible items, however many or few they are."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serving.filtered_search import search_eligible, search_filtered
from serving.index import Index, Neighbours
from serving.index_build import build_index
from serving.settings import IndexSettings


def best(query: np.ndarray, eligible: np.ndarray, vectors: np.ndarray, k: int) -> list[int]:
    """Eligible rows by (score down, row up), in float64."""
    scores = vectors.astype(np.float64) @ query.astype(np.float64)
    return sorted(np.flatnonzero(eligible).tolist(), key=lambda row: (-scores[row], row))[:k]


@settings(max_examples=80, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    items=st.integers(1, 40),
    requests=st.integers(1, 4),
    k=st.integers(1, 12),
    share=st.sampled_from([0.0, 0.1, 0.5, 1.0]),
    exact=st.booleans(),
)
def test_random_filters_agree_with_brute_force(seed, items, requests, k, share, exact) -> None:
    random = np.random.default_rng(seed)
    vectors = random.integers(-2, 3, (items, 3)).astype(
        np.float32
    )  # small whole numbers: ties, and sums without error
    queries = random.integers(-2, 3, (requests, 3)).astype(np.float32)
    masks = [random.random(items) < share if random.random() < 0.8 else None for _ in range(requests)]
    history = random.integers(-1, items, (requests, 5))
    kept = history.copy()
    index = build_index(vectors, IndexSettings(k=k))
    found = search_filtered(queries, iter(masks), kept, index, vectors, exact)
    for request, mask in enumerate(masks):
        everything = mask is None
        mask = np.ones(items, bool) if everything else mask
        expected = best(queries[request], mask, vectors, min(k, items))
        rows, scores = found.rows[request], found.scores[request]
        assert rows.shape == scores.shape == (min(k, items),)
        there = rows >= 0
        assert there.sum() == len(expected)  # k of them, or all that are eligible
        assert mask[rows[there]].all() and len(set(rows[there])) == there.sum()
        np.testing.assert_array_equal(scores[there], vectors[expected] @ queries[request])
        np.testing.assert_array_equal(scores[there], vectors[rows[there]] @ queries[request])
        assert (scores[~there] == -np.inf).all() and not there[np.argmin(there) :].all() or there.all()
        if not everything:
            assert rows[there].tolist() == expected  # ties by position
        ours = history[request]
        np.testing.assert_array_equal(kept[request], np.where((ours >= 0) & mask[ours], ours, -1))


class Counting(Index):
    """Notes how many items it was asked for."""

    def __init__(self, index: Index) -> None:
        super().__init__(index._searcher, index.size, index.dimension, index.k, index.tuning)
        self.asked: list[int | None] = []

    def search(self, queries: np.ndarray, k: int | None = None) -> Neighbours:
        self.asked.append(k)
        return super().search(queries, k)


@pytest.fixture(scope="module")
def vectors() -> np.ndarray:
    random = np.random.default_rng(3)
    centres = random.normal(size=(40, 16))
    return (centres[random.integers(0, 40, 3000)] + 0.5 * random.normal(size=(3000, 16))).astype(np.float32)


@pytest.fixture
def index(vectors: np.ndarray) -> Counting:
    index = build_index(vectors, IndexSettings(k=10, brute_force_below=0))
    assert index.tuning
    index.tuning = index.tuning.model_copy(update={"reorder": 100})  # what is narrow depends on it
    return Counting(index)


def test_wide_filter_is_answered_out_of_a_wider_search(index: Counting, vectors: np.ndarray) -> None:
    random = np.random.default_rng(4)
    right = 0
    for query in vectors[:100]:
        eligible = random.random(3000) < 0.5
        found = search_eligible(query, eligible, index, vectors)
        assert eligible[found.rows[0]].all()
        np.testing.assert_allclose(found.scores[0], vectors[found.rows[0]] @ query, rtol=1e-4)
        right += len(set(found.rows[0]) & set(best(query, eligible, vectors, 10)))
    assert right >= 0.95 * 100 * 10
    # Of 3,000 items about half are eligible: twice 10 / 0.5 are asked for.
    assert len(index.asked) == 100 and all(36 <= asked <= 46 for asked in index.asked)


def test_few_items_left_out_cost_only_as_many_more(index: Counting, vectors: np.ndarray) -> None:
    eligible = np.ones(3000, bool)
    eligible[[5, 17]] = False
    search_eligible(vectors[5], eligible, index, vectors)
    assert index.asked == [12]


def test_narrow_filter_is_answered_exactly(index: Counting, vectors: np.ndarray) -> None:
    eligible = np.zeros(3000, bool)
    eligible[::10] = True  # 300: a search for 2 * 10 * 10 would compare 2,000
    found = search_eligible(vectors[1], eligible, index, vectors)
    assert found.rows[0].tolist() == best(vectors[1], eligible, vectors, 10)
    assert index.asked == []


def test_filter_against_the_query_is_answered_exactly_after_all(index: Counting, vectors: np.ndarray) -> None:
    query = vectors[2]
    eligible = vectors @ query < np.median(vectors @ query)  # none of the best 1,500 is
    found = search_eligible(query, eligible, index, vectors)
    assert found.rows[0].tolist() == best(query, eligible, vectors, 10)
    assert len(index.asked) == 1


def test_exact_asks_no_index(index: Counting, vectors: np.ndarray) -> None:
    eligible = np.ones(3000, bool)
    found = search_eligible(vectors[7], eligible, index, vectors, exact=True)
    assert found.rows[0].tolist() == best(vectors[7], eligible, vectors, 10)
    assert index.asked == []


def test_broken_query_is_refused(index: Counting, vectors: np.ndarray) -> None:
    broken = np.full((1, 16), np.nan, np.float32)
    with pytest.raises(ValueError, match="not finite"):
        search_filtered(broken, [np.ones(3000, bool)], np.zeros((1, 0), np.int64), index, vectors)
