"""CatalogIndexer as TFX runs it: items in, a whole bundle out, the same whatever order the items come in."""

import json
from pathlib import Path

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tensorflow as tf
import tensorflow_data_validation as tfdv
import tfx
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from tensorflow_data_validation.statistics import stats_impl
from tensorflow_serving.apis import prediction_log_pb2
from tfx.types import standard_artifacts

from serving.bundle import BundleError, verify_bundle
from serving.catalog_indexer import CatalogIndexer
from serving.embed_items import embed_items, read_embedded_items, write_embedded_attributes
from serving.embed_queries import embed_queries
from serving.index import SCANN_DIR, load_index
from serving.item_attributes import read_attributes
from serving.op_check import check_ops
from serving.related import RELATED_DIR
from serving.settings import IndexSettings
from serving.warmup import WARMUP_REQUESTS
from serving.write_bundle import BASELINE, ITEMS, TRAINING_STATE, Catalogue, write_bundle
from tests.serving.conftest import FEATURES, Shop, load_model
from transform.bad_day_settings import BadDaySettings
from transform.baseline import read_baseline
from transform.errors import TandemError
from transform.examples import to_example
from transform.features import query_inputs
from transform.request_baseline import read_request_baseline
from transform.settings import FeatureSettings
from transform.span_counts import SpanCount


def write_items(directory: Path, items: dict[str, np.ndarray], order: np.ndarray) -> None:
    directory.mkdir(parents=True)
    for shard, part in enumerate(np.array_split(order, 2)):
        path = directory / f"data_tfrecord-{shard:05d}-of-00002.gz"
        with tf.io.TFRecordWriter(str(path), "GZIP") as writer:
            for row in part:
                example = tf.train.Example()
                for name, values in items.items():
                    value, kind = values[row], example.features.feature[name]
                    if isinstance(value, str) and value:
                        kind.bytes_list.value.append(value.encode())
                    elif not isinstance(value, str) and np.isfinite(value):
                        kind.float_list.value.append(value)
                writer.write(example.SerializeToString())


REQUESTS = (
    {"query": "red mug", "user_id": "ada", "segment": "family", "basket": 2.0},
    {
        **{"user_id": "bob", "segment": "single", "history_item_ids": ["sku-1", "sku-2"]},
        **{"history_event_types": ["view", "view"], "history_ages": [0.5, 3.0]},
    },
)


def write_requests(directory: Path) -> None:
    directory.mkdir(parents=True)
    with tf.io.TFRecordWriter(str(directory / "data_tfrecord-00000-of-00001.gz"), "GZIP") as writer:
        for request in REQUESTS:
            writer.write(to_example(request))


def statistics_of(root: Path) -> standard_artifacts.ExampleStatistics:
    """Prices in split items, queries and user ids in the others, as StatisticsGen writes them."""
    artifact = standard_artifacts.ExampleStatistics()
    artifact.uri, artifact.split_names = str(root), '["train", "eval", "items"]'
    artifact.set_string_custom_property("tfx_version", tfx.__version__)
    for split in ("train", "eval", "items"):
        values = {"price": pa.array([[1.0], [2.0]])}
        if split != "items":
            values = {"query": pa.array([[b"red mug"], None]), "user_id": pa.array([[b"ada"], [b"bob"]])}
        batch = pa.RecordBatch.from_arrays(list(values.values()), list(values))
        statistics = stats_impl.generate_statistics_in_memory(batch, tfdv.StatsOptions())
        path = root / f"Split-{split}" / "FeatureStats.pb"
        path.parent.mkdir(parents=True)
        path.write_bytes(statistics.SerializeToString())
    return artifact


def run_indexer(
    shop: Shop,
    root: Path,
    order: np.ndarray,
    features: FeatureSettings = FEATURES,
    index: IndexSettings | None = None,
):
    examples = standard_artifacts.Examples()
    examples.uri, examples.split_names = str(root / "examples"), '["train", "eval", "items"]'
    write_items(root / "examples" / "Split-items", shop.items, order)
    titles = {"query": np.array([*shop.items["title"], ""], object)}
    write_items(root / "examples" / "Split-eval", titles, np.arange(61))
    counts = {"4": {"events": 9, "top_item": "sku-1", "top_item_events": 3}}
    write_requests(root / "examples" / "Split-train")
    about = {
        **{"spans": [3, 4], "trained_until": 1700000000, "span_counts": counts},
        "counts": {"train_rows": len(REQUESTS)},
    }
    (root / "examples" / "interactions.json").write_text(json.dumps(about))
    model = standard_artifacts.Model()
    model.uri = str(root / "model")
    (root / "model" / "training_state").mkdir(parents=True)
    (root / "model" / "training_state" / "step.json").write_text("{}")
    (root / "model" / "Format-Serving").symlink_to(shop.towers_dir)
    bundle = standard_artifacts.Model()
    bundle.uri = str(root / "bundle")
    # Not DirectRunner, which first tries to download another runner.
    pipeline = beam.Pipeline(runner=FnApiRunner())
    CatalogIndexer.test_call(
        model=model,
        examples=examples,
        statistics=statistics_of(root / "statistics"),
        bundle=bundle,
        features=features.model_dump_json(),
        index=(index or IndexSettings(k=20)).model_dump_json(),
        bad_days=BadDaySettings(max_category_skew=0.25, allow=("skew:basket",)).model_dump_json(),
        beam_pipeline=pipeline,
    )
    return bundle


