"""Rankings that need no model, on the same held-out requests: what a two-tower model has to beat."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from transform.dataset import read_events

Ranking = Callable[["HeldOut"], list[str]]


class HeldOut(NamedTuple):
    """One held-out request.

    Attributes:
      user_id: "" where there is none.
      view: which targets it holds.
      targets: distinct ids.
      excluded: ids left out of the candidates.
    """

    user_id: str
    view: str
    targets: tuple[str, ...]
    excluded: frozenset[str]


def popularity(events: pd.DataFrame, depth: int) -> Ranking:
    """Most events first, the same for everyone.

    Args:
      events: columns user_id, item_id, timestamp, only those before the held-out time.
      depth: length of a ranking.
    """
    order = _by_count(events["item_id"])

    def rank(row: HeldOut) -> list[str]:
        return _take(order, row.excluded, depth)

    return rank


def recent_popularity(events: pd.DataFrame, depth: int, days: float = 28.0) -> Ranking:
    """Popularity of the last `days` before the held-out time."""
    recent = events[events["timestamp"] >= events["timestamp"].max() - pd.Timedelta(days=days)]
    return popularity(recent, depth)


def own_most_frequent(events: pd.DataFrame, depth: int) -> Ranking:
    """The user's own items by number of events, then popularity."""
    order = _by_count(events["item_id"])
    place = {item: n for n, item in enumerate(order)}
    counts = events[events["user_id"] != ""].groupby(["user_id", "item_id"]).size().rename("n").reset_index()
    counts["place"] = counts["item_id"].map(place)
    counts = counts.sort_values(["user_id", "n", "place"], ascending=[True, False, True])
    own = {user: list(items) for user, items in counts.groupby("user_id")["item_id"]}

    def rank(row: HeldOut) -> list[str]:
        mine = _take(own.get(row.user_id, []), row.excluded, depth)
        return mine + _take(order, row.excluded | set(mine), depth - len(mine))

    return rank


def events_before(dataset: str, spans: Sequence[int], cut: float, event_types: Sequence[str]) -> pd.DataFrame:
    """Target events of `spans` before `cut`.

    Args:
      dataset: the dataset directory.
      spans: which spans to read.
      cut: start of the held-out time, seconds UTC.
      event_types: types that count as targets.

    Returns:
      columns user_id ("" for none), item_id, timestamp.
    """
    frames = [read_events(dataset, span) for span in spans]
    events = pd.concat(frames, ignore_index=True)
    events["timestamp"] = pd.to_datetime(events["timestamp"], errors="coerce")
    events["item_id"] = events["item_id"].astype(str)
    if "user_id" not in events:
        events["user_id"] = ""
    events["user_id"] = events["user_id"].fillna("").astype(str)
    keep = (events["timestamp"] < pd.Timestamp(cut, unit="s")) & events["event_type"].isin(event_types)
    return events.loc[keep, ["user_id", "item_id", "timestamp"]]


def ranking_metrics(ranked: Sequence[str], targets: Sequence[str]) -> dict[str, float]:
    """Recall@10, Recall@100, NDCG@10 and MRR of one ranking.

    Recall@k divides by min(k, number of targets); NDCG has binary gains; MRR looks at the whole ranking given.

    Args:
      ranked: ids, best first.
      targets: distinct relevant ids, at least one.
    """
    wanted = set(targets)
    hits = np.array([item in wanted for item in ranked[:100]], dtype=np.float64)
    hits = np.pad(hits, (0, 100 - len(hits)))
    discount = 1.0 / np.log2(np.arange(10) + 2)
    ideal = discount[: min(10, len(wanted))].sum()
    first = np.flatnonzero(hits)
    return {
        "recall_at_10": hits[:10].sum() / min(10, len(wanted)),
        "recall_at_100": hits.sum() / min(100, len(wanted)),
        "ndcg_at_10": float((hits[:10] * discount).sum() / ideal),
        "mrr": 1.0 / (first[0] + 1) if len(first) else 0.0,
    }


def _by_count(items: pd.Series) -> list[str]:
    counts = items.value_counts()
    return [item for item, _ in sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))]


def _take(order: Sequence[str], excluded: frozenset[str] | set[str], depth: int) -> list[str]:
    taken: list[str] = []
    for item in order:
        if len(taken) >= depth:
            break
        if item not in excluded:
            taken.append(item)
    return taken
