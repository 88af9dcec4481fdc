"""A purchase dataset week by week, as towers train on it: the pipeline's own requests, without Beam and TFX around them.

Vocabularies are made anew each week, most frequent item first, as Transform makes them: they grow and reorder.
"""

from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import tensorflow as tf

from towers.catalogue import Catalogue, encode_texts
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
      train_requests: as they were made.
    """

    window: Window
    vocabularies: dict[str, Vocabulary]
    catalogue: Catalogue
    train: Requests
    held_out: Requests
    views: np.ndarray
    train_requests: list[Request]


class Journey:
    """A dataset directory of purchases, read once.

    Args:
      dataset: directory of the dataset contract.
      encoder: a frozen `TextEncoder`; each item's text is encoded once for all weeks.
      tokenizer: strings [N] -> int [N, L], inside a graph.
      data: settings of the time plan.
    """

    def __init__(self, dataset: str, encoder: Any, tokenizer: Any, data: DataSettings) -> None:
        self._data = data
        items = pd.read_parquet(Path(dataset, "items.parquet"))
        texts = (items["title"].fillna("") + " " + items["brand"].fillna("")).str.strip()
        tokenize = tf.function(tokenizer, input_signature=[tf.TensorSpec([None], tf.string)], autograph=False)
        tokens = tokenize(tf.constant(list(texts))).numpy().astype(np.int32)
        self._tokens = dict(zip(items["item_id"], tokens, strict=True))
        self._texts = dict(zip(items["item_id"], encode_texts(encoder, tokens), strict=True))
        frames = []
        for folder in sorted(Path(dataset, "events").iterdir()):
            for path in sorted(folder.glob("*.parquet")):
                frame = pd.read_parquet(path, columns=["timestamp", "item_id", "user_id"])
                frames.append(frame.assign(span=int(folder.name.removeprefix("span-"))))
        events = pd.concat(frames, ignore_index=True)
        events["seconds"] = (events["timestamp"] - pd.Timestamp(0)) / pd.Timedelta(seconds=1)
        self._events = events[events["item_id"].isin(self._tokens)]
        self._first_sold = self._events.groupby("item_id")["seconds"].min().to_dict()

    def week(self, span: int, previous: Previous | None = None, *, replay: bool = True) -> Week:
        """What the run on `span` learns from: all of the window, or what is new since a previous push and a replay."""
        data = self._data if replay else self._data.model_copy(update={"replay_share": 0.0})
        window = plan_window(data, span, previous)
        sampling = Sampling(
            data.anchor_share, data.replay_share, data.replay_half_life_days, data.replay_rare_factor
        )
        rules = Rules({_TYPE: 1.0}, FEATURES.history_length, data.known_positive_days, sampling)
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
        made = [r for user, events in by_user.items() for r in requests_of(user, events, window, rules)]
        train = [request for request in made if request.split == "train"]
        held_out = [request for request in made if request.split == "eval"]
        held_out += self._fresh(held_out, window)
        vocabularies = self._vocabularies(train, window)
        rows = {key: row for row, key in enumerate(vocabularies["item_id"].keys, start=1)}
        return Week(
            window,
            vocabularies,
            self._catalogue(vocabularies["item_id"].keys),
            _columns(train, rows),
            _columns(held_out, rows),
            np.array([request.view for request in held_out]),
            train,
        )

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

    def _vocabularies(self, train: Sequence[Request], window: Window) -> dict[str, Vocabulary]:
        counts = Counter({item: 1 for item, first in self._first_sold.items() if first <= window.until})
        for request in train:
            counts.update(request.targets.keys())
        ordered = sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))
        keys = tuple(key for key, _ in ordered)
        return {
            "item_id": Vocabulary("item_id", keys, np.array([count for _, count in ordered])),
            "event_type": Vocabulary("event_type", (_TYPE,)),
        }

    def _catalogue(self, keys: Sequence[str]) -> Catalogue:
        tokens = np.stack([self._tokens[key] for key in keys])
        text = np.stack([self._texts[key] for key in keys])
        return Catalogue(np.pad(tokens, ((1, 0), (0, 0))), {}, np.pad(text, ((1, 0), (0, 0))))


def _columns(requests: Sequence[Request], rows: dict[str, int]) -> Requests:
    """Requests as Transform makes them: vocabulary rows and age buckets."""

    def column(values: Sequence[Sequence[float]], dtype: type) -> Column:
        flat = np.array([value for row in values for value in row], dtype)
        return Column(flat, np.concatenate([[0], np.cumsum([len(row) for row in values], dtype=np.int64)]))

    histories = [[rows.get(item, 0) for item, _, _ in request.history] for request in requests]
    ages = [[age for _, _, age in request.history] for request in requests]
    buckets = [np.searchsorted(AGE_BOUNDARIES_DAYS, row, side="right") + 1 for row in ages]
    return Requests(
        {
            "query_tokens": column([() for _ in requests], np.int32),
            "history_items": column(histories, np.int32),
            "history_types": column([[1] * len(row) for row in ages], np.int32),
            "history_ages": column(buckets, np.int32),
            "target_items": column([[rows[item] for item in r.targets] for r in requests], np.int32),
            "target_weights": column([list(r.targets.values()) for r in requests], np.float32),
            "known_positives": column([[rows[i] for i in r.known_positives] for r in requests], np.int32),
        }
    )