def test_every_item_is_embedded_once_and_found_again(shop: Shop, tmp_path: Path) -> None:
    order = np.random.default_rng(5).permutation(60)
    bundle = run_indexer(shop, tmp_path, order)
    path = tmp_path / "bundle" / "Format-Serving"
    manifest = verify_bundle(path)
    assert (manifest.item_count, manifest.dimension, manifest.k) == (60, 8, 20)
    assert (manifest.spans, manifest.trained_until) == ((3, 4), 1700000000)
    assert manifest.training_state == TRAINING_STATE
    assert (path / TRAINING_STATE / "step.json").is_file()
    assert bundle.get_int_custom_property("item_count") == 60
    assert [child.name for child in (tmp_path / "bundle").iterdir()] == ["Format-Serving"]
    check_ops(str(path))

    model = tf.saved_model.load(str(path))
    assert [item.decode() for item in model.item_ids.numpy()] == sorted(shop.items["item_id"])
    np.testing.assert_allclose(model.item_vectors.numpy(), shop.catalogue.vectors, rtol=1e-5)
    items = pq.read_table(path / ITEMS).to_pydict()
    assert items["title"] == list(shop.catalogue.titles)
    assert items["category"] == list(shop.catalogue.categories)
    found = load_index(path / SCANN_DIR, k=20).search(shop.catalogue.vectors)
    exact = shop.catalogue.vectors @ shop.catalogue.vectors.T
    np.testing.assert_array_equal(found.rows[:, 0], exact.argmax(axis=1))


def test_index_is_tuned_on_held_out_requests(shop: Shop, tmp_path: Path) -> None:
    run_indexer(shop, tmp_path, np.arange(60), index=IndexSettings(k=20, brute_force_below=0))
    path = tmp_path / "bundle" / "Format-Serving"
    tuning = load_index(path / SCANN_DIR, k=20).tuning
    assert tuning and (tuning.queries, tuning.k, tuning.target) == (61, 20, 0.98)
    queries = embed_queries(shop.towers_dir, str(tmp_path / "examples" / "Split-eval"), 500)
    expected = shop.embed_queries(query=[*shop.items["title"], ""])
    np.testing.assert_allclose(queries, expected, rtol=1e-4, atol=1e-5)
    found = load_index(path / SCANN_DIR, k=20).search(queries)
    exact = np.sort(expected @ shop.catalogue.vectors.astype(np.float64).T, axis=1)[:, -20]
    assert (found.scores >= exact[:, np.newaxis] - 1e-3).mean() == pytest.approx(tuning.recall, abs=1e-3)
    # The index of related items is tuned on the items themselves.
    assert load_index(path / RELATED_DIR, k=21).tuning.queries == 60


def test_shop_without_held_out_requests_tunes_on_its_items(shop: Shop, tmp_path: Path) -> None:
    assert embed_queries(shop.towers_dir, str(tmp_path), 500) is None
    write_bundle(
        shop.towers_dir, shop.catalogue, str(tmp_path / "out"), IndexSettings(k=20, brute_force_below=0)
    )
    assert load_index(tmp_path / "out" / SCANN_DIR, k=20).tuning.queries == 60


def test_warmup_requests_are_what_tensorflow_serving_reads(shop: Shop) -> None:
    path = str(Path(shop.bundle_dir) / WARMUP_REQUESTS)
    signature = load_model(shop.bundle_dir).signatures["serving_default"]
    shapes = []
    for record in tf.data.TFRecordDataset(path):
        request = prediction_log_pb2.PredictionLog.FromString(record.numpy()).predict_log.request
        assert request.model_spec.signature_name == "serving_default"
        assert set(request.inputs) == set(query_inputs(FEATURES))
        inputs = {name: tf.constant(tf.make_ndarray(value)) for name, value in request.inputs.items()}
        shapes.append(tuple(inputs["history_item_ids"].shape))
        assert signature(**inputs)["item_ids"].shape == (shapes[-1][0], 20)
    assert shapes == [(1, 0), (1, 8), (8, 8), (32, 32)]


