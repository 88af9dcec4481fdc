"""The loss against a plain NumPy float64 oracle; every term has a control that fails without it."""

import numpy as np
import pytest
import tensorflow as tf

from towers.loss import RetrievalLoss, expected_slots, is_member, negatives_mask

PAIRS, CANDIDATES, DIMENSION = 4, 6, 3


def softmax_oracle(queries, candidates, weights, slots, mask, bonus, temperature=1.0):
    """Loss and its gradients to queries and candidates, written out row by row."""
    queries, candidates = queries.astype(np.float64), candidates.astype(np.float64)
    loss, by_query, by_candidate = 0.0, np.zeros_like(queries), np.zeros_like(candidates)
    for pair in range(len(queries)):
        correction = np.log(slots.astype(np.float64))
        correction[pair] = 0.0
        logits = (candidates @ queries[pair] + bonus[pair]) / temperature - correction
        logits = np.where(mask[pair], logits, -np.inf)
        share = np.exp(logits - logits.max())
        share /= share.sum()
        loss -= weights[pair] * np.log(share[pair])
        slope = weights[pair] * (share - np.eye(len(candidates))[pair]) / temperature
        by_query[pair] = slope @ candidates
        by_candidate += np.outer(slope, queries[pair])
    return loss, by_query, by_candidate


class Case:
    def __init__(self, seed=0):
        random = np.random.default_rng(seed)
        self.queries = random.normal(size=(PAIRS, DIMENSION)).astype(np.float32)
        self.candidates = random.normal(size=(CANDIDATES, DIMENSION)).astype(np.float32)
        self.weights = np.ones(PAIRS, np.float32)
        self.slots = np.ones(CANDIDATES, np.float32)
        self.mask = np.ones((PAIRS, CANDIDATES), bool)
        self.bonus = np.zeros((PAIRS, CANDIDATES), np.float32)
        self.temperature = 1.0

    def terms(self):
        return self.weights, self.slots, self.mask, self.bonus

    def expected(self):
        return softmax_oracle(self.queries, self.candidates, *self.terms(), self.temperature)

    def actual(self):
        queries, candidates = tf.Variable(self.queries), tf.Variable(self.candidates)
        with tf.GradientTape() as tape:
            loss = RetrievalLoss(self.temperature)(queries, candidates, *self.terms())
        by_query, by_candidate = tape.gradient(loss, [queries, candidates])
        return float(loss), by_query.numpy(), by_candidate.numpy()

    def assert_agrees(self):
        for ours, theirs in zip(self.actual(), self.expected(), strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=2e-5, atol=2e-5)


@pytest.fixture
def case():
    return Case()


def assert_term_matters(case, plain):
    """Negative control: with the term, the loss is not the plain one."""
    assert abs(case.actual()[0] - plain) > 0.05


def test_plain_softmax(case):
    case.assert_agrees()


def test_temperature(case):
    plain = case.actual()[0]
    case.temperature = 0.3
    case.assert_agrees()
    assert_term_matters(case, plain)


def test_sampling_correction(case):
    plain = case.actual()[0]
    case.slots = np.array([7.0, 0.2, 0.05, 1.0, 0.01, 3.0], np.float32)
    case.assert_agrees()
    assert_term_matters(case, plain)


def test_sampling_correction_below_one_in_a_million(case):
    # TFRS clips at 1e-6. Counted in slots of a step and not in shares of all purchases, nothing comes near:
    # an item bought once in 10 million pairs takes 1e-4 slots of a step of 1,000.
    case.slots = np.array([2.0, 1e-4, 2e-4, 4.0, 2e-4, 3e-4], np.float32)
    case.assert_agrees()
    other = Case()
    other.slots = np.where(case.slots < 1e-3, 1e-4, case.slots).astype(np.float32)
    assert abs(case.actual()[0] - other.actual()[0]) > 0.05  # 1e-4 and 2e-4 are told apart


def test_masked_positives_are_no_negatives(case):
    plain = case.actual()[0]
    case.mask[0, 1:4] = False
    case.mask[2, 0] = False
    case.assert_agrees()
    assert_term_matters(case, plain)
    _, _, by_candidate = case.actual()
    only_first = Case()
    only_first.weights = np.array([1, 0, 0, 0], np.float32)
    only_first.mask = case.mask
    assert not only_first.actual()[2][1:4].any(), "no gradient reaches an item masked for the only pair"


def test_weights(case):
    plain = case.actual()[0]
    case.weights = np.array([0.0, 3.0, 1.0, 0.5], np.float32)
    case.assert_agrees()
    assert_term_matters(case, plain)


