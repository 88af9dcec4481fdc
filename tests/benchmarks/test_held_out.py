"""Held-out requests made without a run, against an oracle of the pipeline's, and what baselines are given of them."""

from collections import Counter

import numpy as np
import pytest
import tensorflow as tf

from benchmarks.held_out import read_held_out
from tests.mini_shop import write_mini_shop
from tests.transform.conftest import SHOP_FEATURES
from tests.transform.oracle import canonical, expected_rows, load
from transform.settings import DataSettings, FeatureSettings

DAY = 86400.0


def data_of(shop, **changes):
    plain = {"holdout_days": 2, "known_positive_days": 3, "anchor_share": 0, "replay_share": 0}
    return DataSettings(dataset=str(shop), **plain | changes)


def parsed(example):
    row = {}
    for name, feature in tf.train.Example.FromString(example).features.feature.items():
        kind = feature.WhichOneof("kind")
        if kind is not None:
            values = list(getattr(feature, kind).value)
            row[name] = [value.decode() for value in values] if kind == "bytes_list" else values
    return row


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    return write_mini_shop(tmp_path_factory.mktemp("shop") / "shop", spans=3)


@pytest.fixture(scope="module")
def held_out(shop):
    return read_held_out(data_of(shop), SHOP_FEATURES)


@pytest.mark.parametrize("kind", ["both", "search", "purchases"])
def test_requests_are_those_that_a_run_holds_out(kind, shop, held_out, tmp_path):
    features, data, found = SHOP_FEATURES, data_of(shop), held_out
    if kind != "both":
        written = write_mini_shop(
            tmp_path / "shop", with_users=kind == "purchases", with_queries=kind == "search"
        )
        features, data = FeatureSettings(query_tokens=8, item_tokens=12), data_of(written)
        found = read_held_out(data, features)
        shop = written
    newest = 3 if kind == "both" else 2
    _, expected = expected_rows(str(shop), features, data, newest)
    assert canonical([parsed(example) for example in found.examples]) == canonical(expected)


def test_the_oracle_sees_another_cut(shop, held_out):
    """Negative control: an hour more in the held-out time gives other requests."""
    _, expected = expected_rows(str(shop), SHOP_FEATURES, data_of(shop, holdout_days=2 + 1 / 24), 3)
    assert canonical([parsed(example) for example in held_out.examples]) != canonical(expected)


def test_a_baseline_is_given_what_was_before_the_cut_and_no_target(shop, held_out):
    task = held_out.task
    before = [
        event
        for event in load(str(shop), 3)
        if event["seconds"] < held_out.cut and event["event_type"] == "purchase"
    ]
    assert task.event_days.min() > 0
    ids = np.array(held_out.item_ids)
    assert Counter(ids[task.event_items]) == Counter(event["item_id"] for event in before)
    np.testing.assert_allclose(
        np.sort(task.event_days), np.sort([(held_out.cut - event["seconds"]) / DAY for event in before])
    )
    # Items come by how many users acted on them, then by id.
    users = Counter(item for _, item in {(event["user_id"], event["item_id"]) for event in before})
    assert held_out.item_ids == sorted(held_out.item_ids, key=lambda item: (-users[item], item))


def test_rows_point_at_their_request(held_out):
    for row, example in enumerate(held_out.examples):
        raw, request = parsed(example), held_out.requests[row]
        assert held_out.task.queries[request] == "".join(raw.get("query", []))
        excluded = {held_out.item_ids[item] for item in held_out.task.excluded_of(request)}
        assert excluded == set(raw.get("known_positive_ids", []))
        assert list(held_out.targets[row]) == raw["target_item_ids"]
        assert not excluded & set(held_out.targets[row])
