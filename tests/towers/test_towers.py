"""Tests of towers.towers."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.tiny_encoder import write_tiny_preset
from tests.towers import shop
from towers.catalogue import encode_texts
from towers.encoder import load_encoder
from towers.fit import prepare_model
from towers.history import HistoryEncoder, hide_types_and_ages
from towers.layer_rates import encoder_scales
from towers.optimizer import RowAdam
from towers.precision import choose_precision, with_loss_scaling
from towers.settings import EncoderSettings
from towers.text_projection import principal_directions


@pytest.fixture(scope="module")
def preset(tmp_path_factory):
    return write_tiny_preset(tmp_path_factory.mktemp("towers") / "preset")


@pytest.fixture(scope="module")
def batch():
    return {name: tf.constant(value) for name, value in next(shop.batches().stream()).items()}


def history(**options):
    encoder = HistoryEncoder(6, [0.5, 1.0, 0.1], 4, **options)
    encoder.build()
    encoder.near.assign(np.random.default_rng(1).normal(size=(6, 4)))
    return encoder


def test_history_is_the_weighted_sum_written_out():
    encoder = history()
    items, types, ages = [[3, 5, 3, 0]], [[1, 2, 0, 0]], [[1, 7, 0, 0]]
    got = np.asarray(encoder(tf.constant(items), tf.constant(types), tf.constant(ages)))[0]
    weight, near = np.asarray(encoder.weight, float), np.asarray(encoder.near, float)
    total = np.zeros(4)
    for item, kind, age in [(3, 1, 1), (5, 2, 7), (3, 0, 0)]:
        total += weight[kind, age] * near[item]
    np.testing.assert_allclose(got, 6.0 / np.sqrt(3 + 1) * total, rtol=1e-5)


def test_empty_history_and_unknown_items_are_zero():
    encoder = history()
    for items in ([[0, 0]], np.zeros((1, 0), np.int32)):
        items = tf.constant(items, tf.int32)
        np.testing.assert_array_equal(encoder(items, items, items), np.zeros((1, 4)))


def test_dropout_keeps_the_mean_and_is_off_outside_training():
    encoder = history(dropout=0.5)
    items = tf.constant(np.tile([[3, 4, 5]], (4000, 1)))
    types, ages = tf.ones_like(items), tf.ones_like(items)
    whole = np.asarray(encoder(items, types, ages))
    np.testing.assert_array_equal(whole[0], whole[1])
    trained = np.asarray(encoder(items, types, ages, training=True))
    np.testing.assert_allclose(trained.mean(axis=0), whole[0], atol=0.15)
    error = trained.std(axis=0) / np.sqrt(len(trained))
    np.testing.assert_array_less(np.abs(trained.mean(axis=0) - whole[0]), 5 * error)
    assert trained.std(axis=0).min() > 0.1


def test_types_and_ages_are_hidden_together_in_a_share_of_rows():
    types, ages = hide_types_and_ages(tf.ones([4000, 2], tf.int32), 2 * tf.ones([4000, 2], tf.int32), 0.25)
    types, ages = types.numpy(), ages.numpy()
    assert set(map(tuple, np.hstack([types, ages]).tolist())) == {(0, 0, 0, 0), (1, 1, 2, 2)}
    assert types[:, 0].mean() == pytest.approx(0.75, abs=0.05)


def test_item_that_was_never_sold_lives_on_row_zero(preset):
    model = shop.model(preset)
    tower = model.item_tower
    assert np.asarray(tower.seen)[-1] == 0.0 and np.asarray(tower.seen)[1] == 1.0  # counts 1 and 50
    text = tf.zeros([2, 16])
    features = {name: tf.zeros([2, 1], tf.int32) for name in ("category", "brand", "price")}
    vectors = np.asarray(tower(tf.constant([1, shop.ITEMS]), text, features))
    np.testing.assert_array_equal(vectors[1], np.asarray(tower.ids)[0])
    np.testing.assert_array_equal(vectors[0], np.asarray(tower.ids)[1])


def test_untrained_model_ranks_by_what_is_sold(preset):
    model = shop.model(preset)  # item n was sold 50 - n times
    items = np.asarray(model.item_tower.ids)
    scores = items @ np.asarray(model.query_tower.bias)
    share = np.log(np.arange(shop.ITEMS, 0, -1) - 1 + 0.5)
    np.testing.assert_allclose(scores[1:], share - share.max(), atol=1e-4)
    lengths = np.linalg.norm(items[:, 1:], axis=1)
    assert lengths[1:11].mean() > lengths[-10:].mean() * 1.3 and lengths[0] == 0.0


def test_without_item_ids_equal_texts_and_features_are_equal_items(preset):
    with_ids, without = (shop.model(preset, trainable="frozen", item_ids=ids) for ids in (True, False))
    rows, text = tf.range(1, 9), tf.ones([8, 16])
    features = {name: tf.ones([8, 1], tf.int32) for name in ("category", "brand", "price")}
    vectors = np.asarray(without.embed_items(rows, text, features, training=True))
    np.testing.assert_array_equal(vectors, np.tile(vectors[:1], (8, 1)))
    assert np.ptp(np.asarray(with_ids.embed_items(rows, text, features)), axis=0).max() > 1e-3


def test_vectors_are_float32_and_have_length_one_only_where_asked(preset, batch):
    for normalize in (False, True):
        model = shop.model(preset, policy="mixed_bfloat16", normalize=normalize)
        vectors = [model.embed_queries(batch), model.embed_catalogue_items(tf.range(1, 9))]
        assert all(vector.dtype == tf.float32 for vector in vectors)
        lengths = np.linalg.norm(np.concatenate(vectors), axis=1)
        lengths = lengths[lengths > 0]  # a request that says nothing has the zero vector
        assert np.allclose(lengths, 1.0, atol=1e-5) == normalize


def rank_of_own_text(preset, share):
    """Mean rank of an item when its own text is the query, after training on requests that say nothing of it."""
    keras.utils.set_random_seed(0)
    model = shop.model(preset, trainable="frozen", made_up_queries=share)
    model.compile(optimizer=RowAdam(0.02))
    model.fit(shop.batches().dataset(), steps_per_epoch=30, epochs=2, verbose=0)
    rows = tf.range(1, shop.ITEMS + 1)
    batch = next(shop.batches().stream())
    queries = model.embed_texts(batch, model.encoder(tf.constant(shop.catalogue().tokens[1:])))
    scores = np.asarray(queries) @ np.asarray(model.embed_catalogue_items(rows)).T
    return (scores > np.diag(scores)[:, np.newaxis]).sum(axis=1).mean() + 1


def test_made_up_queries_give_search_to_a_shop_without_a_query_log(preset):
    # 50 items: by chance the mean rank is 25.5.
    assert rank_of_own_text(preset, 0.5) < 10
    assert rank_of_own_text(preset, 0.0) > 15, "negative control: without them the text means nothing"


@pytest.mark.parametrize("policy", ["float32", "mixed_float16"])
def test_training_lowers_the_loss_under_every_policy(preset, policy):
    keras.utils.set_random_seed(0)
    model = shop.model(preset, policy, negatives=6)
    optimizer = RowAdam(0.02, encoder_scales(model.encoder, 0.1, 1.0))
    model.compile(optimizer=with_loss_scaling(optimizer, policy))
    fit = model.fit(shop.batches().dataset(), steps_per_epoch=15, epochs=3, verbose=0)
    # 50 items alike: log 50 = 3.9 at the start; the rows are random, so what is learned is learned by heart.
    assert fit.history["loss"][-1] < fit.history["loss"][0] - 0.2
    assert 0.0 < fit.history["masked"][-1] < 0.5
    assert all(np.isfinite(np.asarray(v)).all() for v in model.trainable_variables)
    assert model.item_tower.ids.dtype == "float32"


def test_overflow_halves_the_loss_scale_and_skips_the_step(preset):
    model = shop.model(preset, "mixed_float16")
    scaled = with_loss_scaling(RowAdam(0.02), "mixed_float16")
    model.compile(optimizer=scaled)
    scaled.build(model.trainable_variables)
    scaled.dynamic_scale.assign(1e38)
    before = np.asarray(model.item_tower.ids)
    model.fit(shop.batches().dataset(), steps_per_epoch=1, epochs=1, verbose=0)
    assert float(np.asarray(scaled.dynamic_scale)) == pytest.approx(0.5e38, rel=1e-3)
    np.testing.assert_array_equal(np.asarray(model.item_tower.ids), before)


def test_row_adam_is_adam_on_the_rows_it_sees():
    random = np.random.default_rng(2)
    start = random.normal(size=(5, 3)).astype(np.float32)
    by_row, dense = keras.Variable(start), keras.Variable(start)
    ours, adam = RowAdam(0.1), keras.optimizers.Adam(0.1)
    for _ in range(3):
        values = random.normal(size=(3, 3)).astype(np.float32)
        rows = tf.IndexedSlices(tf.constant(values), tf.constant([4, 1, 4]))  # row 4 twice: summed
        whole = np.zeros((5, 3), np.float32)
        np.add.at(whole, [4, 1, 4], values)
        ours.apply([rows], [by_row])
        adam.apply([tf.constant(whole)], [dense])
    np.testing.assert_allclose(np.asarray(by_row), np.asarray(dense), atol=1e-5)
    np.testing.assert_array_equal(np.asarray(by_row)[[0, 2, 3]], start[[0, 2, 3]])


def test_row_adam_leaves_unseen_rows_where_adam_would_drift():
    start = np.ones((3, 2), np.float32)
    by_row, dense = keras.Variable(start), keras.Variable(start)
    ours, adam = RowAdam(0.1), keras.optimizers.Adam(0.1)
    for row in (0, 1):
        gradient = np.zeros((3, 2), np.float32)
        gradient[row] = 1.0
        ours.apply([tf.IndexedSlices(tf.ones([1, 2]), tf.constant([row]))], [by_row])
        adam.apply([tf.constant(gradient)], [dense])
    assert np.asarray(by_row)[0, 0] == pytest.approx(0.9, abs=1e-5)  # one step of 0.1, no second
    assert np.asarray(dense)[0, 0] < 0.89  # negative control: momentum moves row 0 once more


def test_catalogue_texts_are_encoded_once_each_whatever_the_order(preset):
    encoder = load_encoder(EncoderSettings(preset=preset))
    tokens = shop.catalogue().tokens.copy()
    tokens[3], tokens[5, 2:], tokens[7] = 0, 0, tokens[9]
    done = []
    vectors = encode_texts(
        encoder, tokens, batch_tokens=40, progress=lambda n, total: done.append((n, total))
    )
    np.testing.assert_allclose(vectors, np.asarray(encoder(tokens)), atol=1e-5)
    assert done[-1][0] == done[-1][1] == len(np.unique(tokens, axis=0)) - 1  # one row has no text
    assert not vectors[3].any()


def test_principal_directions_keep_inner_products_best():
    random = np.random.default_rng(4)
    low = random.normal(size=(30, 3)) @ random.normal(size=(3, 8))  # three dimensions in eight
    kept = low @ principal_directions(low, 3)
    np.testing.assert_allclose(kept @ kept.T, low @ low.T, atol=1e-4)
    assert principal_directions(low, 11).shape == (8, 11)


def test_auto_precision_follows_the_hardware():
    assert choose_precision("auto", 0).policy == "float32"
    assert choose_precision("auto", 1).policy == "mixed_float16"
    assert choose_precision("mixed_bfloat16", 0).policy == "mixed_bfloat16"


@pytest.mark.parametrize("trainable", ["frozen", "last_layers"])
def test_projections_start_where_texts_differ_and_stay_in_a_warm_start(preset, trainable):
    model, catalogue = shop.model(preset, trainable=trainable), shop.catalogue()
    text = encode_texts(model.encoder, catalogue.tokens)
    if trainable == "frozen":
        catalogue = catalogue._replace(text=text)
    before = np.array(model.item_tower.text.kernel)
    prepare_model(model, shop.batches(), catalogue, 0, is_new=False)
    np.testing.assert_array_equal(model.item_tower.text.kernel, before)
    prepare_model(model, shop.batches(), catalogue, 0)
    wanted = principal_directions(text[1:], model.query_tower.dimension - 1)
    for tower in (model.query_tower, model.item_tower):
        kernel = np.asarray(tower.text.kernel)
        assert not kernel[:, 0].any()
        np.testing.assert_allclose(kernel[:, 1:] @ kernel[:, 1:].T, wanted @ wanted.T, atol=1e-3)
