"""ScaNN finds what a matrix product finds, wherever its directory has moved."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from serving import index
from serving.index import load_index, read_vectors
from serving.index_build import build_index
from serving.index_tuning import Tuning
from serving.manifest import BundleError
from serving.settings import IndexSettings

EXACT = IndexSettings(k=10)
PARTITIONED = IndexSettings(k=10, brute_force_below=0)


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


def test_large_catalogue_is_searched_well_and_scores_are_exact(vectors: np.ndarray) -> None:
    found = build_index(vectors[200:], PARTITIONED, vectors[:100]).search(vectors[100:200])
    rows, _ = best(vectors[200:], vectors[100:200], 10)
    recall = np.mean([len(set(f) & set(r)) / 10 for f, r in zip(found.rows, rows, strict=True)])
    assert recall >= 0.95  # tuned to 0.98 on others
    true = np.einsum("bd,bkd->bk", vectors[100:200].astype(np.float64), vectors[200:][found.rows])
    np.testing.assert_allclose(found.scores, true, rtol=1e-5)  # reordered in float32, not the quantised score


@pytest.mark.parametrize("settings", [EXACT, PARTITIONED], ids=["exact", "partitioned"])
def test_index_answers_the_same_after_its_directory_moved(vectors, settings, tmp_path) -> None:
    index = build_index(vectors, settings)
    index.save(tmp_path / "made here" / "scann")
    shutil.move(tmp_path / "made here", tmp_path / 'moved "there"')
    moved = load_index(tmp_path / 'moved "there"' / "scann", k=10)
    assert (moved.size, moved.k, moved.tuning) == (3000, 10, index.tuning)
    np.testing.assert_array_equal(moved.search(vectors[:20]).rows, index.search(vectors[:20]).rows)
    for file in (tmp_path / 'moved "there"').rglob("*.pbtxt"):
        assert str(tmp_path) not in file.read_text()


def test_every_query_gets_k_items_even_from_a_partition_of_two(vectors: np.ndarray) -> None:
    # 1000 leaves, one of them searched: a leaf holds a few items, k is 10.
    index = build_index(vectors, IndexSettings(k=10, brute_force_below=0, leaves=1000))
    index.tuning = Tuning(leaves=1000, searched=1, reorder=200)
    found = index.search(vectors[:30])
    assert np.isfinite(found.scores).all()
    assert all(len(set(row)) == 10 for row in found.rows)


def test_catalogue_smaller_than_k_is_returned_whole(vectors: np.ndarray) -> None:
    for settings in (EXACT, PARTITIONED):
        found = build_index(vectors[:4], settings).search(vectors[:2])
        assert sorted(found.rows[0]) == [0, 1, 2, 3]


@pytest.mark.parametrize("count", [1, 2, 15, 16, 17])
def test_catalogue_too_small_to_quantise_is_searched_all_the_same(vectors: np.ndarray, count: int) -> None:
    settings = IndexSettings(k=1, brute_force_below=0, target_recall=1.0)
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
        if file.name != "tuning.json":  # indexes of older bundles have none
            with pytest.raises(BundleError, match=f"is not an index .*{file.name}"):
                load_index(tmp_path / "scann", k=10)
        file.write_bytes(content)
    assert load_index(tmp_path / "scann", k=10).size == 3000


def test_index_without_tuning_searches_as_it_was_built(vectors: np.ndarray, tmp_path) -> None:
    build_index(vectors, IndexSettings(k=10, brute_force_below=0, leaves=50)).save(tmp_path)
    (tmp_path / "tuning.json").unlink()
    tuning = load_index(tmp_path, k=10).tuning
    assert tuning == Tuning(leaves=50, searched=50, reorder=10)
    build_index(vectors, EXACT).save(tmp_path / "exact")
    assert load_index(tmp_path / "exact", k=10).tuning is None


def test_wider_search_looks_at_as_many_times_more(vectors: np.ndarray) -> None:
    index = build_index(vectors, IndexSettings(k=10, brute_force_below=0))
    assert index.tuning
    assert index.compared(5) == index.compared(10) == index.tuning.reorder
    assert index.compared(25) == min(3000, -(-index.tuning.reorder * 25 // 10))
    assert index.compared(3000) == 3000
    # All of them: every item once, though each lies in two partitions.
    everything = index.search(vectors[:3], 3000)
    assert all(sorted(row) == list(range(3000)) for row in everything.rows.tolist())
    rows, _ = best(vectors, vectors[:50], 200)
    found = index.search(vectors[:50], 200)
    assert np.mean([len(set(f) & set(r)) / 200 for f, r in zip(found.rows, rows, strict=True)]) >= 0.95


@pytest.mark.parametrize("size", [1, 1000, 1 << 20])
def test_vectors_are_read_back_whole_whatever_the_pieces(
    vectors: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    monkeypatch.setattr(index, "_READ_BYTES", size)
    build_index(vectors[:20], EXACT).save(tmp_path)
    np.testing.assert_array_equal(read_vectors(tmp_path), vectors[:20])
