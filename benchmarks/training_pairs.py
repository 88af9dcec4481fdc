"""Training pairs of a search data set, as the trainer and as sentence-transformers take them in."""

from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import tensorflow as tf

from benchmarks.baselines.task import Task
from towers.catalogue import Catalogue
from towers.examples import Column, Requests
from towers.vocabulary import Vocabulary
from transform.errors import TandemError
from transform.settings import FeatureSettings
from transform.text import load_tokenizer

TOKENS = 32  # of a text, at most
FEATURES = FeatureSettings(item_text=("title",), item=(), event_types={"relevant": 1.0})


class Pairs(NamedTuple):
    """Pairs without a query or a title twice, so that no batch has one twice.

    Attributes:
      queries, titles: str [N].
      epoch: how many distinct pairs the data set has in all.
    """

    queries: list[str]
    titles: list[str]
    epoch: int


def read_pairs(dataset: Path, count: int, before: pd.Timestamp, seed: int = 0) -> Pairs:
    """Draws pairs of a dataset directory.

    Args:
      dataset: with items.parquet and events that have queries.
      count: how many.
      before: pairs of later events are not for training.
      seed: of the draw.

    Raises:
      TandemError: there are not so many.
    """
    items = pd.read_parquet(dataset / "items.parquet", columns=["item_id", "title"])
    parts = sorted(dataset.glob("events/span-*/*.parquet"))
    if not parts:
        raise TandemError(f"{dataset} has no events/span-*/*.parquet, expected a dataset directory.")
    events = pd.concat([pd.read_parquet(part) for part in parts])
    events = events[(events["timestamp"] < before) & (events["query"].fillna("") != "")]
    pairs = events.merge(items, on="item_id")[["query", "title"]].drop_duplicates()
    drawn = pairs.sample(frac=1.0, random_state=seed).drop_duplicates("query").drop_duplicates("title")
    if len(drawn) < count:
        raise TandemError(
            f"{dataset}: {len(drawn)} pairs of distinct texts, expected {count}; take fewer --steps."
        )
    drawn = drawn.iloc[:count]
    return Pairs(drawn["query"].tolist(), drawn["title"].tolist(), len(pairs))


def task_of(pairs: Pairs) -> Task:
    """What sentence-transformers is given."""
    count, none = len(pairs.queries), np.zeros(0, np.int64)
    return Task(
        texts=np.array(pairs.titles),
        users=none,
        queries=np.zeros(0, np.str_),
        excluded=none,
        excluded_offsets=np.zeros(1, np.int64),
        event_users=np.full(count, -1),
        event_items=np.arange(count),
        event_days=np.ones(count),
        event_queries=np.array(pairs.queries),
    )


def requests_of(pairs: Pairs, preset: str) -> tuple[Requests, Catalogue, dict[str, Vocabulary]]:
    """What the trainer is given: request n asks for item n, which is row n + 1."""
    count = len(pairs.queries)
    row = np.arange(1, count + 1, dtype=np.int32)
    one, none = np.arange(count + 1), Column(np.zeros(0, np.int32), np.zeros(count + 1, np.int64))
    queries = _tokens(preset, pairs.queries)
    lengths = (queries > 0).sum(axis=1)
    columns = {
        "query_tokens": Column(queries[queries > 0], np.concatenate([[0], np.cumsum(lengths)])),
        "history_items": none,
        "history_types": none,
        "history_ages": none,
        "target_items": Column(row, one),
        "target_weights": Column(np.ones(count, np.float32), one),
        "known_positives": Column(row, one),
    }
    tokens = np.pad(_tokens(preset, pairs.titles), ((1, 0), (0, 0)))
    items = Vocabulary("item_id", tuple(map(str, row)), np.full(count, 2))
    vocabularies = {"item_id": items, "event_type": Vocabulary("event_type", ("relevant",), None)}
    return Requests(columns), Catalogue(tokens, {}), vocabularies


def _tokens(preset: str, texts: list[str]) -> Any:
    return _tokenize(preset)(tf.constant(texts)).numpy()


@cache  # the tokenizer's operations are recorded once, and a second function of them finds some gone with the first
def _tokenize(preset: str) -> Any:
    signature = [tf.TensorSpec([None], tf.string)]
    return tf.function(load_tokenizer(preset, TOKENS), input_signature=signature, autograph=False)
