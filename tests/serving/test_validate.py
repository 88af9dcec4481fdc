"""What stands between a bad index and the push directory."""

import json
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from serving import bundle as bundles
from serving.index import SCANN_DIR
from serving.index_build import build_index
from serving.settings import IndexSettings
from serving.validate import main, validate_bundle
from tests.serving.conftest import Shop

SETTINGS = IndexSettings(k=20)


def eval_row(query: str) -> bytes:
    example = tf.train.Example()
    example.features.feature["query"].bytes_list.value.append(query.encode())
    return example.SerializeToString()


def test_good_bundle_has_no_problem_and_figures(shop: Shop, tmp_path: Path) -> None:
    split = tmp_path / "Split-eval"
    split.mkdir()
    with tf.io.TFRecordWriter(str(split / "data_tfrecord-00000-of-00001.gz"), "GZIP") as writer:
        for number in range(30):
            writer.write(eval_row(f"red mug {number}"))
    out = tmp_path / "report.json"
    words = [shop.bundle_dir, "--out", str(out), "--index", SETTINGS.model_dump_json()]
    assert main([*words, "--examples", str(split)]) == 0
    report = json.loads(out.read_text())
    assert report["problems"] == []
    assert (report["queries"], report["k"], report["recall"], report["item_count"]) == (30, 20, 1.0, 60)
    assert 0 < report["p50_ms"] <= report["p99_ms"]


def test_bundle_without_stored_queries_is_asked_for_its_titles(shop: Shop) -> None:
    report = validate_bundle(shop.bundle_dir, SETTINGS)
    assert (report.problems, report.queries, report.recall) == ((), 60, 1.0)


def test_index_of_other_vectors_misses_the_bar(shop: Shop, tmp_path: Path) -> None:
    # Right number of items, right hashes, but each item stands in another's place: only recall can tell.
    directory = bundles.publish(shop.bundle_dir, tmp_path / "push", 1)
    shuffled = np.random.default_rng(0).permutation(shop.catalogue.vectors)
    build_index(-shuffled, SETTINGS).save(directory / SCANN_DIR)
    bundles.seal(directory, item_count=60, dimension=8, k=20)
    (problem,) = validate_bundle(str(directory), SETTINGS).problems
    assert "of the exact top 20, expected at least 0.95" in problem


def test_slow_and_damaged_bundles_are_told_apart(shop: Shop, tmp_path: Path) -> None:
    settings = SETTINGS.model_copy(update={"max_p99_ms": 0.001})
    (problem,) = validate_bundle(shop.bundle_dir, settings, [eval_row("mug")]).problems
    assert "ms at the 99th percentile, expected at most 0.001" in problem
    directory = bundles.publish(shop.bundle_dir, tmp_path / "push", 1)
    (directory / "saved_model.pb").unlink()
    (problem,) = validate_bundle(str(directory), SETTINGS).problems
    assert "saved_model.pb is missing" in problem


@pytest.mark.parametrize("wrong", ['{"target_recall": 0.9}', '{"kk": 1}'])
def test_wrong_settings_are_refused(shop: Shop, tmp_path: Path, wrong: str) -> None:
    with pytest.raises(ValueError, match="target_recall is 0.9, expected at least min_recall|kk"):
        main([shop.bundle_dir, "--out", str(tmp_path / "report.json"), "--index", wrong])
