"""Full-corpus retrieval metrics of one request each, as graph operations."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import tensorflow as tf

METRICS = ("recall_at_10", "recall_at_100", "ndcg_at_10", "mrr")


def retrieval_metrics(
    scores: "tf.Tensor", targets: "tf.RaggedTensor", excluded: "tf.RaggedTensor"
) -> "dict[str, tf.Tensor]":
    """Compares the ranking of all items with the targets.

    Items are ranked by score, ties by position (the lower first). Excluded items are no candidates. With T
    targets:

      recall_at_k = (targets among the first k) / min(k, T)
      ndcg_at_10  = sum of 1/log2(r + 1) over hits at rank r <= 10, divided by that sum over r = 1..min(10, T)
      mrr         = 1 / rank of the best target in the whole ranking, 0 where no target is a candidate

    A target that is not in the catalogue or is excluded counts in T and is never found. Without targets all
    are 0.

    Args:
      scores: float32 [B, N].
      targets: int64 [B, (T)], distinct positions in 0..N-1, or -1 for an item that is not in the catalogue.
      excluded: int64 [B, (E)], positions; -1 is left alone.

    Returns:
      `METRICS` -> float32 [B].
    """
    import tensorflow as tf

    shape = tf.shape(scores, tf.int64)
    count = shape[1]
    lowest = tf.constant(float("-inf"), tf.float32)
    out = tf.logical_or(_marked(excluded, shape), tf.math.is_nan(scores))
    scores = tf.where(out, lowest, scores)
    wanted = tf.where(_marked(targets, shape), scores, lowest)

    depth = tf.cast(tf.minimum(count, 100), tf.int32)
    _, top = tf.math.top_k(scores, depth)
    hits = tf.cast(tf.gather(wanted, top, batch_dims=1) > lowest, tf.float32)
    hits = tf.pad(hits, [[0, 0], [0, 100 - depth]])
    total = tf.cast(targets.row_lengths(), tf.float32)

    discount = 1.0 / (tf.math.log(tf.range(10, dtype=tf.float32) + 2.0) / tf.math.log(2.0))
    gain = tf.linalg.matvec(hits[:, :10], discount)
    ideal = tf.gather(tf.concat([[0.0], tf.cumsum(discount)], axis=0), tf.minimum(targets.row_lengths(), 10))

    best = tf.reduce_max(wanted, axis=1)
    place = tf.argmax(wanted, axis=1)
    ahead = tf.logical_or(
        scores > best[:, tf.newaxis],
        tf.logical_and(
            tf.equal(scores, best[:, tf.newaxis]), tf.range(count)[tf.newaxis, :] < place[:, tf.newaxis]
        ),
    )
    rank = 1.0 + tf.reduce_sum(tf.cast(ahead, tf.float32), axis=1)
    return {
        "recall_at_10": tf.math.divide_no_nan(tf.reduce_sum(hits[:, :10], axis=1), tf.minimum(total, 10.0)),
        "recall_at_100": tf.math.divide_no_nan(tf.reduce_sum(hits, axis=1), tf.minimum(total, 100.0)),
        "ndcg_at_10": tf.math.divide_no_nan(gain, ideal),
        "mrr": tf.where(best > lowest, 1.0 / rank, 0.0),
    }


def _marked(rows: "tf.RaggedTensor", shape: "tf.Tensor") -> "tf.Tensor":
    """bool [B, N], true at the given positions."""
    import tensorflow as tf

    flat = rows.flat_values
    where = tf.stack([rows.value_rowids(), flat], axis=1)
    where = tf.boolean_mask(where, flat >= 0)
    return tf.scatter_nd(where, tf.ones_like(where[:, 0], tf.int32), shape) > 0
