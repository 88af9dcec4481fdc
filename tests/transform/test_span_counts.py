"""Events and most frequent item of each new span, against a Counter over all rows."""

import json
from collections import Counter
from functools import reduce
from pathlib import Path

import apache_beam as beam
import pandas as pd
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from apache_beam.testing.util import assert_that, equal_to
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.transform.run_interaction_gen import run_interaction_gen
from tests.transform.shop_files import EVENTS, write_shop
from transform.settings import DataSettings
from transform.span_counts import SpanCount, add_spans, count_spans, from_json, merge, to_json

# Few ids, so that some are equally frequent; "" is a row without one.
ITEMS = st.sampled_from(["", "a", "b", "B", "10", "9", "é"])


def counted(items):
    """The counts of one span by looking at all of its rows."""
    numbers = Counter(item for item in items if item)
    most = max(numbers.values(), default=0)
    return SpanCount(len(items), min((i for i, n in numbers.items() if n == most), default=""), most)


@settings(max_examples=15)
@given(st.lists(st.tuples(st.integers(0, 3), ITEMS), min_size=1, max_size=200))
def test_beam_counts_as_a_counter_does(rows):
    expected = [(span, counted([i for s, i in rows if s == span])) for span in {span for span, _ in rows}]
    with beam.Pipeline(FnApiRunner()) as pipeline:
        assert_that(count_spans(pipeline | beam.Create([(row, 1) for row in rows])), equal_to(expected))


@given(st.dictionaries(ITEMS, st.integers(1, 3)), st.randoms())
def test_counts_are_merged_in_any_order_and_grouping(numbers, random):
    parts = [SpanCount(n, item, n if item else 0) for item, n in numbers.items()]
    random.shuffle(parts)
    assert merge(parts) == counted([item for item, n in numbers.items() for _ in range(n)])
    middle = random.randint(0, len(parts))
    assert merge([merge(parts[:middle]), merge(parts[middle:])]) == merge(parts)
    assert reduce(lambda one, two: merge([one, two]), parts, merge([])) == merge(parts)


def test_a_known_span_keeps_its_counts_and_one_without_rows_has_none():
    known = {7: SpanCount(5, "z", 5), 1: SpanCount(2, "y", 1)}
    both = add_spans(known, [3, 7, 4], {3: SpanCount(9, "a", 4)})
    assert list(both.items()) == [
        (1, SpanCount(2, "y", 1)),
        (3, SpanCount(9, "a", 4)),
        (4, SpanCount(0, "", 0)),
        (7, SpanCount(5, "z", 5)),
    ]
    assert from_json(to_json(both)) == both


def test_rows_count_whether_they_are_rejected_or_left_for_later(tmp_path):
    shop = write_shop(tmp_path / "shop")
    (shop / "events" / "span-2").mkdir()
    (shop / "events" / "span-3").mkdir()
    times = pd.to_datetime(["2024-01-05", "2024-01-06", "2024-01-07", "2024-01-06"])
    odd = EVENTS.iloc[[0, 0, 1, 1]].assign(timestamp=times, item_id=["a", " x ", "x", None])
    odd.to_parquet(shop / "events" / "span-2" / "events.parquet")
    # What is newer than the newest span's newest event is left for a later run.
    newest = EVENTS.iloc[:1].assign(timestamp=pd.to_datetime(["2024-01-06 12:00"]))
    newest.to_parquet(shop / "events" / "span-3" / "events.parquet")
    data = DataSettings(dataset=str(shop), holdout_days=3, max_rejected_share=1.0)
    previous = {
        "version": 1,
        "trained_until": pd.Timestamp("2024-01-02").timestamp(),
        "spans": [1],
        "span_counts": to_json({1: SpanCount(8, "k", 8)}),
    }
    examples = run_interaction_gen(tmp_path, data, previous=previous)
    report = json.loads(Path(examples.uri, "interactions.json").read_text())
    assert report["counts"]["rejected"] == {"item_id is not in items": 1, "item_id is missing": 1}
    assert report["counts"]["left_for_later"] == 1
    assert report["span_counts"] == {
        "1": {"events": 8, "top_item": "k", "top_item_events": 8},
        "2": {"events": 4, "top_item": "x", "top_item_events": 2},
        "3": {"events": 1, "top_item": "a", "top_item_events": 1},
    }
    assert not list(Path(examples.uri).glob("counts*"))
