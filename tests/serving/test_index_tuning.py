"""The tuner chooses the cheapest setting that finds enough, against a search whose misses are known."""

import logging
import tracemalloc
import weakref

import numpy as np
import pytest

from serving import index_build, index_tuning
from serving.index_build import build_index
from serving.index_tuning import least_scores, tune
from serving.settings import IndexSettings
from transform.errors import TandemError

LEAVES, K = 64, 10


class Ladder:
    """Finds exactly so many of the top 10: limited by partitions and by candidates, whichever is fewer."""

    def __init__(self, vectors: np.ndarray) -> None:
        self.vectors = vectors
        self.asked: list[tuple[int, int]] = []

    def found(self, searched: int, reorder: int) -> int:
        return min(searched // 2, reorder // 5, K)  # 20 partitions and 50 candidates find all ten

    def __call__(self, queries: np.ndarray, searched: int, reorder: int) -> np.ndarray:
        self.asked.append((searched, reorder))
        scores = -np.sort(-(queries @ self.vectors.T), axis=1)
        found = self.found(searched, reorder)
        return np.concatenate([scores[:, :found], scores[:, -1:].repeat(K - found, axis=1)], axis=1)


@pytest.fixture(scope="module")
def vectors() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(4000, 12)).astype(np.float32)


@pytest.mark.parametrize("target", [0.5, 0.7, 1.0])
def test_cheapest_setting_that_finds_enough(vectors: np.ndarray, target: float) -> None:
    # Partitions come in steps 1..6, 8, 10, 12, 15, 18, 22, ..., candidates as 1, 1.5, 2, 3, 4, 6, ... times k.
    search = Ladder(vectors)
    tuning = tune(search, vectors, vectors[:20], k=K, leaves=LEAVES, target=target)
    affordable = [
        (LEAVES + 4000 * 2 / 16 * s / LEAVES + r, s, r)
        for s in (1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 15, 18, 22, 27, 33, 41, 51, 63, 64)
        for r in (10, 15, 20, 30, 40, 60, 80, 120, 200)
        if search.found(s, r) >= target * K
    ]
    assert (tuning.searched, tuning.reorder) == min(affordable)[1:]
    assert tuning.recall == search.found(tuning.searched, tuning.reorder) / K >= target
    assert (tuning.leaves, tuning.k, tuning.target, tuning.queries) == (LEAVES, K, target, 20)
    assert len(search.asked) <= 60 and len(set(search.asked)) == len(search.asked)


def test_target_out_of_reach_says_what_was_reached(vectors: np.ndarray) -> None:
    class Half(Ladder):
        def found(self, searched: int, reorder: int) -> int:
            return 6

    with pytest.raises(TandemError, match=r"finds 0\.6000 of the exact top 10 at best .*target_recall 0\.98"):
        tune(Half(vectors), vectors, vectors[:20], k=K, leaves=LEAVES, target=0.98)


def test_kth_score_is_a_matrix_products_and_an_equal_item_counts(vectors: np.ndarray) -> None:
    queries = vectors[:7]
    exact = np.sort(queries.astype(np.float64) @ vectors.T.astype(np.float64), axis=1)[:, -K]
    least = least_scores(vectors, queries, K)
    assert ((exact - least) > 0).all() and (exact - least < 1e-3).all()
    next_best = np.sort(queries.astype(np.float64) @ vectors.T.astype(np.float64), axis=1)[:, -K - 1]
    assert (next_best < least).mean() > 0.8  # the slack lets no other item in, but near ties


def test_kth_scores_in_blocks_are_those_of_all_at_once_and_one_block_is_held(vectors, monkeypatch) -> None:
    queries = vectors[:1001]
    whole = least_scores(vectors, queries, K)
    monkeypatch.setattr(index_tuning, "_SCORES", 250 * len(vectors))  # the last block has one query
    tracemalloc.start()
    blocks = least_scores(vectors, queries, K)
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    np.testing.assert_allclose(blocks, whole, rtol=1e-5)
    assert most < 1.5 * 4 * 250 * len(vectors)


def test_index_is_tuned_on_the_queries_it_is_given(vectors: np.ndarray, caplog) -> None:
    settings = IndexSettings(k=K, brute_force_below=0, min_recall=0.5, target_recall=0.9)
    near = build_index(vectors, settings)
    random = np.random.default_rng(1)
    with caplog.at_level(logging.INFO, "tandem.index"):
        far = near.tuned(vectors, random.normal(size=(2000, 12)).astype(np.float32), target=0.9)
    assert near.tuning and far.tuning
    assert near.tuning.queries == far.tuning.queries == 500
    assert far.tuning.recall >= 0.9 and "of the exact top 10 (target 0.9, 500 queries" in caplog.text
    higher = near.tuned(vectors, vectors[:300], target=0.999, k=20)
    assert higher.tuning and higher.k == 20 and higher.tuning.recall >= 0.999
    cost = [t.searched / t.leaves * 500 + t.reorder for t in (near.tuning, higher.tuning)]
    assert cost[0] < cost[1]


def test_each_dimension_gets_a_code_where_codes_of_two_lose_what_queries_ask_for(caplog, monkeypatch) -> None:
    # The code of two dimensions describes the large one; queries ask for the small one only.
    random = np.random.default_rng(2)
    vectors = (random.normal(size=(3000, 32)) * np.tile([10.0, 0.1], 16)).astype(np.float32)
    queries = (random.normal(size=(100, 32)) * np.tile([0.0, 1.0], 16)).astype(np.float32)
    settings = IndexSettings(k=K, brute_force_below=0)
    built, build = [], index_build._partitioned

    def partitioned(*arguments):
        assert all(before() is None for before in built)  # two indexes need not fit into memory
        searcher = build(*arguments)
        built.append(weakref.ref(searcher))
        return searcher

    monkeypatch.setattr(index_build, "_partitioned", partitioned)
    with caplog.at_level(logging.INFO, "tandem.index"):
        tuning = build_index(vectors, settings, queries).tuning
    assert len(built) == 2
    assert tuning and tuning.recall >= settings.target_recall
    assert "vectors coded by 2 dimensions: the index finds" in caplog.text
    monkeypatch.setattr(index_build, "_CODED_DIMENSIONS", (2,))
    with pytest.raises(TandemError, match=r"search exactly with index\.brute_force_below above 3000"):
        build_index(vectors, settings, queries)
