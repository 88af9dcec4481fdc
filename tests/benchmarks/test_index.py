"""The index benchmark's own arithmetic: exact neighbours, recall, a rate read off a curve, the section it writes."""

import numpy as np
import pytest

from benchmarks import index_data
from benchmarks.index_measure import curve, recall
from benchmarks.index_report import rate_at, report


def test_drawn_vectors_have_clusters_and_queries_like_the_items() -> None:
    items, queries = index_data.draw_clustered(20_000, 32, 50)
    again, _ = index_data.draw_clustered(20_000, 32, 50)
    np.testing.assert_array_equal(items, again)
    np.testing.assert_allclose(np.linalg.norm(items, axis=1), 1, rtol=1e-5)
    nearest = np.sort(queries @ items.T, axis=1)[:, -1]
    shuffled = np.random.default_rng(0).permuted(items, axis=1)  # the same numbers, no clusters
    assert nearest.mean() > np.sort(queries @ shuffled.T, axis=1)[:, -1].mean() + 0.05


def test_exact_neighbours_are_a_matrix_products_over_blocks(monkeypatch, tmp_path) -> None:
    monkeypatch.setattr(index_data, "_BLOCK", 150)
    random = np.random.default_rng(1)
    items, queries = random.normal(size=(1000, 8)), random.normal(size=(40, 8))
    index_data.save(tmp_path, items.astype(np.float32), queries.astype(np.float32))
    vectors = index_data.load(tmp_path)
    assert (len(vectors.tuning), len(vectors.queries)) == (20, 20)
    expected = np.argsort(-(queries[1::2] @ items.T), axis=1)[:, :100]
    assert recall(vectors.exact, expected) == 1.0 and (vectors.exact == expected).mean() > 0.99


def test_recall_is_the_share_of_the_exact_rows() -> None:
    exact = np.array([[1, 2], [3, 4]])
    assert recall(np.array([[2, 9], [4, 3]]), exact) == 0.75
    points = curve(
        [("all", lambda q, k: np.tile(exact[:1, :k], (len(q), 1)))],
        np.zeros((130, 2)),
        np.tile(exact[:1], (130, 1)),
        2,
    )
    assert (points[0]["recall"], points[0]["k"], points[0]["setting"]) == (1.0, 2, "all")
    assert points[0]["single"] > 0 and points[0]["batch"] > 0


def point(k: int, found: float, rate: int) -> dict[str, object]:
    return {"k": k, "setting": "", "recall": found, "single": rate, "batch": 2 * rate}


def test_rate_is_read_between_the_points_around_the_recall() -> None:
    points = [point(10, 0.97, 50), point(100, 0.9, 1000), point(100, 1.0, 10)]
    assert rate_at(points, 100, "single") == pytest.approx(100)  # half way, in the logarithm
    assert rate_at(points, 100, "single", 0.9) == 1000
    assert rate_at(points, 10, "batch") == 100  # the cheapest setting finds more already
    assert rate_at(points, 10, "single", 0.98) is None


def test_section_has_a_row_a_library(tmp_path) -> None:
    document = tmp_path / "benchmarks.md"
    document.write_text("<!-- index -->\n<!-- /index -->\n")
    ours = {"build_seconds": 2.4, "memory_mb": 10, "points": [point(10, 0.96, 70), point(100, 0.96, 60)]}
    other = {"build_seconds": 9, "memory_mb": 1000, "points": [point(10, 0.9, 5), point(100, 0.96, 40)]}
    found = {"items": 5000, "dimension": 16, "queries": 20, "libraries": {"ScaNN": ours, "other": other}}
    report({"drawn": found}, document)
    text = document.read_text()
    assert "| ScaNN | 70 | 140 | 60 | 120 | 2 | 10 |" in text
    assert "| other | not reached | not reached | 40 | 80 | 9 | 1,000 |" in text
    assert "bar [60.0000, 40.0000]" in text and "5,000 x 16, 20 queries" in text
