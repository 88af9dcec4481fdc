"""Names and shapes are the same in files, in training and in a request."""

import numpy as np
import pytest
import tensorflow as tf

from tests.transform.conftest import SHOP_FEATURES
from tests.transform.read_split import read_split
from transform import features
from transform.settings import RESERVED_NAMES, FeatureSettings


def dense(value):
    default = "" if value.dtype == tf.string else np.nan
    found = tf.sparse.to_dense(value, default_value=default).numpy()
    return np.char.decode(found.astype(bytes)).tolist() if value.dtype == tf.string else found


@pytest.mark.parametrize("split", features.SPLITS)
def test_the_parsing_spec_reads_what_is_written(first_run, split):
    spec = features.raw_feature_spec(SHOP_FEATURES, split)
    rows = read_split(first_run.examples, split)
    assert {name for row in rows for name in row} <= set(spec)
    assert all(isinstance(one, tf.io.VarLenFeature) for one in spec.values())


def test_there_is_no_spec_of_an_unknown_split():
    with pytest.raises(ValueError, match="split is 'test', expected one of"):
        features.raw_feature_spec(SHOP_FEATURES, "test")


def test_requests_and_items_have_the_inputs_a_shop_has():
    assert list(features.query_inputs(SHOP_FEATURES).items()) == [
        ("query", ("string", 1)),
        ("history_item_ids", ("string", 2)),
        ("history_event_types", ("string", 2)),
        ("history_ages", ("float32", 2)),
        ("segment", ("string", 1)),
        ("household", ("float32", 1)),
        ("device", ("string", 1)),
    ]
    inputs = features.item_inputs(FeatureSettings(item_text=("title", "description")))
    assert list(inputs) == ["item_id", "title", "description", "category", "brand", "price"]
    assert inputs["price"] == ("float32", 1)
    assert inputs["description"] == ("string", 1)


def test_empty_and_nan_are_no_value():
    raw = features.dense_to_raw({"query": tf.constant(["mug", ""]), "price": tf.constant([np.nan, 2.0])})
    assert dense(raw["query"]) == [["mug"], [""]]
    assert raw["query"].indices.numpy().tolist() == [[0, 0]]
    assert raw["price"].indices.numpy().tolist() == [[1, 0]]
    assert raw["price"].dense_shape.numpy().tolist() == [2, 1]


def test_history_keeps_its_parts_in_the_same_places():
    raw = features.dense_to_raw(
        {
            "history_item_ids": tf.constant([["a", "", "b"], ["", "", ""]]),
            "history_event_types": tf.constant([["buy", "buy", ""], ["buy", "", ""]]),
            "history_ages": tf.constant([[0.0, 1.0, np.nan], [2.0, 2.0, 2.0]]),
        }
    )
    for name in ("history_item_ids", "history_event_types", "history_ages"):
        assert raw[name].indices.numpy().tolist() == [[0, 0], [0, 2]]
        assert raw[name].dense_shape.numpy().tolist() == [2, 3]
    assert raw["history_event_types"].values.numpy().tolist() == [b"buy", b""]
    np.testing.assert_array_equal(raw["history_ages"].values, [0.0, np.nan])


def test_history_without_types_and_ages_is_of_unknown_type_and_age():
    raw = features.dense_to_raw({"history_item_ids": tf.constant([["a", "b"]])})
    assert raw["history_event_types"].values.numpy().tolist() == [b"", b""]
    assert raw["history_ages"].values.numpy().tolist() == [-1.0, -1.0]


def test_types_without_history_are_refused():
    with pytest.raises(ValueError, match="history_ages without history_item_ids"):
        features.dense_to_raw({"history_ages": tf.constant([[1.0]])})


def test_a_request_may_have_no_history_columns_at_all():
    raw = features.dense_to_raw({"history_item_ids": tf.zeros([2, 0], tf.string)})
    assert raw["history_item_ids"].dense_shape.numpy().tolist() == [2, 0]


def test_no_declared_feature_can_take_a_name_of_ours():
    ours = {
        value
        for name, value in vars(features).items()
        if name.isupper()
        and isinstance(value, str)
        and name not in ("HISTORIES", "PATH_SEPARATOR", "TITLE", "ITEM_ID_COUNTS")
    }
    # What begins as a filter does is refused by its beginning, among query features: see test_settings.
    assert {name for name in ours if not name.startswith(features.ATTRIBUTE_FILTER)} <= RESERVED_NAMES
