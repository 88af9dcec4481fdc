"""The training loss: softmax over sampled candidates, corrected for how they were sampled."""

from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_recommenders as tfrs

NO_SCORE = -1e30  # of a hard negative that is none; exp of it is 0, and its gradient


class RetrievalLoss:
    """Weighted cross-entropy of each pair's own item among the candidates.

    L = sum_p w_p (-s(p, own) + log(exp s(p, own) + sum_h exp s(p, h) + sum_c m(p, c) exp s(p, c) / n(c)))
    s(p, c) = (q_p . v_c + bonus(p, c)) / temperature

    n(c) is how many of a step's slots hold item c on average, so the sum estimates the one over the whole catalogue
    without bias; m = 0 for items known to be positives of the same request. The correction is that of Yi et al. 2019,
    "Sampling-bias-corrected neural modeling", but for the own item, which is there for certain and not by chance: its
    score stays as it is. (Corrected as well, it makes a frequent negative score high; a test shows it.) So it is with a
    pair's hard negatives h: they are there in each of its steps, so n(h) = 1, and m = 0 for what is drawn of them besides. The
    sum still estimates that over the catalogue, its largest terms exactly.

    The arithmetic is that of `tfrs.tasks.Retrieval`. It clips probabilities to [1e-6, 1], so n is passed relative to
    its largest value, which shifts all logits alike and leaves a softmax as it is.

    Args:
      temperature: scores are divided by it.
    """

    def __init__(self, temperature: float = 1.0) -> None:
        self._temperature = temperature
        # The task asks for len(tf.shape(x)), which only AutoGraph understands, and Keras 3 switches AutoGraph off.
        # Converting this one function takes half a second; all that a tf.function would convert, ten.
        self._call = tf.autograph.to_graph(tfrs.tasks.Retrieval.call, recursive=False)
        self._function = tf.function(self._compute, autograph=False)

    def _compute(
        self, queries: Any, candidates: Any, weights: Any, slots: Any, mask: Any, bonus: Any, hard: Any
    ) -> Any:
        own = tf.eye(tf.shape(queries)[0], tf.shape(candidates)[0], dtype=tf.bool)
        slots = tf.where(own, 1.0, slots[tf.newaxis, :])

        # The task knows inner products only, so what comes on top is added in its loss; one task a trace.
        @tf.autograph.experimental.do_not_convert
        def summed_cross_entropy(y_true: Any, y_pred: Any, sample_weight: Any) -> Any:
            logits = y_pred + bonus / self._temperature
            if hard is not None:
                shifted = hard / self._temperature + tf.math.log(tf.reduce_max(slots))
                logits = tf.concat([logits, shifted], 1)
                y_true = tf.concat([y_true, tf.zeros_like(shifted)], 1)
            return tf.reduce_sum(sample_weight * tf.nn.softmax_cross_entropy_with_logits(y_true, logits))

        return self._call(
            tfrs.tasks.Retrieval(loss=summed_cross_entropy, temperature=self._temperature),
            queries,
            candidates,
            sample_weight=weights,
            candidate_sampling_probability=slots / tf.reduce_max(slots),
            score_mask=mask,
            compute_metrics=False,
            compute_batch_metrics=False,
        )

    def __call__(
        self,
        queries: Any,
        candidates: Any,
        weights: Any,
        slots: Any,
        mask: Any,
        bonus: Any,
        hard: Any = None,
    ) -> Any:
        """Sums the loss over pairs.

        Args:
          queries: float32 [P, D], one row a pair.
          candidates: float32 [C, D], C >= P; row p is pair p's own item.
          weights: float32 [P].
          slots: float32 [C], above 0: how many of a step's candidates are this item, on average.
          mask: bool [P, C], false where the candidate is no negative of the pair; true on the diagonal.
          bonus: float32 [P, C], added to the inner products.
          hard: float32 [P, n], scores of each pair's hard negatives, bonus included, `NO_SCORE` where there is none;
            or None.

        Returns:
          float32 [].
        """
        return self._function(queries, candidates, weights, slots, mask, bonus, hard)


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


def expected_slots(own: np.ndarray, uniform: float) -> np.ndarray:
    """How many of a step's candidates are each item, on average.

    Candidates are the pairs' own items and `uniform` items drawn evenly from the catalogue of N:
    n(i) = own(i) + uniform / N.

    Args:
      own: float [N + 1], mean number of a step's pairs whose own item it is; row 0 unused.
      uniform: evenly drawn candidates a step.

    Returns:
      float32 [N + 1]; an item that is never sampled gets the smallest number there is, which nothing reads.
    """
    slots = own.astype(np.float64) + uniform / max(len(own) - 1, 1)
    slots[0] = 0.0
    positive = slots[slots > 0]
    return np.maximum(slots, positive.min() if len(positive) else 1.0).astype(np.float32)
