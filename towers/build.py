"""From settings and vocabularies to a built model, and which of its tables belongs to which vocabulary."""

from typing import Any

import numpy as np
import tensorflow as tf

from towers.cooccurrence import CooccurrenceView
from towers.encoder import TextEncoder
from towers.history import HistoryEncoder
from towers.item_tower import ItemTower
from towers.lexical_view import LexicalView
from towers.query_tower import QueryTower
from towers.repeat import RepeatBonus
from towers.settings import ModelSettings
from towers.two_tower import TwoTower
from towers.vocabulary import Vocabulary
from transform.features import (
    EVENT_TYPE_VOCABULARY,
    ITEM_ID_VOCABULARY,
    ITEM_LEXEMES,
    PATH_LEVELS,
    QUERY_LEXEMES,
    query_features,
)
from transform.settings import Feature, FeatureSettings

POPULARITY_WEIGHT = 10.0  # of the first coordinate; keeps what stands there as small as the other coordinates


def build_model(
    features: FeatureSettings,
    settings: ModelSettings,
    encoder: TextEncoder,
    vocabularies: dict[str, Vocabulary],
    policy: str = "float32",
    negatives: int = 0,
) -> TwoTower:
    """Makes both towers with all their weights.

    Args:
      features: declared features.
      settings: shape of the towers.
      encoder: shared by both towers; made under the same policy.
      vocabularies: as `towers.vocabulary.load_vocabularies` returns them.
      policy: Keras dtype policy of the dense layers; tables, vectors and loss are float32 under any.
      negatives: evenly drawn catalogue items a step.
    """
    lexical = _lexical_view(features, settings)
    items = vocabularies[ITEM_ID_VOCABULARY]
    cooccurrence = _cooccurrence_view(features, settings, items.rows, vocabularies[EVENT_TYPE_VOCABULARY])
    views = [view.dimension for view in (lexical, cooccurrence) if view is not None]
    dimension = settings.dimension - sum(views)
    event_weights = _event_weights(features, vocabularies[EVENT_TYPE_VOCABULARY])
    history = HistoryEncoder(
        items.rows,
        event_weights,
        dimension,
        dropout=settings.history_dropout,
        name="history",
        dtype="float32",
    )
    query_tower = QueryTower(
        history,
        {feature.name: _rows(feature, features, vocabularies) for feature in query_features(features)},
        dimension,
        policy,
        name="query_tower",
        dtype="float32",
    )
    item_tower = ItemTower(
        items.rows,
        {feature.name: _rows(feature, features, vocabularies) for feature in features.item},
        dimension,
        policy,
        id_dropout=settings.item_id_dropout,
        name="item_tower",
        dtype="float32",
    )
    repeat = RepeatBonus(items.rows, event_weights, name="repeat", dtype="float32")
    model = TwoTower(
        encoder,
        query_tower,
        item_tower,
        repeat,
        lexical,
        cooccurrence,
        settings,
        negatives,
        name="two_tower",
        dtype="float32",
    )
    _build(model, features)
    counts = items.counts if items.counts is not None else np.full(len(items.keys), 2)
    if settings.item_ids:
        item_tower.seen.assign(np.concatenate([[0.0], counts > 1]).astype(np.float32))
    _start_from_popularity(model, counts)
    return model


def _start_from_popularity(model: TwoTower, counts: np.ndarray) -> None:
    """Gives rare items short id vectors, and every item its log share as its first coordinate.

    Random vectors of rare items are what drowns a bought item among 30,000 others, so they start short. With the query
    bias at 10 in the first coordinate and log share / 10 there, scores start as the softmax of what is sold. Vectors
    of length 1 cannot say how often an item is sold: then there is no such coordinate.

    Args:
      model: with random ids.
      counts: int [N], 1 + number of training targets.
    """
    sold = np.concatenate([[0.0], np.asarray(counts, np.float64) - 1.0])
    ids = np.array(model.item_tower.ids)
    ids *= np.sqrt(np.log1p(sold) / max(np.log1p(sold).max(), 1e-9))[:, np.newaxis]
    if not model.settings.normalize:
        share = np.log(sold + 0.5)
        ids[:, 0] = (share - share.max()) / POPULARITY_WEIGHT
        bias = np.zeros(model.query_tower.dimension, np.float32)
        bias[0] = POPULARITY_WEIGHT
        model.query_tower.bias.assign(bias)
    model.item_tower.ids.assign(ids)


def keyed_variables(model: TwoTower, features: FeatureSettings) -> dict[str, str]:
    """Names the variables whose rows follow a vocabulary: variable path -> vocabulary name.

    Buckets of numbers are not among them: bucket n means "the n-th quantile" in every run.
    """
    history, item_tower, repeat = model.query_tower.history, model.item_tower, model.repeat
    keyed = {
        variable.path: ITEM_ID_VOCABULARY
        for variable in (item_tower.ids, item_tower.seen, history.near, repeat.log_loyalty)
    }
    keyed |= {variable.path: EVENT_TYPE_VOCABULARY for variable in (history.weight, repeat.log_weights)}
    kinds = {feature.name: feature.kind for feature in (*features.item, *query_features(features))}
    for tables in (model.query_tower.features.tables, model.item_tower.features.tables):
        keyed |= {table.path: name for name, table in tables.items() if kinds[name] != "number"}
    return keyed


def _lexical_view(features: FeatureSettings, settings: ModelSettings) -> LexicalView | None:
    if not features.lexical_buckets:
        return None
    return LexicalView(features.lexical_buckets, settings.lexical_dimension, name="lexical", dtype="float32")


def _cooccurrence_view(
    features: FeatureSettings, settings: ModelSettings, items: int, types: Vocabulary
) -> CooccurrenceView | None:
    if not features.cooccurrence_items:
        return None
    return CooccurrenceView(
        items,
        min(features.cooccurrence_items, items - 1),
        [1.0, *(float(key in features.event_types) for key in types.keys)],
        settings.cooccurrence_dimension,
        settings.cooccurrence_weight,
        settings.trend_weight,
        name="cooccurrence",
        dtype="float32",
    )


def _event_weights(features: FeatureSettings, types: Vocabulary) -> list[float]:
    """What an event starts to count in the history: a target's type 1, others 0.1, an unknown type between."""
    return [0.5] + [1.0 if key in features.event_types else 0.1 for key in types.keys]


def _rows(feature: Feature, features: FeatureSettings, vocabularies: dict[str, Vocabulary]) -> int:
    return features.number_buckets + 1 if feature.kind == "number" else vocabularies[feature.name].rows


def _build(model: TwoTower, features: FeatureSettings) -> None:
    """Runs both towers once on nothing, so that every weight exists."""

    def absent(declared: tuple[Feature, ...]) -> dict[str, Any]:
        return {
            feature.name: tf.zeros([1, PATH_LEVELS if feature.kind == "path" else 1], tf.int32)
            for feature in declared
        }

    nothing = tf.zeros([1, 1], tf.int32)
    names = ("query_tokens", QUERY_LEXEMES, "history_items", "history_types", "history_ages")
    for view in (model.lexical, model.cooccurrence):
        if view is not None:
            view.build()
    item_inputs = {ITEM_LEXEMES: nothing, **absent(features.item)}
    model.embed_items(tf.zeros([1], tf.int32), tf.zeros([1, model.encoder.dimension]), item_inputs)
    inputs = {**{name: nothing for name in names}, **absent(query_features(features))}
    model.embed_queries(inputs)
    model.history_bonus(inputs)
    model.built = True
