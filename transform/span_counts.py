"""How many events a span has and how many of them are of one item."""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import apache_beam as beam


class SpanCount(NamedTuple):
    """Numbers of one span.

    Attributes:
      events: rows of its files.
      top_item: the item with the most of them, the smallest id of several; "" where no row names an item.
      top_item_events: how many it has.
    """

    events: int
    top_item: str
    top_item_events: int

    @property
    def top_item_share(self) -> float:
        """The most frequent item's share of the events, from 0 to 1."""
        return self.top_item_events / self.events if self.events else 0.0


def count_spans(items: beam.PCollection) -> beam.PCollection:
    """Adds the counting of spans to a pipeline; no worker holds the items of a span.

    Args:
      items: ((span, item id), number of rows), as often as it comes; "" for rows that name no item.

    Returns:
      (span, SpanCount) of every span that has a row.
    """
    return (
        items
        | "CountSpanItems" >> beam.CombinePerKey(sum)
        | "KeyBySpan"
        >> beam.MapTuple(lambda key, rows: (key[0], SpanCount(rows, key[1], rows if key[1] else 0)))
        | "CountSpans" >> beam.CombinePerKey(merge)
    )


def merge(counts: Iterable[SpanCount]) -> SpanCount:
    """One span's counts out of those of its parts, which have no item in common."""
    events, best = 0, (0, "")
    for count in counts:
        events += count.events
        best = min(best, (-count.top_item_events, count.top_item))
    return SpanCount(events, best[1], -best[0])


def add_spans(
    known: Mapping[int, SpanCount], spans: Iterable[int], counted: Mapping[int, SpanCount]
) -> dict[int, SpanCount]:
    """Adds spans to those whose counts are known.

    Args:
      known: what was counted when a span was learnt; it stays.
      spans: those that are learnt from now, known or not.
      counted: counts of those that are not known, as far as they have rows.
    """
    new = {span: counted.get(span, merge(())) for span in spans if span not in known}
    return dict(sorted({**known, **new}.items()))


def to_json(counts: Mapping[int, SpanCount]) -> dict[str, dict[str, Any]]:
    """Span -> its counts, ready for JSON."""
    return {str(span): count._asdict() for span, count in counts.items()}


def from_json(tree: Mapping[str, Mapping[str, Any]]) -> dict[int, SpanCount]:
    """What `to_json` wrote."""
    return {int(span): SpanCount(**count) for span, count in tree.items()}
