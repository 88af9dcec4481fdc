"""What a new span is held against: how many events the spans before it have, and how many are of one item."""

import pytest

from pipeline.bad_days import odd_spans
from transform.bad_day_settings import BadDaySettings
from transform.errors import TandemError
from transform.span_counts import SpanCount

# Medians: 100 events, the most frequent item has a tenth of them.
KNOWN = {1: SpanCount(90, "a", 9), 2: SpanCount(100, "b", 10), 3: SpanCount(400, "a", 40)}


def names(new, known=(1, 2, 3), **bars):
    """Anomalies of spans 4, 5, ... with these counts."""
    counts = {**KNOWN, **{4 + n: count for n, count in enumerate(new)}}
    fresh = [span for span in counts if span not in KNOWN]
    return [a.name for a in odd_spans(counts, fresh, list(known), BadDaySettings(**bars))]


@pytest.mark.parametrize(
    ("count", "expected"),
    [
        (SpanCount(50, "a", 5), []),  # half of the median is just enough
        (SpanCount(49, "a", 5), ["few_events"]),
        (SpanCount(0, "", 0), ["few_events"]),
        (SpanCount(1000, "a", 200), []),  # a fifth is a tenth more
        (SpanCount(1000, "a", 201), ["flood:a"]),
        (SpanCount(10, "c", 9), ["few_events", "flood:c"]),
    ],
)
def test_a_new_span_is_held_against_the_medians(count, expected):
    assert names([count]) == expected


def test_every_new_span_is_looked_at_and_named():
    counts = {**KNOWN, 4: SpanCount(100, "a", 10), 5: SpanCount(7, "a", 1), 6: SpanCount(100, "d", 60)}
    found = odd_spans(counts, [4, 5, 6], [1, 2, 3], BadDaySettings())
    assert [anomaly.name for anomaly in found] == ["few_events", "flood:d"]
    assert found[0].description == (
        "span 5 has 7 events, the median of 3 spans before is 100, expected at least 50% of it"
    )
    assert found[1].description.startswith(
        "60% of span 6's 100 events are of item 'd', the most frequent item has 10%"
    )


def test_only_the_newest_known_spans_count():
    # Spans 2 and 3: median (100 + 400) / 2 = 250, and half of it is 125. Span 3 alone: 400, half of it 200.
    assert names([SpanCount(125, "a", 12)], baseline_spans=2) == []
    assert names([SpanCount(124, "a", 12)], baseline_spans=2) == ["few_events"]
    assert names([SpanCount(199, "a", 19)], baseline_spans=1) == ["few_events"]


def test_a_first_run_holds_its_newest_span_against_the_others_of_its_window():
    window = {**KNOWN, 4: SpanCount(10, "a", 1)}
    assert [a.name for a in odd_spans(window, [1, 2, 3, 4], [], BadDaySettings())] == ["few_events"]
    # Of older spans nothing is asked, and one span alone has nothing to be held against.
    older = {**window, 5: SpanCount(100, "a", 10)}
    assert odd_spans(older, [1, 2, 3, 4, 5], [], BadDaySettings()) == []
    assert odd_spans({1: SpanCount(10, "a", 10)}, [1], [], BadDaySettings()) == []


def test_a_push_from_before_spans_were_counted_is_no_baseline():
    counts = {4: SpanCount(1, "a", 1)}
    assert odd_spans(counts, [4], [1, 2, 3], BadDaySettings()) == []


@pytest.mark.parametrize("name", ["few_event", "drift:", "price", "flood"])
def test_a_name_that_no_anomaly_can_have_is_refused(name):
    with pytest.raises(TandemError, match=f"--allow: .*got '{name}', expected the name of an anomaly"):
        BadDaySettings().allowing([name])


def test_allowed_names_add_up():
    bars = BadDaySettings(allow=("drift:weekday",)).allowing(["few_events", "flood:sku: 1"])
    assert bars.allow == ("drift:weekday", "few_events", "flood:sku: 1")
