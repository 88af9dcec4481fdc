"""The Beam graph that joins items, events and users into requests.

Two CoGroupByKey joins, and one more for search: events meet their item by item_id (which also tells how often an
item was acted on before the cut), then their user, or their query text where there is no user; requests with a query
then meet everything that the query text led to. No stage holds the catalogue or the events: the largest thing in
memory is one key's group.
"""

import heapq
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import apache_beam as beam
from apache_beam.transforms.window import GlobalWindows

from transform.dataset import Dataset
from transform.features import written_splits
from transform.parts import parts
from transform.read_rows import COUNTS, REJECTED, SPAN_ITEMS, ReadEvents, ReadItems, ReadUsers
from transform.requests import ANCHOR, REPLAY, Event, Request, Rules, requests_of
from transform.rows import DUPLICATE_ITEM, DUPLICATE_USER, UNKNOWN_ITEM
from transform.settings import FeatureSettings
from transform.span_counts import count_spans
from transform.window import Window

_ITEMS = "items"
# Events that a worker holds back to send them on by user; some 50 MB.
_HELD_EVENTS = 100_000
# Items that a popular query text led to and that are never negatives for it, the most frequent ones.
_QUERY_POSITIVES = 1000


class Interactions(NamedTuple):
    """What the graph yields, all PCollections.

    Attributes:
      splits: split name -> serialised tf.Example.
      rejected: (reason, file, row).
      counts: (name, number), to be summed by name.
      spans: (span, SpanCount) of the spans that were to be counted.
    """

    splits: dict[str, beam.PCollection]
    rejected: beam.PCollection
    counts: beam.PCollection
    spans: beam.PCollection


def build_interactions(
    pipeline: beam.Pipeline,
    dataset: Dataset,
    settings: FeatureSettings,
    window: Window,
    rules: Rules,
    tail_max_events: int,
    counted: Collection[int],
) -> Interactions:
    """Adds all joins to a pipeline.

    Args:
      pipeline: where they are added.
      dataset: the files.
      settings: declared features.
      window: the time plan.
      rules: how requests are made.
      tail_max_events: an item with at most that many events before the cut is a tail item.
      counted: spans whose rows are counted.
    """
    pieces = [(span, part) for span in window.spans for path in dataset.spans[span] for part in parts(path)]
    events = _read(pipeline, "Events", pieces, ReadEvents(settings, window, counted), SPAN_ITEMS)
    items = _read(pipeline, "Items", parts(dataset.items), ReadItems(settings))
    by_item = (
        {"events": events.main, "items": items.main}
        | "JoinItems" >> beam.CoGroupByKey()
        | "JoinItem"
        >> beam.ParDo(_JoinItem(window.cut, tail_max_events)).with_outputs(_ITEMS, REJECTED, main="main")
    )
    sources = [events, items]
    grouped: dict[str, beam.PCollection] = {"events": by_item.main}
    if dataset.users is not None and settings.user:
        users = _read(pipeline, "Users", parts(dataset.users), ReadUsers(settings))
        sources.append(users)
        grouped["users"] = users.main | "KeyUsers" >> beam.MapTuple(lambda user, row: ((user, ""), row))
    made = (
        grouped
        | "JoinUsers" >> beam.CoGroupByKey()
        | "MakeRequests" >> beam.ParDo(_MakeRequests(window, rules)).with_outputs(REJECTED, main="main")
    )
    requests = _with_query_positives(made.main)
    names = [feature.name for feature in settings.user], [feature.name for feature in settings.context]
    splits = {
        split: requests
        | f"Only_{split}" >> beam.Filter(lambda row, split: row[0].split == split, split)
        | f"Serialise_{split}" >> beam.Map(_serialise, *names)
        for split in written_splits(settings)
        if split != _ITEMS
    }
    splits["items"] = by_item[_ITEMS]
    rejected = [source[REJECTED] for source in sources] + [by_item[REJECTED], made[REJECTED]]
    counts = [source[COUNTS] for source in sources]
    counts += [
        requests | "CountTargets" >> beam.Map(lambda row: (f"{row[0].split} targets", len(row[0].targets)))
    ]
    counts += [
        requests
        | f"Count_{view}"
        >> beam.FlatMap(lambda row, view: [(f"{view} rows", 1)] * (row[0].view == view), view)
        for view in (REPLAY, ANCHOR)
    ]
    counts += [
        rows | f"Count_{name}" >> beam.Map(lambda _, name: (f"{name} rows", 1), name)
        for name, rows in splits.items()
    ]
    return Interactions(
        splits,
        rejected | "Rejected" >> beam.Flatten(),
        counts | "Counts" >> beam.Flatten(),
        count_spans(events[SPAN_ITEMS]),
    )


