"""Hard negatives: how they are found, and what they do to the loss, against NumPy float64 oracles."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.tiny_encoder import write_tiny_preset
from tests.towers import shop
from towers.catalogue import encode_texts
from towers.hard_negatives import HARD_NEGATIVES, HardNegatives, rank_below
from towers.loss import NO_SCORE, RetrievalLoss
from towers.made_up import make_up_queries
from towers.mining import mine_hard_negatives, mine_once, mining_step
from towers.settings import TrainingSettings

ALWAYS = 0.999999


@pytest.fixture(scope="module")
def preset(tmp_path_factory):
    return write_tiny_preset(tmp_path_factory.mktemp("hard") / "preset")


def ranked_below(queries, items, own, excluded, bonus, count, margin):
    """The scores that should be found, pair by pair, in float64."""
    expected = []
    for query, targets, out, (places, values) in zip(queries, own, excluded, bonus, strict=True):
        scores = items.astype(np.float64) @ query.astype(np.float64)
        scores[places] += values
        left_out = {*targets.tolist(), *out.tolist()}
        for target in targets:
            bar = scores[target] - margin if target >= 0 else -np.inf
            below = [s for item, s in enumerate(scores) if item not in left_out and s <= bar]
            expected.append(sorted(below, reverse=True)[:count])
    return expected


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 12), st.sampled_from([0.0, 0.5, 3.0]), st.integers(1, 4))
def test_the_best_below_the_margin_are_found(seed, count, margin, block):
    random = np.random.default_rng(seed)
    requests, rows = 5, 9
    # Eighths are exact in float32, so what stands just at the bar is the same in both.
    queries = random.integers(-8, 9, (requests, 3)).astype(np.float32) / 8
    items = random.integers(-8, 9, (rows, 3)).astype(np.float32) / 8
    own = [random.integers(-1, rows, random.integers(1, 4)) for _ in range(requests)]
    excluded = [np.unique(random.integers(-1, rows, random.integers(0, 4))) for _ in range(requests)]
    bonus = [(np.array([seed % rows]), np.array([0.5], np.float32)) for _ in range(requests)]
    found = rank_below(queries, items, own, excluded, bonus, min(count, rows), margin, block)
    expected = ranked_below(queries, items, own, excluded, bonus, min(count, rows), margin)
    pair = 0
    for request, targets in enumerate(own):
        scores = items @ queries[request]
        scores[seed % rows] += 0.5
        for _ in targets:
            got = found[pair][found[pair] >= 0]
            assert not set(got.tolist()) & {*targets.tolist(), *excluded[request].tolist()}
            assert len(set(got.tolist())) == len(got)
            np.testing.assert_allclose(scores[got], expected[pair])
            pair += 1
    assert pair == len(found) == len(expected)


def test_an_item_as_good_as_the_own_one_is_no_hard_negative():
    items = np.array([[1.0], [0.99], [0.5], [0.1]], np.float32)
    query, own, nothing = np.ones((1, 1), np.float32), [np.array([0])], [np.array([], int)]
    none = [(np.array([], int), np.array([], np.float32))]
    assert rank_below(query, items, own, nothing, none, 2, 0.2).tolist() == [[2, 3]]
    # Negative controls: without the margin it is one, and a known positive would be.
    assert rank_below(query, items, own, nothing, none, 2, 0.0).tolist() == [[1, 2]]
    assert rank_below(query, items, own, [np.array([2])], none, 2, 0.2).tolist() == [[3, -1]]


def test_the_loss_has_them_for_certain_among_what_is_sampled():
    random = np.random.default_rng(0)
    pairs, sampled, temperature = 4, 6, 0.5
    queries, candidates = (random.normal(size=(n, 3)).astype(np.float32) for n in (pairs, sampled))
    hard = (2 + random.normal(size=(pairs, 2))).astype(np.float32)
    hard[1, 1] = hard[2] = NO_SCORE
    slots = np.array([7.0, 0.2, 0.05, 1.0, 0.01, 3.0], np.float32)
    weights = np.array([0.2, 3.0, 1.0, 0.5], np.float32)
    mask, bonus = np.ones((pairs, sampled), bool), np.zeros((pairs, sampled), np.float32)
    mask[0, 3] = False

    def oracle(hard_slots):
        total, slope = 0.0, np.zeros(hard.shape)
        for p in range(pairs):
            scores = candidates.astype(np.float64) @ queries[p] / temperature
            own = scores[p]
            terms = np.where(mask[p], np.exp(scores - np.log(slots)), 0.0)
            terms[p] = np.exp(own)
            of_hard = np.exp(hard[p].astype(np.float64) / temperature) / hard_slots
            total += weights[p] * (np.log(terms.sum() + of_hard.sum()) - own)
            slope[p] = weights[p] * of_hard / (terms.sum() + of_hard.sum()) / temperature
        return total, slope

    variable = tf.Variable(hard)
    with tf.GradientTape() as tape:
        loss = RetrievalLoss(temperature)(queries, candidates, weights, slots, mask, bonus, variable)
    expected, slope = oracle(hard_slots=1.0)
    assert float(loss) == pytest.approx(expected, rel=1e-5)
    np.testing.assert_allclose(tape.gradient(loss, variable), slope, atol=1e-5)
    assert not slope[2].any() and slope[0].all()
    # Negative controls: corrected like a sampled candidate, and left out.
    assert abs(oracle(hard_slots=0.2)[0] - expected) > 0.1
    assert abs(oracle(hard_slots=np.inf)[0] - expected) > 0.1


def batch_with(columns=None):
    batch = {name: tf.constant(value) for name, value in next(shop.batches().stream()).items()}
    return batch | (columns or {})


def all_others(batch):
    """Every item of the catalogue as a hard negative of every pair, but for its own and what is known."""
    targets, known = batch["target_items"].numpy(), batch["known_positives"].numpy()
    hard = np.tile(np.arange(1, shop.ITEMS + 1, dtype=np.int32), (*targets.shape, 1))
    hard[hard == targets[:, :, np.newaxis]] = 0
    for row, positives in enumerate(known):
        hard[row][np.isin(hard[row], positives)] = 0
    return tf.constant(hard)


def a_model(preset, **options):
    keras.utils.set_random_seed(3)
    model = shop.model(
        preset, trainable="frozen", item_id_dropout=0, history_dropout=0, history_unknown=0, **options
    )
    model.repeat.log_loyalty.assign(np.random.default_rng(0).normal(size=shop.ITEMS + 1))
    return model


def loss_of(model, batch):
    return float(model.compute_loss(batch, y_pred=model(batch, training=True)))


@pytest.mark.parametrize("negatives", [0, 40])
def test_with_all_others_as_hard_negatives_the_loss_is_the_softmax_over_the_catalogue(preset, negatives):
    model, batch = a_model(preset, negatives=negatives), batch_with()
    hard = all_others(batch)
    got = loss_of(model, batch | {HARD_NEGATIVES: hard})
    items = model.embed_catalogue_items(tf.range(1, shop.ITEMS + 1)).numpy().astype(np.float64)
    queries = model.embed_queries(batch).numpy().astype(np.float64)
    weights = model._entry_weights(batch)
    bonus = model.repeat.of_candidates(batch["history_items"], weights, tf.range(1, shop.ITEMS + 1)).numpy()
    scores = queries @ items.T + bonus
    total = 0.0
    for row, targets in enumerate(batch["target_items"].numpy()):
        for place, target in enumerate(targets):
            if target:
                others = hard[row, place].numpy()
                logits = scores[row][[target - 1, *(others[others > 0] - 1)]]
                weight = float(batch["target_weights"][row, place])
                total += weight * (np.log(np.exp(logits).sum()) - logits[0])
    assert got == pytest.approx(total / float(tf.reduce_sum(batch["target_weights"])), rel=1e-4)
    assert bonus.max() > 0.5
    # Negative control: what the batch holds of a pair's hard negatives would be counted twice.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("towers.step_loss.is_member", lambda values, sets: tf.zeros([1, 1], tf.bool))
        assert abs(loss_of(model, batch | {HARD_NEGATIVES: hard}) - got) > 0.05


def test_views_have_hard_negatives_too_and_made_up_pairs_have_none(preset):
    batch = batch_with()
    hard = {HARD_NEGATIVES: all_others(batch)}
    for share, differ in ((0.0, True), (ALWAYS, False)):
        model = a_model(preset, made_up_queries=share)
        model.use_made_up_queries(make_up_queries(shop.catalogue(), 100, seed=4))
        plain, with_hard = ({}, hard)
        made = [model(batch | columns, training=True) for columns in (plain, with_hard)]
        made[0] = {name: made[1][name] for name in made[0]}  # the same draws
        found = [
            float(model.compute_loss(batch | columns, y_pred=values))
            for columns, values in zip((plain, with_hard), made, strict=True)
        ]
        assert (abs(found[0] - found[1]) > 0.05) == differ


def test_a_batch_brings_those_of_its_targets():
    batches = shop.batches()
    places = len(shop.requests().columns["target_items"].values)
    mined = HardNegatives(
        np.arange(1, places + 1, dtype=np.int32) * (np.arange(places) % 3 > 0),
        np.tile(np.arange(places + 1, dtype=np.int32)[:, np.newaxis], (1, 2)),  # its own place, as a mark
    )
    without = [next(batches.stream(number)) for number in range(2)]
    batches.use_hard_negatives(mined)
    for number, before in enumerate(without):
        batch = next(batches.stream(number))
        for name, values in before.items():
            np.testing.assert_array_equal(batch[name], values)
        marks = batch[HARD_NEGATIVES][:, :, 0]
        assert batch[HARD_NEGATIVES].shape == (*batch["target_items"].shape, 2)
        targets = shop.requests().columns["target_items"].values
        there = marks > 0
        np.testing.assert_array_equal(targets[marks[there] - 1], batch["target_items"][there])
        assert 0.5 < there.sum() / (batch["target_items"] > 0).sum() < 0.85
    element = next(iter(batches.dataset()))
    np.testing.assert_array_equal(element[HARD_NEGATIVES], next(batches.stream())[HARD_NEGATIVES])


def mined_with(preset, **options):
    keras.utils.set_random_seed(3)
    model = shop.model(preset, trainable="frozen")
    catalogue = shop.catalogue()
    catalogue = catalogue._replace(text=encode_texts(model.encoder, catalogue.tokens))
    found = mine_hard_negatives(
        model, catalogue, shop.requests(), shop.FEATURES, TrainingSettings(hard_negatives=3, **options)
    )
    return model, found


def test_mined_negatives_score_below_their_own_item_by_the_margin(preset, monkeypatch):
    model, mined = mined_with(preset, hard_negative_margin=0.5)
    requests = shop.requests()
    targets = requests.columns["target_items"]
    assert (mined.row == np.arange(1, len(targets.values) + 1)).all()
    batch = {name: column.padded(np.arange(requests.size)) for name, column in requests.columns.items()}
    vectors = model.embed_catalogue_items(tf.range(1, shop.ITEMS + 1)).numpy()
    weights = model._entry_weights(batch)
    candidates = tf.range(1, shop.ITEMS + 1)
    bonus = model.repeat.of_candidates(batch["history_items"], weights, candidates).numpy()
    scores = model.embed_queries(batch).numpy() @ vectors.T + bonus
    row = np.repeat(np.arange(requests.size), targets.lengths(np.arange(requests.size)))
    own = scores[row, targets.values - 1]
    hard = mined.items[1:]
    gap = own[:, np.newaxis] - scores[row[:, np.newaxis], np.maximum(hard, 1) - 1]
    assert gap[hard > 0].min() >= 0.5 - 1e-4
    assert (hard > 0).mean() > 0.5
    for place, request in enumerate(row):
        known = {*batch["known_positives"][request], *batch["target_items"][request]} - {0}
        assert not known & set(hard[place].tolist())
    # A run has no more than it can pay for: whole requests, evenly drawn.
    monkeypatch.setattr("towers.mining.MOST", 100)
    _, few = mined_with(preset, hard_negative_margin=0.5)
    assert 90 < (few.row > 0).sum() <= 100 and len(few.items) == (few.row > 0).sum() + 1
    assert set(few.items[few.row[few.row > 0]].ravel()) <= set(range(shop.ITEMS + 1))
    np.testing.assert_array_equal(few.items[few.row[few.row > 0]], hard[few.row > 0])


def test_a_run_that_goes_on_has_what_was_mined_before(tmp_path):
    first, second = (HardNegatives(np.array([n]), np.array([[0], [n]])) for n in (1, 2))
    assert mine_once(lambda: first, str(tmp_path / "here"), done=False, writes=True) is first
    kept = mine_once(lambda: second, str(tmp_path / "here"), done=True, writes=True)
    np.testing.assert_array_equal(kept.items, first.items)
    # Killed before it was past that step: mined again.
    assert mine_once(lambda: second, str(tmp_path / "here"), done=False, writes=True) is second
    assert mine_once(lambda: first, None, done=False, writes=True) is first
    assert (mining_step(301, warm=True), mining_step(301, warm=False)) == (0, 150)
