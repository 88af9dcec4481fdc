"""A purchase dataset week by week, as towers train on it: the pipeline's own requests, without Beam and TFX around them.

Vocabularies are made anew each week, most frequent item first, as Transform makes them: they grow and reorder.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import tensorflow as tf

from towers.catalogue import Catalogue
from towers.examples import Column, Requests
from towers.vocabulary import Vocabulary
from transform.features import AGE_BOUNDARIES_DAYS
from transform.requests import Event, Request, Rules, requests_of
from transform.sampling import Sampling
from transform.settings import DataSettings, FeatureSettings
from transform.window import Previous, Window, plan_window

_TYPE = "purchase"
FEATURES = FeatureSettings(item_text=("title", "brand"), item=(), user=(), history_length=200)


class Week(NamedTuple):
    """What one run learns from and is judged by.

    Attributes:
      window: the time plan.
      vocabularies: item_id, with the catalogue of items sold up to the newest span, and event_type.
      catalogue: those items.
      train, held_out: transformed rows.
      views: the view of each held-out row; "fresh" are targets first sold in the last week that was learnt from.
    """

    window: Window
    vocabularies: dict[str, Vocabulary]
    catalogue: Catalogue
    train: Requests
    held_out: Requests
    views: np.ndarray


class Journey:
    """A dataset directory of purchases, read once.

    Args:
      dataset: directory of the dataset contract.
      tokenizer: strings [N] -> int [N, L], inside a graph.
      data: settings of the time plan.
    """

    def __init__(self, dataset: str, tokenizer: Any, data: DataSettings) -> None:
        self._data = data
        items = pd.read_parquet(Path(dataset, "items.parquet"))
        texts = (items["title"].fillna("") + " " + items["brand"].fillna("")).str.strip()
        tokenize = tf.function(tokenizer, input_signature=[tf.TensorSpec([None], tf.string)], autograph=False)
        self.tokens = tokenize(tf.constant(list(texts))).numpy().astype(np.int32)
        self._items = list(items["item_id"])
        self._place = {item: place for place, item in enumerate(self._items)}
        frames = []
        for folder in sorted(Path(dataset, "events").iterdir()):
            for path in sorted(folder.glob("*.parquet")):
                frame = pd.read_parquet(path, columns=["timestamp", "item_id", "user_id"])
                frames.append(frame.assign(span=int(folder.name.removeprefix("span-"))))
        events = pd.concat(frames, ignore_index=True)
        events["seconds"] = (events["timestamp"] - pd.Timestamp(0)) / pd.Timedelta(seconds=1)
        self._events = events[events["item_id"].isin(self._place)]
        self._first_sold = self._events.groupby("item_id")["seconds"].min().to_dict()

    def week(
        self,
        span: int,
        texts: np.ndarray,
        previous: Previous | None = None,
        replay_share: float | None = None,
    ) -> Week:
        """What the run on `span` learns from: all of the window, or what is new since a previous push and a replay.

        Args:
          span: the newest; it is held out.
          texts: float32 [items, E], what the frozen encoder made of `tokens`.
          previous: what the push has learnt that the run starts from; None: a run from scratch.
          replay_share: of the window's older requests that are learnt again; None: as the settings have it.
        """
        data = self._data
        if replay_share is not None:
            data = data.model_copy(update={"replay_share": replay_share})
        window = plan_window(data, span, previous)
        train = _Rows(self._place)
        held_out: list[Request] = []
        for request in self._requests(data, window):
            if request.split == "train":
                train.add(request)
            else:
                held_out.append(request)
        held_out += self._fresh(held_out, window)
        judged = _Rows(self._place)
        for request in held_out:
            judged.add(request)
        order, counts = self._vocabulary(train, window)
        row_of = np.zeros(len(self._items), np.int32)  # an item that is in no vocabulary is unknown
        row_of[order] = np.arange(1, len(order) + 1)
        keys = tuple(self._items[place] for place in order)
        return Week(
            window,
            {
                "item_id": Vocabulary("item_id", keys, counts),
                "event_type": Vocabulary("event_type", (_TYPE,)),
            },
            Catalogue(
                np.pad(self.tokens[order], ((1, 0), (0, 0))), {}, np.pad(texts[order], ((1, 0), (0, 0)))
            ),
            train.columns(row_of),
            judged.columns(row_of),
            np.array([request.view for request in held_out]),
        )

    def _requests(self, data: DataSettings, window: Window) -> Iterable[Request]:
        sampling = Sampling(
            data.anchor_share, data.replay_share, data.replay_half_life_days, data.replay_rare_factor
        )
        rules = Rules(
            {_TYPE: 1.0},
            FEATURES.history_length,
            data.known_positive_days,
            sampling,
            data.target_half_life_days or float("inf"),
        )
        read = self._events[self._events["span"].isin(window.spans)]
        before = Counter(read["item_id"][read["seconds"] < window.cut])
        by_user: dict[str, list[Event]] = defaultdict(list)
        for item, user, number, seconds in read[["item_id", "user_id", "span", "seconds"]].itertuples(
            index=False
        ):
            times = before[item]
            kind = "new" if not times else "tail" if times <= data.tail_max_events else "head"
            role = window.role(number, seconds)
            by_user[user].append(Event(seconds, item, _TYPE, "", 1.0, (), role, kind))
        for user, events in by_user.items():
            yield from requests_of(user, events, window, rules)

    def _fresh(self, held_out: Sequence[Request], window: Window) -> list[Request]:
        """The targets that were first sold in the last week before the cut."""
        week = self._data.holdout_days * 86400.0
        fresh = {item for item, first in self._first_sold.items() if window.cut - week <= first < window.cut}
        kept = []
        for request in held_out:
            targets = {item: weight for item, weight in request.targets.items() if item in fresh}
            if request.view == "all" and targets:
                kept.append(request._replace(view="fresh", targets=targets))
        return kept

    def _vocabulary(self, train: "_Rows", window: Window) -> tuple[np.ndarray, np.ndarray]:
        """Places of all items sold so far, most frequent target first, and 1 + how often each was a target."""
        counts = train.target_counts(len(self._items))
        never = float("inf")
        sold = [
            place for item, place in self._place.items() if self._first_sold.get(item, never) <= window.until
        ]
        order = np.array(sorted(sold, key=lambda place: (-counts[place], self._items[place])))
        return order, 1 + counts[order]


class _Rows:
    """Requests as Transform makes them, item by its place in the dataset until the vocabulary is known."""

    def __init__(self, place: dict[str, int]) -> None:
        self._place = place
        self._items: dict[str, list[np.ndarray]] = {
            name: [] for name in ("history_items", "target_items", "known_positives")
        }
        self._ages: list[np.ndarray] = []
        self._weights: list[np.ndarray] = []

    def add(self, request: Request) -> None:
        """Adds a row."""
        values = {
            "history_items": [item for item, _, _ in request.history],
            "target_items": request.targets,
            "known_positives": request.known_positives,
        }
        for name, items in values.items():
            self._items[name].append(np.array([self._place[item] for item in items], np.int32))
        self._ages.append(np.array([age for _, _, age in request.history], np.float64))
        self._weights.append(np.array(list(request.targets.values()), np.float32))

    def target_counts(self, items: int) -> np.ndarray:
        """int64 [items], how often each is a target."""
        return np.bincount(_joined(self._items["target_items"], np.int32).values, minlength=items)

    def columns(self, row_of: np.ndarray) -> Requests:
        """Vocabulary rows and age buckets.

        Args:
          row_of: int32 [items], the vocabulary row of each place.
        """
        columns = {name: _joined(values, np.int32) for name, values in self._items.items()}
        columns = {name: column._replace(values=row_of[column.values]) for name, column in columns.items()}
        ages = _joined(self._ages, np.float64)
        buckets = np.searchsorted(AGE_BOUNDARIES_DAYS, ages.values, side="right") + 1
        nothing = Column(np.zeros(0, np.int32), np.zeros(len(self._ages) + 1, np.int64))
        return Requests(
            columns
            | {
                "query_tokens": nothing,
                "history_types": ages._replace(values=np.ones(len(ages.values), np.int32)),
                "history_ages": ages._replace(values=buckets.astype(np.int32)),
                "target_weights": _joined(self._weights, np.float32),
            }
        )


def _joined(rows: Sequence[np.ndarray], dtype: type) -> Column:
    lengths = np.array([len(row) for row in rows], np.int64)
    values = np.concatenate([np.zeros(0, dtype), *rows])
    return Column(values, np.concatenate([[0], np.cumsum(lengths)]))
