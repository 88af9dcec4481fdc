"""The lexical view against NumPy, its start as TF-IDF, and what a made-up query keeps."""

import numpy as np
import pytest
import tensorflow as tf

from tests.tiny_encoder import write_tiny_preset
from tests.towers import shop
from towers.build import build_model
from towers.encoder import load_encoder
from towers.lexical_view import LexicalView
from towers.loss import expected_slots
from towers.made_up import make_up_queries
from towers.settings import EncoderSettings, ModelSettings

BUCKETS = 64


def view(dimension=6, seed=0):
    made = LexicalView(BUCKETS, dimension)
    made.build()
    random = np.random.default_rng(seed)
    made.query_weights.assign(random.uniform(0.2, 1, BUCKETS))
    made.item_weights.assign(random.uniform(0.2, 1, BUCKETS))
    return made


def texts(rows=9, width=7, seed=1):
    random = np.random.default_rng(seed)
    made = random.integers(1, BUCKETS, (rows, width))
    made[random.random(made.shape) < 0.4] = 0
    made[3] = 0
    made[5, :3] = made[6, 1:3] = 7  # a word that is repeated
    return made.astype(np.int32)


def by_numpy(lexemes, table, weights):
    total = np.zeros((len(lexemes), table.shape[1]))
    for row, text in enumerate(lexemes):
        for one in np.unique(text[text > 0]):  # a word that is repeated says no more
            total[row] += np.float64(weights[one]) * table[one]
    return total / np.maximum(np.linalg.norm(total, axis=1, keepdims=True), 1e-12)