def _read(pipeline: beam.Pipeline, name: str, pieces: Sequence[Any], reader: beam.DoFn, *tags: str) -> Any:
    """What a reader yields by tag: `main`, REJECTED, COUNTS and those that are named."""
    return (
        pipeline
        | f"{name}Parts" >> beam.Create(pieces)
        | f"Spread{name}" >> beam.Reshuffle()
        | f"Read{name}" >> beam.ParDo(reader).with_outputs(REJECTED, COUNTS, *tags, main="main")
    )


class _JoinItem(beam.DoFn):
    """(item_id, {events, items}) -> ((user_id, query where there is no user), list of Events as tuples).

    A bundle's events of one key leave together: far fewer elements to encode than one an event.
    """

    def __init__(self, cut: float, tail_max_events: int) -> None:
        self._cut = cut
        self._tail_max_events = tail_max_events

    def start_bundle(self) -> None:
        """Starts with nothing held back."""
        self._by_key: dict[tuple[str, str], list[tuple]] = defaultdict(list)
        self._held = 0

    def finish_bundle(self) -> Iterator[Any]:
        """Yields what is held back."""
        yield from map(GlobalWindows.windowed_value, self._by_key.items())

    def process(self, element: tuple[str, dict[str, Iterable[Any]]]) -> Iterator[Any]:
        item_id, group = element
        events = [event for batch in group["events"] for event in batch]
        items = sorted(group["items"])
        if not items:
            for *_, path, row in events:
                yield beam.pvalue.TaggedOutput(REJECTED, (UNKNOWN_ITEM, path, row))
            return
        yield beam.pvalue.TaggedOutput(_ITEMS, items[0][0])
        for _, path, row in items[1:]:
            yield beam.pvalue.TaggedOutput(REJECTED, (DUPLICATE_ITEM, path, row))
        before = sum(1 for event in events if event[0] < self._cut)
        item_class = "new" if before == 0 else "tail" if before <= self._tail_max_events else "head"
        for seconds, kind, query, user, weight, context, role, _, _ in events:
            event = (seconds, item_id, kind, query, weight, context, role, item_class)
            self._by_key[user, "" if user else query].append(event)
        self._held += len(events)
        if self._held > _HELD_EVENTS:
            yield from self._by_key.items()
            self.start_bundle()


class _MakeRequests(beam.DoFn):
    """((user_id, query), {events, users}) -> (Request, profile values)."""

    def __init__(self, window: Window, rules: Rules) -> None:
        self._window = window
        self._rules = rules

    def process(self, element: tuple[tuple[str, str], dict[str, Iterable[Any]]]) -> Iterator[Any]:
        (user_id, _), group = element
        users = sorted(group.get("users", ()), key=lambda row: row[1:])
        for _, path, row in users[1:]:
            yield beam.pvalue.TaggedOutput(REJECTED, (DUPLICATE_USER, path, row))
        profile = users[0][0] if users else ()
        events = [Event(*event) for batch in group["events"] for event in batch]
        for request in requests_of(user_id, events, self._window, self._rules):
            yield request, profile


def _with_query_positives(requests: beam.PCollection) -> beam.PCollection:
    """Gives training requests with a query the items that the same text, in any case, led to in training."""
    searches = (
        requests
        | "Searches" >> beam.Filter(lambda row: bool(row[0].query) and row[0].split == "train")
        | "KeyByQuery" >> beam.Map(lambda row: (row[0].query.lower(), row))
    )
    led_to = (
        searches
        | "LedTo" >> beam.FlatMapTuple(lambda text, row: [((text, item), 1) for item in row[0].targets])
        | "CountLedTo" >> beam.CombinePerKey(sum)
        | "LedToByQuery" >> beam.MapTuple(lambda pair, count: (pair[0], (-count, pair[1])))
    )
    joined = (
        {"rows": searches, "items": led_to}
        | "JoinQueries" >> beam.CoGroupByKey()
        | "AddPositives" >> beam.FlatMap(_add_positives)
    )
    others = requests | "Others" >> beam.Filter(lambda row: not row[0].query or row[0].split != "train")
    return (joined, others) | "AllRequests" >> beam.Flatten()


def _add_positives(element: tuple[str, dict[str, Iterable[Any]]]) -> Iterator[tuple[Request, tuple]]:
    _, group = element
    most_frequent = heapq.nsmallest(_QUERY_POSITIVES, group["items"])
    known = tuple(sorted(item for _, item in most_frequent))
    for request, profile in group["rows"]:
        yield request._replace(known_positives=known), profile


def _serialise(row: tuple[Request, tuple], user_names: Sequence[str], context_names: Sequence[str]) -> bytes:
    from transform.examples import request_example

    request, profile = row
    return request_example(request, dict(zip(user_names, profile, strict=False)), context_names)
