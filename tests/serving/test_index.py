"""ScaNN finds what a matrix product finds, wherever its directory has moved."""

import shutil

import numpy as np
import pytest

from serving.index import build_index, load_index
from serving.manifest import BundleError
from serving.settings import IndexSettings

EXACT = IndexSettings(k=10)
QUANTISED = IndexSettings(k=10, brute_force_below=0, reorder=200)
PARTITIONED = IndexSettings(k=10, brute_force_below=0, partition_above=0, reorder=200)


@pytest.fixture(scope="module")
def vectors() -> np.ndarray:
    rng = np.random.default_rng(3)
    centres = rng.normal(size=(40, 32))
    return (centres[rng.integers(0, 40, 3000)] + 0.5 * rng.normal(size=(3000, 32))).astype(np.float32)


def best(vectors: np.ndarray, queries: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    scores = queries.astype(np.float64) @ vectors.astype(np.float64).T
    rows = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    return rows, np.take_along_axis(scores, rows, axis=1)


def test_small_catalogue_is_searched_exactly(vectors: np.ndarray) -> None:
    found = build_index(vectors, EXACT).search(vectors[:50])
    rows, scores = best(vectors, vectors[:50], 10)
    np.testing.assert_array_equal(found.rows, rows)
    np.testing.assert_allclose(found.scores, scores, rtol=1e-5)


@pytest.mark.parametrize("settings", [QUANTISED, PARTITIONED], ids=["quantised", "partitioned"])
def test_large_catalogue_is_searched_well_and_scores_are_exact(
    vectors: np.ndarray, settings: IndexSettings
) -> None:
    found = build_index(vectors, settings).search(vectors[:200])
    rows, _ = best(vectors, vectors[:200], 10)
    recall = np.mean([len(set(f) & set(r)) / 10 for f, r in zip(found.rows, rows, strict=True)])
    assert recall >= 0.9
    true = np.einsum("bd,bkd->bk", vectors[:200].astype(np.float64), vectors[found.rows])
    np.testing.assert_allclose(found.scores, true, rtol=1e-5)  # reordered in float32, not the quantised score


@pytest.mark.parametrize(
    "settings", [EXACT, QUANTISED, PARTITIONED], ids=["exact", "quantised", "partitioned"]
)
def test_index_answers_the_same_after_its_directory_moved(vectors, settings, tmp_path) -> None:
    index = build_index(vectors, settings)
    index.save(tmp_path / "made here" / "scann")
    shutil.move(tmp_path / "made here", tmp_path / 'moved "there"')
    moved = load_index(tmp_path / 'moved "there"' / "scann", k=10)
    assert moved.size == 3000
    np.testing.assert_array_equal(moved.search(vectors[:20]).rows, index.search(vectors[:20]).rows)
    for file in (tmp_path / 'moved "there"').rglob("*.pbtxt"):
        assert str(tmp_path) not in file.read_text()


def test_every_query_gets_k_items_even_from_a_partition_of_two(vectors: np.ndarray) -> None:
    # 3000 leaves, one of them searched: a leaf holds about one item, k is 10.
    settings = IndexSettings(
        k=10, brute_force_below=0, partition_above=0, leaves=1000, searched_share=0.001, reorder=200
    )
    found = build_index(vectors, settings).search(vectors[:30])
    assert np.isfinite(found.scores).all()
    assert all(len(set(row)) == 10 for row in found.rows)


def test_catalogue_smaller_than_k_is_returned_whole(vectors: np.ndarray) -> None:
    for settings in (EXACT, QUANTISED, PARTITIONED):
        found = build_index(vectors[:4], settings).search(vectors[:2])
        assert sorted(found.rows[0]) == [0, 1, 2, 3]


@pytest.mark.parametrize("count", [1, 2, 15, 16, 17])
def test_catalogue_too_small_to_quantise_is_searched_all_the_same(vectors: np.ndarray, count: int) -> None:
    settings = IndexSettings(k=1, brute_force_below=0, partition_above=0, searched_share=1.0, reorder=20)
    found = build_index(vectors[:count], settings).search(vectors[:count])
    np.testing.assert_array_equal(found.rows, best(vectors[:count], vectors[:count], 1)[0])


def test_broken_vectors_are_refused(vectors: np.ndarray) -> None:
    index = build_index(vectors, EXACT)
    with pytest.raises(ValueError, match="not finite"):
        index.search(np.full((1, 32), np.nan, np.float32))
    with pytest.raises(ValueError, match=r"\[1, 5\]"):
        index.search(np.zeros((1, 5), np.float32))
    with pytest.raises(ValueError, match=r"\[0, 32\]"):
        index.search(np.zeros((0, 32), np.float32))
    with pytest.raises(ValueError, match="not finite"):
        build_index(np.full((3, 2), np.inf, np.float32), EXACT)
    with pytest.raises(ValueError, match="at least one item"):
        build_index(np.zeros((0, 2), np.float32), EXACT)


def test_missing_and_damaged_index_are_refused(vectors, tmp_path) -> None:
    with pytest.raises(BundleError, match="is not an index .*scann_assets.pbtxt"):
        load_index(tmp_path, k=10)
    build_index(vectors, PARTITIONED).save(tmp_path / "scann")
    for file in sorted((tmp_path / "scann").iterdir()):
        content = file.read_bytes()
        file.write_bytes(b"")
        with pytest.raises(BundleError, match="is not an index"):
            load_index(tmp_path / "scann", k=10)
        file.unlink()
        with pytest.raises(BundleError, match=f"is not an index .*{file.name}"):
            load_index(tmp_path / "scann", k=10)
        file.write_bytes(content)
    assert load_index(tmp_path / "scann", k=10).size == 3000