def test_both_sides_are_the_weighted_sums_of_the_definition():
    made, lexemes = view(), texts()
    table = np.asarray(made.table, np.float64)
    queries = by_numpy(lexemes, table, np.asarray(made.query_weights)) * float(made.scale.numpy())
    items = by_numpy(lexemes, table, np.asarray(made.item_weights))
    np.testing.assert_allclose(made.of_queries(tf.constant(lexemes)), queries, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(made.of_items(tf.constant(lexemes)), items, rtol=1e-5, atol=1e-5)
    assert not np.asarray(made.of_queries(tf.constant(lexemes)))[3].any()
    assert np.abs(made.of_items(tf.constant(lexemes)) - queries).max() > 0.1  # the sides differ


def test_gradient_agrees_with_differences_and_touches_only_rows_in_use():
    made, lexemes = view(), tf.constant(texts())
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(tf.sin(made.of_items(lexemes)))
    slices, weights = tape.gradient(loss, [made.table.value, made.item_weights.value])
    assert set(np.asarray(slices.indices)) <= set(texts().ravel()) - {0}
    gradient = np.asarray(tf.convert_to_tensor(weights))
    table, before = np.asarray(made.table, np.float64), np.asarray(made.item_weights, np.float64)
    for one in sorted(set(texts().ravel()) - {0})[:5]:
        step = np.zeros(BUCKETS)
        step[one] = 1e-5
        up, down = (np.sin(by_numpy(texts(), table, before + sign * step)).sum() for sign in (1, -1))
        assert gradient[one] == pytest.approx((up - down) / 2e-5, rel=1e-3, abs=1e-4)


def test_starts_as_the_root_of_inverse_document_frequency():
    made = view()
    made.start_from(np.array([[1, 1, 2], [1, 3, 0], [1, 0, 0], [4, 0, 0]]))
    weights = np.asarray(made.item_weights)
    inverse = np.log(5 / (np.array([0, 3, 1, 1, 1]) + 1))
    np.testing.assert_allclose(weights[1:5], np.sqrt(inverse[1:] / np.log(5)), rtol=1e-5)
    np.testing.assert_array_equal(weights, np.asarray(made.query_weights))


def test_wide_random_rows_rank_as_tf_idf_does():
    made = LexicalView(BUCKETS, 4096)
    made.build()
    lexemes = texts(rows=20, width=9)
    made.start_from(lexemes)
    weights = np.asarray(made.item_weights, np.float64)
    counts = np.zeros((20, BUCKETS))
    for row, text in enumerate(lexemes):
        counts[row, text[text > 0]] = 1
    exact = (counts * weights**2) @ counts.T / np.maximum((counts * weights**2).sum(1), 1e-6) ** 0.5
    got = (
        np.asarray(made.of_queries(tf.constant(lexemes))) @ np.asarray(made.of_items(tf.constant(lexemes))).T
    )
    there = np.flatnonzero(lexemes.any(axis=1))
    for row in there:
        assert np.corrcoef(exact[row, there], got[row, there])[0, 1] > 0.9


@pytest.fixture(scope="module")
def preset(tmp_path_factory):
    return write_tiny_preset(tmp_path_factory.mktemp("lexical") / "preset")


@pytest.fixture(scope="module")
def features():
    return shop.FEATURES.model_copy(update={"lexical_buckets": BUCKETS})


def lexical_model(preset, features, **settings):
    encoder = load_encoder(EncoderSettings(preset=preset, trainable="last_layers", last_layers=1), "float32")
    wanted = ModelSettings(dimension=8, lexical_dimension=3, **({"made_up_queries": 0.0} | settings))
    built = build_model(features, wanted, encoder, shop.vocabularies())
    random = np.random.default_rng(4)
    lexemes = random.integers(1, BUCKETS, (shop.ITEMS + 1, 6)).astype(np.int32)
    lexemes[0] = 0
    words = np.tile([1, 1, 2, 3, 3, 4], (shop.ITEMS + 1, 1)).astype(np.int32) * (lexemes > 0)
    catalogue = shop.catalogue()._replace(lexemes=lexemes, lexeme_words=words)
    built.use_catalogue(catalogue, expected_slots(shop.batches().own_slots(shop.ITEMS + 1), 0))
    if wanted.made_up_queries:
        built.use_made_up_queries(make_up_queries(catalogue, 500, seed=6))
    return built


def a_batch(rows):
    batch = {name: tf.constant(value) for name, value in next(shop.batches().stream()).items()}
    return batch | {"query_lexemes": tf.constant(texts(len(batch["query_tokens"]), 5, seed=rows))}


def test_loss_is_the_joint_one_and_a_share_of_each_view_alone(preset, features):
    batch = a_batch(2)
    output = lexical_model(preset, features)(batch, training=False)
    parts = {
        share: float(lexical_model(preset, features, view_loss=share).compute_loss(x=batch, y_pred=output))
        for share in (0.0, 0.5)
    }
    assert output["queries"].shape[1] == 8 and output["vectors"].shape[1] == 8

    def alone(part):
        zeroed = dict(output)
        keep = np.zeros(8, np.float32)
        keep[part] = 1
        zeroed["queries"] = output["queries"] * keep
        zeroed["weights"] = output["weights"] * tf.cast(output["has_text"], tf.float32)
        zeroed["entry_weights"] = tf.zeros_like(output["entry_weights"])  # no bonus
        model = lexical_model(preset, features, view_loss=0.0)
        return float(model.compute_loss(x=batch, y_pred=zeroed)) * float(
            tf.reduce_sum(zeroed["weights"]) / tf.reduce_sum(output["weights"])
        )

    towers, lexical = alone(slice(0, 5)), alone(slice(5, 8))
    assert towers != pytest.approx(lexical, rel=0.02)
    assert parts[0.5] == pytest.approx(parts[0.0] + 0.5 * (towers + lexical), rel=1e-4)


def test_queries_without_a_text_have_no_lexical_part(preset, features):
    model = lexical_model(preset, features)
    batch = a_batch(3)
    got = np.asarray(model.embed_queries(batch))
    empty = ~(np.asarray(batch["query_lexemes"]) > 0).any(axis=1)
    assert empty.any() and not empty.all()
    np.testing.assert_array_equal((got[:, 5:] == 0).all(axis=1), empty)


def test_made_up_queries_train_the_lexical_view(preset, features):
    batch = a_batch(2) | {"query_lexemes": tf.zeros_like(a_batch(2)["query_lexemes"])}
    found = []
    for share in (0.0, 0.999):
        model = lexical_model(preset, features, made_up_queries=share)
        with tf.GradientTape() as tape:
            output = model(batch, training=True)
            loss = model.compute_loss(x=batch, y_pred=output)
        gradient = tf.convert_to_tensor(tape.gradient(loss, model.lexical.scale.value))
        found.append(abs(float(gradient)))
    assert found[0] == 0.0 and found[1] > 0
