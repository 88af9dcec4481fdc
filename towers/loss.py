"""The training loss: softmax over sampled candidates, corrected for how they were sampled."""

from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_recommenders as tfrs


class RetrievalLoss:
    """Weighted cross-entropy of each pair's own item among the candidates.

    L = sum_p w_p (-s'(p, own) + log sum_c m(p, c) exp s'(p, c)),  s' = q_p . v_c / temperature - log p(c),
    m = 0 for items known to be positives of the same request, after Yi et al. 2019, "Sampling-bias-corrected neural
    modeling". The arithmetic is that of `tfrs.tasks.Retrieval`. Its logQ term clips p at 1e-6, so p is passed
    relative to the most frequent candidate's; a softmax does not change when a constant is added to its logits.

    Args:
      temperature: scores are divided by it.
    """

    def __init__(self, temperature: float = 1.0) -> None:
        self._task = tfrs.tasks.Retrieval(loss=_summed_cross_entropy, temperature=temperature)
        # The task asks for len(tf.shape(x)), which only AutoGraph understands, and Keras 3 switches AutoGraph off.
        # Converting this one function takes half a second; all that a tf.function would convert, ten.
        self._call = tf.autograph.to_graph(tfrs.tasks.Retrieval.call, recursive=False)
        self._function = tf.function(self._compute, autograph=False)

    def _compute(self, queries: Any, candidates: Any, weights: Any, probability: Any, mask: Any) -> Any:
        return self._call(
            self._task,
            queries,
            candidates,
            sample_weight=weights,
            candidate_sampling_probability=probability,
            score_mask=mask,
            compute_metrics=False,
            compute_batch_metrics=False,
        )

    def __call__(self, queries: Any, candidates: Any, weights: Any, probability: Any, mask: Any) -> Any:
        """Sums the loss over pairs.

        Args:
          queries: float32 [P, D], one row a pair.
          candidates: float32 [C, D], C >= P; row p is pair p's own item.
          weights: float32 [P].
          probability: float32 [C] in (0, 1], how often a candidate slot holds this item, relative to the most
            frequent one.
          mask: bool [P, C], false where the candidate is no negative of the pair; true on the diagonal.

        Returns:
          float32 [].
        """
        return self._function(queries, candidates, weights, probability, mask)


@tf.autograph.experimental.do_not_convert
def _summed_cross_entropy(y_true: Any, y_pred: Any, sample_weight: Any) -> Any:
    """What the task takes for its loss: sum_p w_p * cross-entropy of row p."""
    return tf.reduce_sum(sample_weight * tf.nn.softmax_cross_entropy_with_logits(y_true, y_pred))


def negatives_mask(own_items: Any, candidate_items: Any, known_positives: Any, row: Any) -> Any:
    """Tells for each pair which candidates are its negatives, its own slot included.

    Left out are all items its request is known to lead to, and further copies of its own item.

    Args:
      own_items: int32 [P].
      candidate_items: int32 [C]; candidates 0..P-1 are the pairs' own items.
      known_positives: int32 [R, K], items known to be positives of a request, 0 = none.
      row: int32 [P], each pair's request.

    Returns:
      bool [P, C]; true on the diagonal.
    """
    pairs = tf.shape(own_items)[0]
    known = tf.gather(is_member(candidate_items, known_positives), row)
    known |= tf.equal(own_items[:, tf.newaxis], candidate_items[tf.newaxis, :])
    own = tf.eye(pairs, tf.shape(candidate_items)[0], dtype=tf.bool)
    return own | ~known


def is_member(values: Any, sets: Any) -> Any:
    """Tells which values are in which set, in O(log K) each.

    [3, 5], [[5, 0], [1, 3]] -> [[False, True], [True, False]]

    Args:
      values: int32 [C], above 0.
      sets: int32 [R, K], 0 = none.

    Returns:
      bool [R, C].
    """
    rows = tf.shape(sets)[0]
    ordered = tf.sort(tf.pad(sets, [[0, 0], [0, 1]]), axis=1)  # the 0 keeps an empty set searchable
    wanted = tf.tile(values[tf.newaxis, :], [rows, 1])
    place = tf.searchsorted(ordered, wanted)
    found = tf.gather(ordered, tf.minimum(place, tf.shape(ordered)[1] - 1), batch_dims=1)
    return tf.equal(found, wanted)


def sampling_probability(expected: np.ndarray, uniform: float) -> np.ndarray:
    """How often a candidate slot holds each item, relative to the most frequent one.

    Candidates are the batch's own items and `uniform` items drawn evenly from the catalogue:
    expected count of item i in a step = batch_i + uniform / N.

    Args:
      expected: float [N + 1], mean number of slots a step that item i takes as a pair's own; row 0 unused.
      uniform: evenly drawn candidates a step.

    Returns:
      float32 [N + 1], largest value 1; an item that is never sampled gets the smallest frequency there is.
    """
    items = max(len(expected) - 1, 1)
    count = expected.astype(np.float64) + uniform / items
    count[0] = 0.0
    positive = count[count > 0]
    if not len(positive):
        return np.ones(len(expected), np.float32)
    return (np.maximum(count, positive.min()) / positive.max()).astype(np.float32)
