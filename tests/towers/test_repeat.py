"""The bonus of what was acted on before, against a plain NumPy float64 oracle."""

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.tiny_encoder import write_tiny_preset
from tests.towers import shop
from towers.metrics import evaluate_retrieval
from towers.optimizer import RowAdam
from towers.repeat import RepeatBonus, sum_of_candidates, sum_of_history

ITEMS = 9


def bonus_layer(seed=3):
    random = np.random.default_rng(seed)
    layer = RepeatBonus(ITEMS, [0.5, 1.0, 0.1])
    layer.build()
    for weight in (layer.log_weights, layer.log_loyalty, layer.log_power):
        weight.assign(random.normal(size=weight.shape))
    return layer


def oracle(layer, items, types, ages, has_text):
    """Item -> bonus of one request, entry by entry."""
    table, loyalty = np.asarray(layer.log_weights, float), np.asarray(layer.log_loyalty, float)
    total: dict[int, float] = {}
    for item, kind, age in zip(items, types, ages, strict=True):
        if item:
            weight = np.exp(table[kind, int(has_text), age] + loyalty[item])
            total[item] = total.get(item, 0.0) + weight
    power = np.exp(float(np.asarray(layer.log_power)))
    return {item: power * np.log1p(value) for item, value in total.items()}


histories = st.lists(
    st.tuples(st.integers(0, ITEMS - 1), st.integers(0, 2), st.integers(0, 12)), min_size=0, max_size=7
)


@settings(max_examples=60, deadline=None)
@given(histories, st.booleans())
def test_both_forms_agree_with_the_oracle(entries, has_text):
    layer = bonus_layer()
    items, types, ages = (
        tf.reshape(tf.constant([entry[n] for entry in entries], tf.int32), [1, -1]) for n in range(3)
    )
    weights = layer(items, types, ages, tf.constant([has_text]))
    expected = oracle(layer, *(column.numpy()[0].tolist() for column in (items, types, ages)), has_text)
    candidates = np.array([4, 1, 4, *range(1, ITEMS)], np.int32)
    got = layer.of_candidates(items, weights, candidates).numpy()[0]
    np.testing.assert_allclose(
        got, [expected.get(int(item), 0.0) for item in candidates], rtol=1e-4, atol=1e-5
    )
    of_history = layer.of_history(items, weights).numpy()[0]
    seen: set[int] = set()
    for item, value in zip(items.numpy()[0].tolist(), of_history, strict=True):
        first = item not in seen
        seen.add(item)
        assert value == pytest.approx(expected.get(item, 0.0) if first else 0.0, rel=1e-4, abs=1e-5)


def test_entries_of_one_item_add_up_and_those_of_others_do_not():
    items, weights = tf.constant([[3, 5, 3, 0]]), tf.constant([[1.0, 2.0, 4.0, 0.0]])
    np.testing.assert_allclose(sum_of_candidates(items, weights, tf.constant([3, 5, 7])), [[5.0, 2.0, 0.0]])
    np.testing.assert_allclose(sum_of_history(items, weights), [[5.0, 2.0, 0.0, 0.0]])


def test_gradient_agrees_with_finite_differences():
    layer = bonus_layer()
    items, types, ages = tf.constant([[3, 5, 3]]), tf.constant([[1, 2, 0]]), tf.constant([[1, 7, 0]])
    candidates = tf.constant([3, 5, 7])
    variables = [layer.log_weights, layer.log_loyalty, layer.log_power]

    def total():
        weights = layer(items, types, ages, tf.constant([False]))
        return tf.reduce_sum(layer.of_candidates(items, weights, candidates) * [1.0, 2.0, 4.0])

    with tf.GradientTape() as tape:
        value = total()
    gradients = tape.gradient(value, [variable.value for variable in variables])
    for variable, gradient in zip(variables, gradients, strict=True):
        dense = tf.convert_to_tensor(gradient).numpy().ravel()
        start = np.array(variable)
        for place in np.flatnonzero(dense)[:4]:
            step = np.zeros(start.size, np.float32)
            step[place] = 1e-2
            ends = []
            for sign in (1, -1):
                variable.assign(start + sign * step.reshape(start.shape))
                ends.append(float(total()))
            variable.assign(start)
            assert dense[place] == pytest.approx((ends[0] - ends[1]) / 2e-2, rel=2e-2, abs=2e-3)
        assert np.abs(dense).max() > 0