def test_bonus(case):
    plain = case.actual()[0]
    case.bonus = np.random.default_rng(2).uniform(0, 3, (PAIRS, CANDIDATES)).astype(np.float32)
    case.assert_agrees()
    assert_term_matters(case, plain)


def test_all_terms_together(case):
    case.bonus = np.random.default_rng(2).uniform(0, 3, (PAIRS, CANDIDATES)).astype(np.float32)
    case.temperature = 0.5
    case.weights = np.array([0.2, 3.0, 1.0, 0.5], np.float32)
    case.slots = np.array([7.0, 0.2, 0.05, 1.0, 0.01, 3.0], np.float32)
    case.mask[1, [0, 5]] = False
    case.assert_agrees()


def learned_scores(chance, correct, pairs=16, drawn=32, steps=1500):
    """Scores of items after training on pairs whose own item is drawn by `chance`, in NumPy float64.

    Mean of the second half; the true log chances, up to a constant, are what an unbiased loss ends with.
    """
    random = np.random.default_rng(0)
    items = len(chance)
    slots = pairs * chance + drawn / items
    scores, mean = np.zeros(items), np.zeros(items)
    for step in range(steps):
        own = random.choice(items, pairs, p=chance)
        candidates = np.concatenate([own, random.integers(0, items, drawn)])
        mask = (candidates != own[:, np.newaxis]) | np.eye(pairs, pairs + drawn, dtype=bool)
        logits = scores[candidates] - correct(np.tile(np.log(slots[candidates]), (pairs, 1)))
        logits = np.where(mask, logits, -np.inf)
        share = np.exp(logits - logits.max(axis=1, keepdims=True))
        share /= share.sum(axis=1, keepdims=True)
        slope = share.sum(axis=0)
        slope[:pairs] -= 1.0
        np.add.at(scores, candidates, -0.03 * slope)
        mean += scores * (step >= steps // 2)
    mean /= steps - steps // 2
    return mean - mean.mean()


def test_correction_recovers_the_true_ranking_under_skewed_sampling():
    chance = 1.0 / np.arange(1, 31) ** 1.2
    chance /= chance.sum()
    true = np.log(chance) - np.log(chance).mean()

    def error(correct):
        return abs(learned_scores(chance, correct) - true)[0]  # of the most frequent item

    def as_the_loss_does(correction):
        own = np.eye(*correction.shape, dtype=bool)
        return np.where(own, 0.0, correction)

    assert error(as_the_loss_does) < 0.2
    # Negative controls: no correction, and the own item corrected as well.
    assert error(np.zeros_like) > 0.3
    assert error(lambda correction: correction) > 0.3


def test_mask_leaves_out_known_positives_and_copies_of_the_own_item():
    own = np.array([7, 5, 7], np.int32)
    candidates = np.array([7, 5, 7, 9, 4], np.int32)  # the pairs' own, then two drawn
    known = np.array([[9, 7, 0], [0, 0, 0]], np.int32)  # request 0 is known to lead to 7 and 9
    row = np.array([0, 0, 1], np.int32)
    mask = negatives_mask(own, candidates, known, row).numpy().astype(int)
    assert mask.tolist() == [
        [1, 1, 0, 0, 1],  # own slot; 5; the other 7 is the same item; 9 is known; 4
        [0, 1, 0, 0, 1],  # 7 and 9 are known of request 0
        [0, 1, 1, 1, 1],  # request 1 knows nothing, but 7 is its own item
    ]


def test_membership_agrees_with_sets():
    random = np.random.default_rng(5)
    sets = random.integers(0, 12, (6, 5)).astype(np.int32)
    values = np.arange(1, 14, dtype=np.int32)
    expected = [[int(value) in set(row.tolist()) for value in values] for row in sets]
    assert is_member(values, sets).numpy().tolist() == expected
    assert not is_member(values, np.zeros((2, 0), np.int32)).numpy().any()


def test_slots_count_both_kinds_of_candidates():
    # 2 slots a step for item 1, 0.5 for item 2, none for item 3; 3 drawn evenly from 3 items: one each.
    np.testing.assert_allclose(expected_slots(np.array([9.0, 2.0, 0.5, 0.0]), 3)[1:], [3.0, 1.5, 1.0])
    # Nothing drawn: an item that is never sampled is treated as the rarest that is.
    np.testing.assert_allclose(expected_slots(np.array([0, 2.0, 0.5, 0.0]), 0)[1:], [2.0, 0.5, 0.5])
