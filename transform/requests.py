"""From one user's events to requests: what was known at a time, and what it was answered with.

Pure functions of one group of events, so that they can be tested without Beam and scale with it.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from itertools import groupby
from operator import attrgetter, itemgetter
from typing import NamedTuple

from transform.features import HISTORIES
from transform.sampling import Sampling
from transform.window import Role, Window

# Views of older requests: held out for ever to tell what was forgotten, and learnt again by a warm start.
ANCHOR = "anchor"
REPLAY = "replay"

_DAY = 86400.0
# Known positives of a request come from at most that many of the user's events on either side of it, so that a
# user with a million events (a bot) costs no more than linear time.
_KNOWN_POSITIVE_EVENTS = 1000


class Event(NamedTuple):
    """One event, joined with what is known of its item.

    Attributes:
      timestamp: seconds UTC.
      item_id: in the catalogue.
      event_type: as the shop spells it.
      query: "" where there is none.
      weight: of the event as a target, before its type's weight.
      context: values of the declared context features, None where missing.
      role: what the time plan lets it be.
      item_class: "new", "tail" or "head" by the item's events before the cut.
    """

    timestamp: float
    item_id: str
    event_type: str
    query: str
    weight: float
    context: tuple[str | float | None, ...]
    role: Role
    item_class: str


class Request(NamedTuple):
    """What a server could have been asked, and the answer that was right.

    Attributes:
      split: "train", "eval" or "histories".
      user_id: "" where there is none.
      query: "" where there is none.
      timestamp: seconds UTC; the history is strictly older.
      history: (item id, event type, age in days) newest first.
      context: values of the declared context features.
      targets: item id -> weight.
      known_positives: ids that are never negatives (train), or left out of the candidates (eval).
      view: which held-out targets these are; in train "replay" where they are learnt again, else "".
      user_group, query_group: slices of held-out requests, "" in train.
    """

    split: str
    user_id: str
    query: str
    timestamp: float
    history: tuple[tuple[str, str, float], ...]
    context: tuple[str | float | None, ...]
    targets: dict[str, float]
    known_positives: tuple[str, ...]
    view: str = ""
    user_group: str = ""
    query_group: str = ""


class Rules(NamedTuple):
    """The settings that shape requests.

    Attributes:
      event_types: type -> weight as a target.
      history_length: newest events kept.
      known_positive_days: days around a request in which the user's other items are known positives.
      sampling: which older requests are learnt again, or kept out of training for ever.
      half_life_days: a training request so many days before the cut weighs half as much.
      histories: whether each user's history at the cut is yielded, too.
    """

    event_types: dict[str, float]
    history_length: int
    known_positive_days: float
    sampling: Sampling = Sampling()
    half_life_days: float = float("inf")
    histories: bool = False


def requests_of(user_id: str, events: Sequence[Event], window: Window, rules: Rules) -> Iterator[Request]:
    """All requests of one user, or of one query text where there is no user.

    Training requests are one a moment, query and context; held-out ones are one a query (one in all without a
    query) for the whole held-out time, in one view for each kind of target that they have. Requests before the
    cut that no run learns from are held out one by one, as view "anchor". The known positives of a training
    request with a query are not filled in here: they come from everyone who used the same text. Split histories has
    what a user did until the cut, without targets and without what no run learns from.

    Args:
      user_id: "" where the events have a query only.
      events: in any order.
      window: the time plan.
      rules: settings.
    """
    ordered = sorted(events, key=attrgetter("timestamp", "item_id", "event_type", "query"))
    times = [event.timestamp for event in ordered]
    targets = [e for e in ordered if e.role != "past" and e.event_type in rules.event_types]
    learnt = bisect_left(times, window.cut)
    yield from _before_the_cut(
        user_id,
        ordered[:learnt],
        times[:learnt],
        [e for e in targets if e.timestamp < window.cut],
        window.cut,
        rules,
    )
    yield from _held_out(
        user_id, ordered, times, [e for e in targets if e.timestamp >= window.cut], window.cut, rules
    )
    if rules.histories and user_id:
        yield from _history_at_the_cut(user_id, ordered[:learnt], window.cut, rules)


def _before_the_cut(
    user_id: str,
    ordered: Sequence[Event],
    times: Sequence[float],
    targets: Sequence[Event],
    cut: float,
    rules: Rules,
) -> Iterator[Request]:
    """`ordered` and `times` end at the cut: nothing held out is a history entry or a known positive."""
    for (timestamp, query, _), group in groupby(sorted(targets, key=_moment), key=_moment):
        members = list(group)
        if rules.sampling.is_anchor(user_id, timestamp, query):
            yield _anchor(user_id, ordered, times, members, rules)
            continue
        new = [event for event in members if event.role == "new"]
        if new:
            yield _training(user_id, ordered, times, new, "", cut, rules)
        elif rules.sampling.is_replayed(
            user_id,
            timestamp,
            query,
            (cut - timestamp) / _DAY,
            sum(event.item_class == "tail" for event in members) / len(members),
            cut,
        ):
            yield _training(user_id, ordered, times, members, REPLAY, cut, rules)


def _training(
    user_id: str,
    ordered: Sequence[Event],
    times: Sequence[float],
    members: Sequence[Event],
    view: str,
    cut: float,
    rules: Rules,
) -> Request:
    """One moment to learn from."""
    timestamp, query = members[0].timestamp, members[0].query
    recency = 0.5 ** ((cut - timestamp) / _DAY / rules.half_life_days)
    known: tuple[str, ...] = ()
    if user_id and not query:
        reach = rules.known_positive_days * _DAY
        here = bisect_left(times, timestamp)
        first = max(bisect_left(times, timestamp - reach), here - _KNOWN_POSITIVE_EVENTS)
        last = min(bisect_right(times, timestamp + reach), here + _KNOWN_POSITIVE_EVENTS)
        known = tuple(sorted({event.item_id for event in ordered[first:last]}))
    return Request(
        "train",
        user_id,
        query,
        timestamp,
        _history(user_id, ordered, times, timestamp, rules.history_length),
        members[0].context,
        {item: weight * recency for item, weight in _weights(members, rules).items()},
        known,
        view,
    )


def _anchor(
    user_id: str, ordered: Sequence[Event], times: Sequence[float], members: Sequence[Event], rules: Rules
) -> Request:
    """One moment that no run learns from, with what was known at the time."""
    timestamp, query = members[0].timestamp, members[0].query
    history = _history(user_id, ordered, times, timestamp, rules.history_length)
    return Request(
        "eval",
        user_id,
        query,
        timestamp,
        history,
        members[0].context,
        _weights(members, rules),
        (),
        ANCHOR,
        ("returning" if history else "new") if user_id else "none",
        "with_query" if query else "without_query",
    )


def _held_out(
    user_id: str,
    ordered: Sequence[Event],
    times: Sequence[float],
    targets: Sequence[Event],
    cut: float,
    rules: Rules,
) -> Iterator[Request]:
    if not targets:
        return
    before = {event.item_id for event in ordered[: bisect_left(times, cut)]} if user_id else set()
    history = _history(user_id, ordered, times, cut, rules.history_length)
    user_group = ("returning" if before else "new") if user_id else "none"
    by_query = itemgetter(0)
    for query, group in groupby(sorted(((e.query, e) for e in targets), key=by_query), key=by_query):
        members = [event for _, event in group]
        views = {
            "all": members,
            "unseen": [event for event in members if event.item_id not in before] if user_id else [],
            "new_item": [event for event in members if event.item_class == "new"],
            "tail_item": [event for event in members if event.item_class == "tail"],
        }
        for view, kept in views.items():
            if kept:
                yield Request(
                    "eval",
                    user_id,
                    query,
                    cut,
                    history,
                    members[0].context,
                    _weights(kept, rules),
                    tuple(sorted(before)) if view == "unseen" else (),
                    view,
                    user_group,
                    "with_query" if query else "without_query",
                )


def _history_at_the_cut(
    user_id: str, ordered: Sequence[Event], cut: float, rules: Rules
) -> Iterator[Request]:
    is_anchor = rules.sampling.is_anchor
    kept = [e for e in ordered if not is_anchor(user_id, e.timestamp, e.query)]
    if kept:
        history = _history(user_id, kept, [e.timestamp for e in kept], cut, rules.history_length)
        nothing = (None,) * len(kept[0].context)
        yield Request(HISTORIES, user_id, "", cut, history, nothing, {}, ())


def _moment(event: Event) -> tuple[float, str, tuple[str, ...]]:
    """What makes targets one request; the context as text, so that missing values sort too."""
    return event.timestamp, event.query, tuple(map(str, event.context))


def _history(
    user_id: str, ordered: Sequence[Event], times: Sequence[float], timestamp: float, length: int
) -> tuple[tuple[str, str, float], ...]:
    """The newest events strictly before `timestamp`; none without a user."""
    if not user_id:
        return ()
    end = bisect_left(times, timestamp)
    newest_first = reversed(ordered[max(0, end - length) : end])
    return tuple((e.item_id, e.event_type, (timestamp - e.timestamp) / _DAY) for e in newest_first)


def _weights(events: Sequence[Event], rules: Rules) -> dict[str, float]:
    """Item id -> summed weight, in order of the ids."""
    weights: dict[str, float] = {}
    for event in sorted(events, key=attrgetter("item_id")):
        weights[event.item_id] = (
            weights.get(event.item_id, 0.0) + rules.event_types[event.event_type] * event.weight
        )
    return weights
