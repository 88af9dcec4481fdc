"""The curated schema lets good rows through and stops what breaks the contract, split by split."""

import pyarrow as pa
import pytest
import tensorflow_data_validation as tfdv
from tensorflow_data_validation.statistics import stats_impl
from tensorflow_metadata.proto.v0 import schema_pb2

from tests.transform.conftest import SHOP_FEATURES
from tests.transform.read_split import read_split
from transform.bad_day_settings import BadDaySettings
from transform.features import SPLITS, raw_feature_spec
from transform.schema import curated_schema, write_schema


def problems(rows, split):
    """Features with an anomaly in these rows."""
    columns = {}
    for name in sorted({name for row in rows for name in row}):
        values = [row.get(name) for row in rows]
        sample = next(value[0] for value in values if value)
        kind = {str: pa.binary(), int: pa.int64(), float: pa.float32()}[type(sample)]
        encoded = [v and [x.encode() if isinstance(x, str) else x for x in v] for v in values]
        columns[name] = pa.array(encoded, pa.list_(kind))
    batch = pa.RecordBatch.from_arrays(list(columns.values()), list(columns))
    statistics = stats_impl.generate_statistics_in_memory(batch, tfdv.StatsOptions())
    anomalies = tfdv.validate_statistics(statistics, curated_schema(SHOP_FEATURES), environment=split)
    return set(anomalies.anomaly_info)


@pytest.mark.parametrize("run", ["first_run", "purchase_run"])
@pytest.mark.parametrize("split", SPLITS)
def test_what_interaction_gen_writes_is_sound(run, split, request):
    assert problems(read_split(request.getfixturevalue(run).examples, split), split) == set()


def without(name):
    return lambda row: {key: value for key, value in row.items() if key != name}


def with_values(**values):
    return lambda row: {**row, **values}


@pytest.mark.parametrize(
    ("split", "change", "feature"),
    [
        ("items", without("item_id"), "item_id"),
        ("items", without("title"), "title"),
        ("items", with_values(title=["a", "b"]), "title"),
        ("items", with_values(price=["cheap"]), "price"),
        ("items", with_values(target_item_ids=["a"]), "target_item_ids"),
        ("train", without("target_item_ids"), "target_item_ids"),
        ("train", without("target_weights"), "target_weights"),
        ("train", without("timestamp"), "timestamp"),
        ("train", with_values(target_weights=[-1.0]), "target_weights"),
        ("train", with_values(history_ages=[-0.5]), "history_ages"),
        ("train", with_values(view=["all"]), "view"),
        ("train", with_values(title=["Red mug"]), "title"),
        ("train", with_values(query=["a", "b"]), "query"),
        ("train", with_values(colour=["red"]), "colour"),
        ("eval", with_values(view=["some"]), "view"),
        ("eval", without("user_group"), "user_group"),
    ],
)
def test_a_broken_row_is_an_anomaly_of_its_feature(first_run, split, change, feature):
    rows = read_split(first_run.examples, split)
    assert problems([change(row) for row in rows], split) == {feature}


def test_the_schema_and_the_parsing_spec_name_the_same_features():
    schema = curated_schema(SHOP_FEATURES)
    for split in SPLITS:
        named = {feature.name for feature in schema.feature if split not in feature.not_in_environment}
        assert named == set(raw_feature_spec(SHOP_FEATURES, split))


def test_the_schema_survives_being_written_under_a_name_of_its_content(tmp_path):
    path = write_schema(SHOP_FEATURES, str(tmp_path / "made"))
    read = tfdv.load_schema_text(path)
    assert isinstance(read, schema_pb2.Schema)
    assert read == curated_schema(SHOP_FEATURES)
    assert write_schema(SHOP_FEATURES, str(tmp_path / "made")) == path
    assert write_schema(SHOP_FEATURES, str(tmp_path / "made"), BadDaySettings(max_number_drift=0.5)) != path


def test_declared_features_and_no_others_have_a_drift_comparator():
    schema = curated_schema(SHOP_FEATURES, BadDaySettings(max_category_drift=0.2, max_number_drift=0.4))
    bars = {
        feature.name: (
            feature.drift_comparator.infinity_norm.threshold,
            feature.drift_comparator.jensen_shannon_divergence.threshold,
        )
        for feature in schema.feature
        if feature.HasField("drift_comparator")
    }
    categories, numbers = ("category", "brand", "segment", "device"), ("price", "household")
    assert bars == {**dict.fromkeys(categories, (0.2, 0.0)), **dict.fromkeys(numbers, (0.0, 0.4))}
