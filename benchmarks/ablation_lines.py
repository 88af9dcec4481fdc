"""The trainings that `benchmarks.ablation` compares: the profile as it is, and the same with one thing changed."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from towers import fit, step_loss, trainer
from towers.catalogue import Catalogue
from towers.examples import read_catalogue
from towers.loss import expected_slots, negatives_mask
from transform.features import HISTORY_AGES, HISTORY_ITEMS, HISTORY_TYPES


class Line(NamedTuple):
    """One training.

    Attributes:
      name: what differs.
      settings: dotted setting -> value, over the profile's.
      blank: columns of the requests, trained on and held out, that lose their values.
      functions: (module, name, function) that stand in for parts of the loss that cannot be switched off.
    """

    name: str
    settings: Mapping[str, Any] = MappingProxyType({})
    blank: Sequence[str] = ()
    functions: Sequence[tuple[Any, str, Any]] = ()


def _even_slots(own: np.ndarray, uniform: float) -> np.ndarray:
    slots = expected_slots(own, uniform)
    slots[1:] = slots[1:].mean()
    return slots


def _only_copies(own: Any, candidates: Any, known: Any, row: Any) -> Any:
    return negatives_mask(own, candidates, tf.zeros_like(known), row)


def _own_half(own: Any, candidates: Any, known: Any, row: Any) -> Any:
    """As a replica of two would see it whose candidates are not gathered."""
    pairs, count = tf.shape(own)[0], tf.shape(candidates)[0]
    first, mine = tf.range(pairs) < pairs // 2, tf.range(count) < pairs // 2
    return negatives_mask(own, candidates, known, row) & tf.equal(first[:, tf.newaxis], mine)


def _without_texts(files: list[str], features: Any, rows: int) -> Catalogue:
    catalogue = read_catalogue(files, features, rows)
    return catalogue._replace(tokens=np.zeros_like(catalogue.tokens))


_LOSS = (
    Line("no correction for sampling (logQ)", functions=[(fit, "expected_slots", _even_slots)]),
    Line("known positives not masked", functions=[(step_loss, "negatives_mask", _only_copies)]),
    Line(
        "half of the candidates, as without gathering", functions=[(step_loss, "negatives_mask", _own_half)]
    ),
    Line("4 hard negatives a pair", {"training.hard_negatives": 4}),
)

LINES = {
    "home-depot": (
        Line("as the profile says"),
        *_LOSS,
        Line("no lexical view", {"features.lexical_buckets": 0}),
        Line("no losses of the views alone", {"model.view_loss": 0.0}),
        Line("no made-up queries", {"model.made_up_queries": 0.0}),
        # As in a shop that has no query log; the setting ends below 1.
        Line(
            "999 of 1,000 pairs made up, encoder as it came",
            {"model.made_up_queries": 0.999, "encoder.tuning_steps": 0},
        ),
        Line("item ids beside texts", {"model.item_ids": True}),
        Line("64 dimensions, half of them lexical", {"model.dimension": 64, "model.lexical_dimension": 32}),
        Line("128 dimensions, half of them lexical", {"model.dimension": 128, "model.lexical_dimension": 64}),
        Line(
            "256 dimensions, half of them lexical", {"model.dimension": 256, "model.lexical_dimension": 128}
        ),
        Line("encoder as it came", {"encoder.tuning_steps": 0}),
        Line("encoder's last layer tuned instead of three", {"encoder.last_layers": 1}),
    ),
    "online-retail": (
        Line("as the profile says"),
        *_LOSS,
        Line("no further negatives", {"training.negatives": 0}),
        Line("no history", blank=(HISTORY_ITEMS, HISTORY_TYPES, HISTORY_AGES)),
        Line("no profile (country)", blank=("country",)),
        Line("no item ids", {"model.item_ids": False}),
        Line("no item texts", functions=[(trainer, "read_catalogue", _without_texts)]),
        Line("no co-occurrence", {"features.cooccurrence_items": 0, "model.dimension": 128}),
        Line("no trend", {"model.trend_weight": 0.0}),
        Line("96 dimensions, 64 of the towers", {"model.dimension": 96, "model.cooccurrence_dimension": 32}),
        Line(
            "384 dimensions, 256 of the towers", {"model.dimension": 384, "model.cooccurrence_dimension": 128}
        ),
    ),
}

# Home Depot has no users, so that its views are one.
VIEWS_SHOWN = {"home-depot": ("all",), "online-retail": ("all", "unseen")}
