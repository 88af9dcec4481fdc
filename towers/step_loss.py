"""The losses of one step on one replica: candidates of all replicas, hard negatives of its own pairs, views."""

from typing import Any, NamedTuple

import tensorflow as tf

from towers.gather import gather_candidates
from towers.hard_negatives import HARD_NEGATIVES
from towers.loss import NO_SCORE, is_member, negatives_mask


class StepLosses(NamedTuple):
    """What a step's pairs lose, and how many of its candidates are no negatives.

    Attributes:
      joint: float32 [], summed over this replica's pairs.
      views: the same of each view alone: the towers', then the lexical one; empty without a lexical view.
      masked: float32 [], share of (pair, candidate) that are no negatives.
      conflicting: float32 [], share of them that are further copies of the pair's own item.
    """

    joint: Any
    views: tuple[Any, ...]
    masked: Any
    conflicting: Any


def step_losses(model: Any, batch: dict[str, Any], made: dict[str, Any]) -> StepLosses:
    """Sums the losses.

    Args:
      model: a `TwoTower` with a catalogue.
      batch: as it came.
      made: what the model's `call` made of it.
    """
    candidates = gather_candidates(made["vectors"], made["items"])
    is_real = tf.cast(~made["made_up"], tf.float32)[:, tf.newaxis]
    known = tf.where(made["made_up"], tf.shape(batch["known_positives"])[0], made["row"])
    known_positives = tf.pad(batch["known_positives"], [[0, 1], [0, 0]])
    mask = negatives_mask(made["own"], candidates.items, known_positives, known)
    masked = 1.0 - tf.reduce_mean(tf.cast(mask, tf.float32))
    copies = tf.cast(tf.equal(made["own"][:, tf.newaxis], candidates.items[tf.newaxis, :]), tf.float32)
    pairs, count = tf.shape(mask)[0], tf.cast(tf.size(mask), tf.float32)
    conflicting = (tf.reduce_sum(copies) - tf.cast(pairs, tf.float32)) / count

    entries = batch["history_items"], made["entry_weights"]
    bonus = tf.gather(model.repeat.of_candidates(*entries, candidates.items), made["row"]) * is_real
    hard_bonus = None
    if HARD_NEGATIVES in made:
        mask &= ~is_member(candidates.items, made[HARD_NEGATIVES])
        shape = tf.shape(batch[HARD_NEGATIVES])
        of_request = tf.reshape(batch[HARD_NEGATIVES], [shape[0], -1])
        hard_bonus = tf.reshape(model.repeat.of_candidates(*entries, of_request), shape)
        hard_bonus = tf.gather_nd(hard_bonus, tf.where(batch["target_items"] > 0)) * is_real
    slots = tf.gather(model.slots, candidates.items)

    def loss(queries: Any, vectors: Any, hard_vectors: Any, weights: Any, with_bonus: bool) -> Any:
        hard = None
        if hard_bonus is not None:
            hard = tf.einsum("pd,pnd->pn", queries, hard_vectors) + float(with_bonus) * hard_bonus
            hard = tf.where(made[HARD_NEGATIVES] > 0, hard, NO_SCORE)
        added = bonus if with_bonus else tf.zeros_like(bonus)
        return model.retrieval_loss(queries, vectors, weights, slots, mask, added, hard)

    vectors = made["queries"], candidates.vectors, made.get("hard_vectors")
    joint = loss(*vectors, made["weights"], True)
    views: tuple[Any, ...] = ()
    if model.lexical is not None and model.settings.view_loss:
        weights = made["weights"] * tf.cast(made["has_text"], tf.float32)
        parts = zip(*(_views(model, value) for value in vectors), strict=True)
        views = tuple(loss(q, v, h, weights, False) for q, v, h in parts)
    return StepLosses(joint, views, masked, conflicting)


def _views(model: Any, vectors: Any) -> list[Any]:
    """What the towers say of float32 [..., D], and what the lexical view does; None is None of each."""
    if vectors is None:
        return [None, None]
    return tf.split(vectors, [model.query_tower.dimension, -1], axis=-1)
