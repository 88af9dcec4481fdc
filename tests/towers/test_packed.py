"""A BERT over packed tokens is the BERT that KerasHub runs over padded ones: vectors and every gradient."""

import shutil

import numpy as np
import pytest
import tensorflow as tf

from tests.tiny_encoder import write_tiny_preset
from towers.encoder import load_encoder
from towers.packed import frozen_stages, pack, run_stages
from towers.settings import EncoderSettings

TOKENS = np.array([[2, 7, 9, 3, 0, 0], [2, 5, 3, 0, 0, 0], [2, 8, 6, 5, 4, 3], [2, 0, 0, 0, 0, 0]], np.int32)


@pytest.fixture(scope="module")
def preset(tmp_path_factory):
    return write_tiny_preset(tmp_path_factory.mktemp("packed") / "preset", layers=3)


def padded_vectors(encoder, tokens, padding_counts=False):
    """KerasHub's own forward, then the mean over tokens or, as a negative control, over padding too."""
    there = (tokens > 0).astype(np.int32)
    inputs = {"token_ids": tokens, "segment_ids": 0 * tokens, "padding_mask": there}
    states = encoder.backbone(inputs)["sequence_output"]
    weight = tf.cast(there | int(padding_counts), tf.float32)[..., tf.newaxis]
    return tf.math.l2_normalize(tf.reduce_sum(states * weight, 1) / tf.reduce_sum(weight, 1), -1)


def vectors_and_gradients(encoder, vectors):
    with tf.GradientTape() as tape:
        made = vectors()
        loss = tf.reduce_sum(made * tf.constant(np.random.default_rng(3).normal(size=made.shape), tf.float32))
    gradients = tape.gradient(loss, encoder.trainable_variables)
    return made, {
        variable.path: np.asarray(tf.convert_to_tensor(gradient))
        for variable, gradient in zip(encoder.trainable_variables, gradients, strict=True)
    }


@pytest.mark.parametrize("trainable", ["last_layers", "lora", "all"])
def test_packed_tokens_give_the_vectors_and_gradients_of_padded_ones(preset, trainable):
    encoder = load_encoder(EncoderSettings(preset=preset, trainable=trainable, last_layers=1), "float32")
    packed, got = vectors_and_gradients(encoder, lambda: encoder(TOKENS, training=True))
    padded, wanted = vectors_and_gradients(encoder, lambda: padded_vectors(encoder, TOKENS))
    np.testing.assert_allclose(packed, padded, atol=1e-6)
    assert got.keys() == wanted.keys() and got
    for path, gradient in wanted.items():
        np.testing.assert_allclose(got[path], gradient, atol=1e-5, err_msg=path)
    assert np.abs(padded_vectors(encoder, TOKENS, padding_counts=True) - packed).max() > 1e-2


def test_half_precision_and_first_token_pooling(preset):
    encoder = load_encoder(EncoderSettings(preset=preset), "float32")
    half = load_encoder(EncoderSettings(preset=preset), "mixed_float16")
    np.testing.assert_allclose(half(TOKENS), encoder(TOKENS), atol=5e-3)
    encoder.pooling = "cls"
    there = (TOKENS > 0).astype(np.int32)
    states = encoder.backbone({"token_ids": TOKENS, "segment_ids": 0 * TOKENS, "padding_mask": there})
    wanted = tf.math.l2_normalize(states["sequence_output"][:, 0], -1)
    np.testing.assert_allclose(encoder(TOKENS), wanted, atol=1e-6)


def test_stages_one_after_the_other_are_all_of_them(preset):
    backbone = load_encoder(EncoderSettings(preset=preset), "float32").backbone
    packed = pack(tf.constant(TOKENS > 0))
    tokens = tf.constant(TOKENS[TOKENS > 0])
    below = run_stages(backbone, tokens, packed, last=2)
    whole = run_stages(backbone, tokens, packed)
    np.testing.assert_array_equal(run_stages(backbone, below, packed, first=2), whole)
    assert np.abs(run_stages(backbone, below, packed, first=3) - whole).max() > 1e-3


@pytest.mark.parametrize("how, frozen", [("frozen", 4), ("last_layers", 3), ("lora", 1), ("all", 0)])
def test_dropout_is_off_below_what_is_trained(preset, tmp_path, how, frozen):
    shutil.copytree(preset, tmp_path / "preset")
    config = tmp_path / "preset" / "config.json"
    config.write_text(config.read_text().replace('"dropout": 0.0', '"dropout": 0.5'))
    settings = EncoderSettings(preset=str(tmp_path / "preset"), trainable=how, last_layers=1)
    backbone = load_encoder(settings, "float32").backbone
    assert frozen_stages(backbone) == frozen and backbone.dropout == 0.5
    packed = pack(tf.constant(TOKENS > 0))
    tokens = tf.constant(TOKENS[TOKENS > 0])
    below = run_stages(backbone, tokens, packed, last=frozen, training=True)
    np.testing.assert_array_equal(below, run_stages(backbone, tokens, packed, last=frozen))
    if frozen < 4:
        above = run_stages(backbone, below, packed, frozen, training=True)
        assert np.abs(above - run_stages(backbone, below, packed, frozen)).max() > 1e-2
