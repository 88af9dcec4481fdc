"""A changed catalogue answers as if every item that counts had been compared, and as many items as before."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from serving.changed_items import ChangedItems, SideItem, exact_search
from serving.index import Neighbours
from serving.index_build import build_index
from serving.settings import IndexSettings


def changed(own: np.ndarray, hidden: list[int], beside: np.ndarray) -> ChangedItems:
    items = [SideItem(f"new-{n}".encode(), b"", b"", vector) for n, vector in enumerate(beside)]
    return ChangedItems(*own.shape).replace(1, items, hidden, [], set())


@settings(max_examples=80, deadline=None)
@given(
    st.data(),
    st.integers(0, 2**32),
    st.integers(1, 3),
    st.integers(1, 25),
    st.integers(0, 6),
    st.integers(1, 12),
)
def test_search_finds_the_best_of_all_items_that_count(data, seed, requests, own_count, side_count, k):
    random = np.random.default_rng(seed)
    own, beside = (random.normal(size=(n, 4)).astype(np.float32) for n in (own_count, side_count))
    queries = random.normal(size=(requests, 4)).astype(np.float32)
    hidden = data.draw(st.lists(st.integers(0, own_count - 1), unique=True))
    changes = changed(own, hidden, beside)
    found = changes.search(exact_search(own), queries, k)
    scores = queries.astype(np.float64) @ np.concatenate([own, beside]).T.astype(np.float64)
    scores[:, hidden] = -np.inf
    count = min(k, own_count - len(hidden) + side_count)
    assert found.rows.shape == found.scores.shape == (requests, count)
    np.testing.assert_allclose(found.scores, -np.sort(-scores, axis=1)[:, :count], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(
        found.scores, np.take_along_axis(scores, found.rows, axis=1), rtol=1e-4, atol=1e-5
    )
    assert all(len(set(row)) == count for row in found.rows.tolist())

    asked = []

    def search(queries: np.ndarray, most: int) -> Neighbours:
        asked.append(most)
        return exact_search(own)(queries, most)

    known = changes.search(search, queries, k, first=exact_search(own)(queries, changes.fetched(k)))
    np.testing.assert_array_equal(known.rows, found.rows)
    assert changes.fetched(k) not in asked


def test_partitioned_index_still_gives_k_items_when_its_best_are_hidden() -> None:
    random = np.random.default_rng(3)
    own = random.normal(size=(600, 8)).astype(np.float32)
    queries = random.normal(size=(4, 8)).astype(np.float32)
    index = build_index(own, IndexSettings(k=10, brute_force_below=0))
    best = np.argsort(-(queries @ own.T), axis=1)
    for hidden in (best[0, :300].tolist(), best[:, :50].ravel().tolist(), best[1, 5:].tolist()):
        changes = changed(own, hidden, own[:2] * 100)
        found = changes.search(index.search, queries, 10)
        counting = min(10, 600 - len(set(hidden)) + 2)
        assert found.rows.shape == (4, counting)
        assert not set(found.rows.ravel().tolist()) & set(hidden)
        exact = np.concatenate([own, own[:2] * 100])[found.rows]
        np.testing.assert_allclose(found.scores, np.einsum("qd,qkd->qk", queries, exact), rtol=1e-3)


def test_nothing_is_left_when_everything_is_hidden() -> None:
    own = np.eye(3, dtype=np.float32)
    changes = changed(own, [0, 1, 2], own[:0])
    assert changes.search(exact_search(own), own, 2).rows.shape == (3, 0)
    assert changes.row(b"x", 1) is None


def test_rows_ids_and_vectors_tell_of_the_same_items() -> None:
    own = np.arange(6, dtype=np.float32).reshape(3, 2)
    ids = np.array([b"a", b"b", b"c"], object)
    first = changed(own, [1], np.array([[7, 8]], np.float32))
    renewed = SideItem(b"b", b"title", b"", np.array([1, 1], np.float32))
    changes = first.replace(2, [renewed], [], [], {b"b"})
    assert [
        changes.row(i, r) for i, r in ((b"a", 0), (b"b", 1), (b"c", 2), (b"new-0", None), (b"?", None))
    ] == [
        0,
        4,
        2,
        3,
        None,
    ]
    rows = np.array([[4, 0, 3, 2]])
    assert changes.ids(rows, ids).tolist() == [[b"b", b"a", b"new-0", b"c"]]
    np.testing.assert_array_equal(changes.vectors(own)[rows[0]], [[1, 1], [0, 1], [7, 8], [4, 5]])
    shown = changes.replace(3, [], [], [1], {b"b"})  # the version's own content counts again
    assert shown.row(b"b", 1) == 1 and len(shown.beside) == 1
    assert first.row(b"b", 1) is None and bool(first) and not ChangedItems(3, 2)  # a state is never changed
