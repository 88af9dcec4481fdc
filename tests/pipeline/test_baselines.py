"""Baselines and ranking metrics, against values worked out by hand."""

import math

import pandas as pd
import pytest

from pipeline.baselines import HeldOut, own_most_frequent, popularity, ranking_metrics, recent_popularity


@pytest.fixture
def events():
    # milk 3 (ann 2, bob 1), tea 2 (bob 2), oats 1 (ann): milk > tea > oats.
    rows = [
        ("ann", "milk", "2024-01-01"),
        ("ann", "milk", "2024-01-02"),
        ("bob", "milk", "2024-01-03"),
        ("bob", "tea", "2024-03-01"),
        ("bob", "tea", "2024-03-02"),
        ("ann", "oats", "2024-03-03"),
    ]
    frame = pd.DataFrame(rows, columns=["user_id", "item_id", "timestamp"])
    return frame.assign(timestamp=pd.to_datetime(frame["timestamp"]))


def held_out(user, excluded=()):
    return HeldOut(user, "all", ("milk",), frozenset(excluded))


def test_popularity_ranks_by_events_and_leaves_out_the_excluded(events):
    assert popularity(events, 10)(held_out("ann")) == ["milk", "tea", "oats"]
    assert popularity(events, 10)(held_out("ann", ["milk"])) == ["tea", "oats"]
    assert popularity(events, 1)(held_out("ann")) == ["milk"]


def test_recent_popularity_forgets_january(events):
    assert recent_popularity(events, 10)(held_out("ann")) == ["tea", "oats"]


def test_own_items_come_first_then_popularity_fills(events):
    rank = own_most_frequent(events, 10)
    assert rank(held_out("bob")) == ["tea", "milk", "oats"]
    assert rank(held_out("stranger")) == ["milk", "tea", "oats"]
    assert rank(held_out("bob", ["tea"])) == ["milk", "oats"]


def test_ranking_metrics_by_hand():
    # Targets b and d of [a, b, c]: one hit at rank 2; d is never found.
    got = ranking_metrics(["a", "b", "c"], ["b", "d"])
    assert got["recall_at_10"] == pytest.approx(1 / 2)
    assert got["mrr"] == pytest.approx(1 / 2)
    assert got["ndcg_at_10"] == pytest.approx((1 / math.log2(3)) / (1 + 1 / math.log2(3)))


def test_recall_divides_by_k_where_there_are_more_targets_than_places():
    ranked = [str(n) for n in range(100)]
    got = ranking_metrics(ranked, [str(n) for n in range(20)])
    assert got["recall_at_10"] == 1.0
    assert got["recall_at_100"] == 1.0


def test_nothing_found_is_zero():
    assert set(ranking_metrics(["a"], ["b"]).values()) == {0.0}
