"""A span that arrives after later ones were learnt: nothing of it is lost, nothing of the others is learnt twice."""

import json
import shutil
from pathlib import Path

import pandas as pd
import pytest

from tests.transform.conftest import SHOP_FEATURES, make
from tests.transform.oracle import canonical, expected_rows
from tests.transform.read_split import one, read_split


def report_of(run):
    return json.loads(Path(run.examples.uri, "interactions.json").read_text())


@pytest.fixture(scope="module")
def gap(tmp_path_factory):
    """A shop of four weeks whose week 3 is not there when weeks 1, 2 and 4 are learnt, and then is."""
    from tests.mini_shop import write_mini_shop

    root = tmp_path_factory.mktemp("gap")
    shop = write_mini_shop(root / "shop", spans=4)
    shutil.move(shop / "events" / "span-3", root / "late")
    (root / "first").mkdir()
    (root / "second").mkdir()
    first = make(root / "first", shop, newest=4)
    shutil.move(root / "late", shop / "events" / "span-3")
    about = report_of(first)
    previous = {"version": 1, **{key: about[key] for key in ("trained_until", "spans", "span_counts")}}
    return first, make(root / "second", shop, newest=4, previous=previous)


def test_all_targets_of_the_late_span_are_learnt_and_no_other_s_again(gap):
    first, second = gap
    assert (report_of(first)["spans"], report_of(second)["spans"]) == ([1, 2, 4], [1, 2, 3, 4])
    week_3, week_4 = pd.Timestamp("2024-01-15").timestamp(), pd.Timestamp("2024-01-22").timestamp()
    train = read_split(second.examples, "train")
    assert {week_3 <= one(row, "timestamp") < week_4 for row in train} == {True}
    events = pd.read_parquet(f"{second.shop}/events/span-3/events.parquet")
    bought = events[events["event_type"].isin(SHOP_FEATURES.event_types)]
    # A target is an item of a request: one of a user, a moment, a query and a device.
    request = ["user_id", "timestamp", "query", "device", "item_id"]
    assert report_of(second)["counts"]["train_targets"] == len(bought.drop_duplicates(request))


def test_the_rows_are_what_the_oracle_says(gap):
    _, second = gap
    train, held = expected_rows(second.shop, second.features, second.data, 4, second.previous)
    assert canonical(read_split(second.examples, "train")) == canonical(train)
    assert canonical(read_split(second.examples, "eval")) == canonical(held)


def test_the_late_span_is_counted_and_is_the_new_one(gap):
    first, second = gap
    assert report_of(second)["new_spans"] == [3]
    before, after = report_of(first)["span_counts"], report_of(second)["span_counts"]
    events = pd.read_parquet(f"{second.shop}/events/span-3/events.parquet")
    assert after.pop("3")["events"] == len(events)
    assert after == before