def test_bundle_says_what_its_data_was_like_and_gives_no_query_or_user_away(
    shop: Shop, tmp_path: Path
) -> None:
    run_indexer(shop, tmp_path, np.arange(60))
    directory = tmp_path / "bundle" / "Format-Serving" / BASELINE
    baseline = read_baseline(directory)
    assert baseline.spans == {4: SpanCount(9, "sku-1", 3)}
    (price,) = baseline.statistics["items"].datasets[0].features
    assert (price.path.step[0], price.num_stats.mean) == ("price", 1.5)
    there = {f.path.step[0]: f.string_stats for f in baseline.statistics["train"].datasets[0].features}
    assert {name: stats.common_stats.num_non_missing for name, stats in there.items()} == {
        "query": 1,
        "user_id": 2,
    }
    requests = read_request_baseline(directory)
    assert requests is not None
    assert requests.comparison.features["segment"].threshold == 0.25
    assert "basket" not in requests.comparison.features  # allowed to move
    labels = {
        feature.path.step[0]: {
            bucket.label: bucket.sample_count for bucket in feature.string_stats.rank_histogram.buckets
        }
        for feature in requests.statistics.datasets[0].features
    }
    assert labels == {
        "query.text": {"with text": 1, "without": 1},
        "query.words": {"2 to <3": 1},
        "query.characters": {"6 to <8": 1},
        "history.length": {"0 to <1": 1, "2 to <3": 1},
        "history.event_type": {"view": 2},
        "history.age_days": {"0.25 to <1": 1, "2 to <4": 1},
        "segment": {"family": 1, "single": 1},
    }
    for path in directory.iterdir():
        stored = path.read_bytes()
        assert b"red mug" not in stored and b"ada" not in stored, path


def test_declared_features_can_be_filtered_on(shop: Shop, tmp_path: Path) -> None:
    run_indexer(shop, tmp_path, np.random.default_rng(6).permutation(60))
    attributes = read_attributes(tmp_path / "bundle" / "Format-Serving")
    assert attributes is not None
    assert attributes.kinds == {"category": "path", "brand": "category", "price": "number"}
    np.testing.assert_array_equal(attributes.among("brand", [b"acme"]), shop.items["brand"] == "acme")
    np.testing.assert_array_equal(
        attributes.among("category", [b"home > mugs"]), shop.items["category"] == "home > mugs"
    )
    prices = shop.items["price"]
    np.testing.assert_array_equal(attributes.within("price", 5, np.nan), prices >= 5)
    np.testing.assert_array_equal(attributes.within("price", np.nan, np.nan), ~np.isnan(prices))


def test_shop_without_item_features_has_no_attributes(shop: Shop, tmp_path: Path) -> None:
    embedded = tmp_path / "embedded"
    embedded.mkdir()
    write_items(tmp_path / "items", shop.items, np.arange(10))
    embed_items(
        beam.Pipeline(runner=FnApiRunner()), str(tmp_path / "items" / "*"), shop.towers_dir, str(embedded)
    )
    assert write_embedded_attributes(str(embedded), str(tmp_path / "attributes.parquet")) is None
    assert len(read_embedded_items(str(embedded)).item_ids) == 10


def test_item_there_twice_stops_the_run(shop: Shop, tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="'sku-0' is there twice"):
        run_indexer(shop, tmp_path, np.array([0, 1, 2, 0]))


def test_shop_without_items_stops_the_run(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="hold no item"):
        read_embedded_items(str(tmp_path))


def test_model_of_other_columns_stops_the_run(shop: Shop, tmp_path: Path) -> None:
    other = FeatureSettings(item=(), item_text=("title", "description"))
    with pytest.raises(TandemError, match="expected the declared columns .*'description'"):
        run_indexer(shop, tmp_path, np.arange(3), other)


def test_broken_vector_stops_the_run_and_names_the_item(shop: Shop, tmp_path: Path) -> None:
    vectors = shop.catalogue.vectors.copy()
    vectors[4, 2] = np.nan
    broken = Catalogue(*shop.catalogue[:3], vectors)
    with pytest.raises(
        BundleError, match=f"1 items are not finite, the first of item '{broken.item_ids[4]}'"
    ):
        write_bundle(shop.towers_dir, broken, str(tmp_path / "out"), IndexSettings())
    assert not (tmp_path / "out").exists()
