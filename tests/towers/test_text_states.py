"""Keeping what frozen layers give changes neither the loss nor a gradient."""

import numpy as np
import pytest
import tensorflow as tf

from tests.tiny_encoder import write_tiny_preset
from tests.towers import shop
from towers.catalogue import encode_texts
from towers.datasets import Batches
from towers.draws import draws_of
from towers.made_up import make_up_queries
from towers.query_texts import index_queries
from towers.text_states import TextStates, states_fit

TOKENS = np.array([[0, 0, 0], [5, 6, 0], [7, 0, 0], [5, 6, 0], [1, 2, 3]], np.int32)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    preset = write_tiny_preset(tmp_path_factory.mktemp("states") / "preset", layers=3)
    return shop.model(preset, trainable="last_layers", negatives=6)


@pytest.fixture(scope="module")
def batch_and_queries():
    requests, queries = index_queries(shop.requests())
    batch = next(Batches(requests, shop.FEATURES, 40, 3, seed=5).stream())
    return {name: tf.constant(value) for name, value in batch.items()}, queries


def loss_and_gradients(model, batch):
    with (
        draws_of(1, 0, 0),
        tf.GradientTape() as tape,
    ):  # the same negatives, the same ids and entries left out
        loss = model.compute_loss(batch, y_pred=model(batch, training=True))
    variables = model.trainable_variables
    gradients = tape.gradient(loss, [variable.value for variable in variables])
    dense = [np.asarray(tf.convert_to_tensor(gradient)) for gradient in gradients]
    return float(loss), dict(zip([variable.path for variable in variables], dense, strict=True))


def test_loss_and_every_gradient_are_those_of_the_whole_encoder(model, batch_and_queries, monkeypatch):
    batch, queries = batch_and_queries
    whole_loss, whole = loss_and_gradients(model, batch)
    tokens = shop.catalogue().tokens
    items, asked = (TextStates(model.encoder, texts, "texts") for texts in (tokens, queries))
    monkeypatch.setattr(model, "_states", (items, asked))
    loss, kept = loss_and_gradients(model, batch)
    assert loss == pytest.approx(whole_loss, abs=1e-5)
    assert any("transformer_layer_2" in path for path in kept)
    for path, gradient in whole.items():
        np.testing.assert_allclose(kept[path], gradient, atol=1e-5, err_msg=path)
    # Negative control: other texts' states.
    wrong = TextStates(model.encoder, np.roll(tokens, 1, axis=0), "texts")
    monkeypatch.setattr(model, "_states", (wrong, asked))
    loss, other = loss_and_gradients(model, batch)
    path = next(path for path in kept if "transformer_layer_2" in path and path.endswith("kernel"))
    assert abs(loss - whole_loss) > 1e-3 and np.abs(other[path] - whole[path]).max() > 1e-4


def test_made_up_queries_are_encoded_from_their_states(model, batch_and_queries, monkeypatch):
    batch, queries = batch_and_queries
    made = make_up_queries(shop.catalogue(), 300, seed=4)
    model.use_made_up_queries(made)
    monkeypatch.setattr(model.settings, "__dict__", model.settings.__dict__ | {"made_up_queries": 0.5})
    whole_loss, whole = loss_and_gradients(model, batch)
    texts = (shop.catalogue().tokens, queries, np.pad(made.tokens, ((1, 0), (0, 0))))
    monkeypatch.setattr(model, "_states", tuple(TextStates(model.encoder, one, "texts") for one in texts))
    loss, kept = loss_and_gradients(model, batch)
    assert loss == pytest.approx(whole_loss, abs=1e-5)
    for path, gradient in whole.items():
        np.testing.assert_allclose(kept[path], gradient, atol=1e-5, err_msg=path)
    # Negative control: each query one row further.
    shifted = TextStates(model.encoder, np.roll(texts[2], 1, axis=0), "texts")
    monkeypatch.setattr(model, "_states", (*model._states[:2], shifted))
    assert abs(loss_and_gradients(model, batch)[0] - whole_loss) > 1e-3


def test_vectors_are_those_of_the_encoder_also_of_no_text(model):
    vectors = TextStates(model.encoder, TOKENS, "texts")(tf.constant([4, 0, 3, 1, 2, 4]))
    wanted = encode_texts(model.encoder, TOKENS)[[4, 0, 3, 1, 2, 4]]
    np.testing.assert_allclose(vectors, wanted, atol=1e-6)
    assert not np.asarray(vectors)[1].any()


def test_what_does_not_fit_is_said(model, monkeypatch, caplog):
    # 6 tokens of the distinct texts, 16 floats each: 384 bytes, twice that must be free.
    for free, fits in ((768, True), (767, False)):
        monkeypatch.setattr("towers.text_states.shutil.disk_usage", lambda _, free=free: _Usage(free))
        assert states_fit(model.encoder, TOKENS) is fits
    assert "frozen layers run in every step" in caplog.text


class _Usage:
    def __init__(self, free):
        self.free = free
