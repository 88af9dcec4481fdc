"""How many events a span has and how many of them are of one item."""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from transform.columns import as_text
from transform.dataset import Dataset
from transform.parts import read_file


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


def count_span(dataset: Dataset, span: int) -> SpanCount:
    """Counts a span's events; reads the item ids only and holds one number a distinct item.

    Raises:
      TandemError: a file cannot be read.
    """
    events, items = 0, Counter[str]()
    for path in dataset.spans[span]:
        for _, table in read_file(path, ["item_id"]):
            events += table.num_rows
            items.update(item for item in as_text(table["item_id"]).values if item is not None)
    top_item, most = min(items.items(), key=lambda pair: (-pair[1], pair[0]), default=("", 0))
    return SpanCount(events, top_item, most)


def count_spans(
    dataset: Dataset, spans: Iterable[int], known: Mapping[int, SpanCount]
) -> dict[int, SpanCount]:
    """Adds the counts of spans that are not known yet; a known span keeps what was counted when it was learnt."""
    new = {span: count_span(dataset, span) for span in sorted(spans) if span not in known}
    return dict(sorted({**known, **new}.items()))


def to_json(counts: Mapping[int, SpanCount]) -> dict[str, dict[str, Any]]:
    """Span -> its counts, ready for JSON."""
    return {str(span): count._asdict() for span, count in counts.items()}


def from_json(tree: Mapping[str, Mapping[str, Any]]) -> dict[int, SpanCount]:
    """What `to_json` wrote."""
    return {int(span): SpanCount(**count) for span, count in tree.items()}
