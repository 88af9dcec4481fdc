"""Candidates of every replica, so that more replicas mean more negatives, not fewer a replica."""

from typing import Any, NamedTuple

import tensorflow as tf


class Gathered(NamedTuple):
    """Candidates as one replica sees them: its own first, in their order, then the others'.

    Attributes:
      vectors: float32 [C, D], with gradient to the replica that made them.
      items: int32 [C].
    """

    vectors: Any
    items: Any


def gather_candidates(vectors: Any, items: Any) -> Gathered:
    """Gathers over the replicas of the current strategy; replicas may hold different numbers of candidates.

    Args:
      vectors: float32 [c, D], this replica's candidates.
      items: int32 [c], their rows in the item vocabulary.
    """
    context = tf.distribute.get_replica_context()
    if context is None or context.num_replicas_in_sync == 1:
        return Gathered(vectors, items)
    me = context.replica_id_in_sync_group
    owner = tf.fill([tf.shape(items)[0]], tf.cast(me, tf.int32))
    others = tf.not_equal(context.all_gather(owner, axis=0), tf.cast(me, tf.int32))
    other_vectors = tf.boolean_mask(context.all_gather(vectors, axis=0), others)
    other_items = tf.boolean_mask(context.all_gather(items, axis=0), others)
    return Gathered(tf.concat([vectors, other_vectors], 0), tf.concat([items, other_items], 0))


def sum_over_replicas(value: Any) -> Any:
    """Sums a number over the replicas, without gradient."""
    context = tf.distribute.get_replica_context()
    value = tf.stop_gradient(value)
    if context is None or context.num_replicas_in_sync == 1:
        return value
    return context.all_reduce(tf.distribute.ReduceOp.SUM, value)
