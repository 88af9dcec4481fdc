"""Tests of towers.encoder."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.tiny_encoder import write_tiny_preset
from towers.encoder import distinct_rows, load_encoder
from towers.settings import EncoderSettings

ROWS = np.array([[2, 7, 9, 3, 0, 0], [2, 5, 3, 0, 0, 0], [0, 0, 0, 0, 0, 0], [2, 7, 9, 3, 0, 0]])


@pytest.fixture(scope="module")
def preset(tmp_path_factory):
    return write_tiny_preset(tmp_path_factory.mktemp("encoder") / "preset")


def test_each_distinct_text_is_encoded_once_and_without_useless_padding(preset):
    encoder = load_encoder(EncoderSettings(preset=preset))
    shapes = []
    backbone = encoder.backbone

    def record(inputs, training=None):
        shapes.append(tuple(inputs["token_ids"].shape))
        return backbone(inputs, training=training)

    encoder.backbone = record
    vectors = np.asarray(encoder(ROWS))
    assert shapes == [(3, 4)]  # three distinct rows, the longest of 4 tokens
    np.testing.assert_array_equal(vectors[0], vectors[3])
    alone = np.asarray(encoder(ROWS[1:2, :3]))
    np.testing.assert_allclose(vectors[1:2], alone, atol=1e-6)  # neither neighbours nor padding matter


def test_rows_without_tokens_are_zero_and_break_no_gradient(preset):
    encoder = load_encoder(EncoderSettings(preset=preset, trainable="all"))
    with tf.GradientTape() as tape:
        vectors = encoder(ROWS)
        loss = tf.reduce_sum(vectors * np.arange(16, dtype=np.float32))
    gradients = tape.gradient(loss, encoder.trainable_variables)
    np.testing.assert_array_equal(vectors[2], np.zeros(16))
    assert gradients and all(np.isfinite(np.asarray(tf.convert_to_tensor(g))).all() for g in gradients)
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(encoder(ROWS[2:3]) ** 2)
    for gradient in tape.gradient(loss, encoder.trainable_variables):
        assert not np.asarray(tf.convert_to_tensor(gradient)).any()
    assert np.asarray(encoder(np.zeros((2, 0), np.int32))).tolist() == [[0.0] * 16] * 2


@pytest.mark.parametrize(
    "how, trained",
    [
        ("frozen", set()),
        ("last_layers", {"transformer_layer_1"}),
        ("all", {"token_embedding", "transformer_layer_0", "transformer_layer_1"}),
    ],
)
def test_trainable_says_which_layers_learn(preset, how, trained):
    encoder = load_encoder(EncoderSettings(preset=preset, trainable=how, last_layers=1))
    paths = [variable.path for variable in encoder.trainable_variables]
    layers = {path.split("/")[0] for path in paths}
    assert trained <= layers and (how == "all" or layers == trained)
    assert not any("pooled_dense" in path for path in paths)


def test_lora_starts_as_the_pretrained_encoder_and_trains_little(preset):
    plain = load_encoder(EncoderSettings(preset=preset))
    encoder = load_encoder(EncoderSettings(preset=preset, trainable="lora", lora_rank=2))
    np.testing.assert_allclose(np.asarray(encoder(ROWS)), np.asarray(plain(ROWS)), atol=1e-6)
    kernels = [variable.path for variable in encoder.trainable_variables if "kernel" in variable.path]
    assert len(kernels) == 8 and all("lora" in path for path in kernels)  # 2 layers x query, value x a, b


def test_frozen_encoder_ignores_dropout(preset):
    encoder = load_encoder(EncoderSettings(preset=preset))
    for layer in encoder.backbone._flatten_layers(include_self=False):
        if isinstance(layer, keras.layers.Dropout):
            layer.rate = 0.5
    np.testing.assert_array_equal(np.asarray(encoder(ROWS, training=True)), np.asarray(encoder(ROWS)))


def test_distinct_rows_come_in_order_of_first_appearance():
    rows, index = distinct_rows(tf.constant([[5, 0], [7, 2], [5, 0], [57, 2]]))
    assert rows.numpy().tolist() == [[5, 0], [7, 2], [57, 2]]
    assert index.numpy().tolist() == [0, 1, 0, 2]