def test_what_was_bought_twice_comes_first_before_any_training():
    layer = RepeatBonus(40, [0.5, 1.0])
    layer.build()
    items = tf.constant([[7, 9, 7]])
    weights = layer(items, tf.ones_like(items), 3 * tf.ones_like(items), tf.constant([False]))
    bonus = layer.of_candidates(items, weights, tf.range(1, 40)).numpy()[0]
    assert (np.argsort(-bonus)[:2] + 1).tolist() == [7, 9] and np.count_nonzero(bonus) == 2
    with_text = layer(items, tf.ones_like(items), 3 * tf.ones_like(items), tf.constant([True]))
    assert np.asarray(with_text).max() < 0.01 * np.asarray(weights).max()  # a typed query decides


@pytest.fixture(scope="module")
def preset(tmp_path_factory):
    return write_tiny_preset(tmp_path_factory.mktemp("repeat") / "preset")


def first_history_item_ranks(model):
    """Rank of each request's newest history item among all items."""
    batch = next(shop.batches().stream())
    batch = batch | {"query_tokens": np.zeros_like(batch["query_tokens"])}
    kept = np.flatnonzero(batch["history_items"][:, 0])
    inputs = {name: tf.constant(value[kept]) for name, value in batch.items()}
    bonus = model.history_bonus(inputs).numpy()
    history = batch["history_items"][kept]
    ranks = evaluate_retrieval(
        model.embed_queries(inputs).numpy(),
        model.embed_catalogue_items(tf.range(1, shop.ITEMS + 1)).numpy(),
        [items[:1] - 1 for items in history],
        bonus=[(items[row > 0] - 1, row[row > 0]) for items, row in zip(history, bonus, strict=True)],
    ).mrr
    return 1.0 / ranks


def test_a_new_model_recommends_what_was_bought_and_needs_the_bonus_for_it(preset):
    model = shop.model(preset)
    assert first_history_item_ranks(model).mean() < 9  # histories hold up to 8 items
    model.repeat.log_weights.assign(np.full(model.repeat.log_weights.shape, -30.0))
    assert first_history_item_ranks(model).mean() > 15


def bonus_gradient(preset, **settings):
    """Largest slope of the loss by the bonus's weights, and what the towers made of one batch."""
    model = shop.model(preset, trainable="frozen", history_dropout=0.0, item_id_dropout=0.0, **settings)
    batch = {name: tf.constant(value) for name, value in next(shop.batches().stream()).items()}
    with tf.GradientTape() as tape:
        made = model(batch, training=True)
        loss = model.compute_loss(batch, y_pred=made)
    slope = tape.gradient(loss, model.repeat.log_weights.value)
    return np.abs(tf.convert_to_tensor(slope)).max(), made, model, batch


def test_a_made_up_query_comes_from_nobody_and_repeats_nothing(preset):
    always, *_ = bonus_gradient(preset, made_up_queries=1 - 1e-9)
    never, *_ = bonus_gradient(preset, made_up_queries=0.0)
    assert always == 0.0 < never


def test_hidden_types_and_ages_are_hidden_from_the_bonus_too(preset):
    _, made, model, batch = bonus_gradient(preset, history_unknown=1 - 1e-9)
    nothing = tf.zeros_like(batch["history_types"])
    has_text = tf.reduce_any(batch["query_tokens"] > 0, axis=1)
    unknown = model.repeat(batch["history_items"], nothing, nothing, has_text)
    np.testing.assert_array_equal(made["entry_weights"], unknown)
    _, known, *_ = bonus_gradient(preset, history_unknown=0.0)
    assert np.abs(known["entry_weights"].numpy() - unknown.numpy()).max() > 0.1


def test_training_learns_all_that_the_bonus_is_made_of(preset):
    model = shop.model(preset, trainable="frozen")
    before = [np.array(weight) for weight in model.repeat.trainable_variables]
    model.compile(optimizer=RowAdam(0.02))
    model.fit(shop.batches().dataset(), steps_per_epoch=5, verbose=0)
    for old, weight in zip(before, model.repeat.trainable_variables, strict=True):
        assert np.abs(np.asarray(weight) - old).max() > 0.01, weight.path
