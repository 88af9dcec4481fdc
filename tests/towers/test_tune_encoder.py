"""Tuning the encoder before the towers: the loss of its pairs, what it changes and what it leaves, and what is kept of it."""

import numpy as np
import pytest
import tensorflow as tf

from tests.tiny_encoder import write_tiny_preset
from tests.towers import shop
from towers.datasets import Batches
from towers.encoder import load_encoder
from towers.examples import Column
from towers.query_texts import index_queries
from towers.settings import EncoderSettings, TrainingSettings
from towers.tune_encoder import (
    TextPairs,
    has_weights,
    load_weights,
    relative_slots,
    save_weights,
    tune_encoder,
)
from transform.errors import TandemError

ROWS = np.arange(1, shop.ITEMS + 1)


@pytest.fixture(scope="module")
def preset(tmp_path_factory):
    return write_tiny_preset(tmp_path_factory.mktemp("tuned") / "preset", hidden=64, layers=3)


def settings(preset, steps):
    return EncoderSettings(preset=preset, last_layers=1, tuning_steps=steps, tuning_batch_size=24)


def asked_by_number(rows=300):
    """Requests that say nothing in the item's own words: item n is asked for by token 51 - n."""
    items = np.random.default_rng(3).integers(1, shop.ITEMS + 1, rows).astype(np.int32)
    one = np.arange(rows + 1)
    columns = {name: Column(column.values[:0], one * 0) for name, column in shop.requests().columns.items()}
    return shop.requests()._replace(
        columns=columns
        | {
            "query_tokens": Column((51 - items).astype(np.int32), one),
            "target_items": Column(items, one),
            "target_weights": Column(np.ones(rows, np.float32), one),
        }
    )


def tuned(preset, requests, steps=100):
    training = TrainingSettings(encoder_learning_rate=0.003)
    strategy = tf.distribute.get_strategy()
    return tune_encoder(
        shop.FEATURES,
        settings(preset, steps),
        training,
        requests,
        shop.catalogue().tokens,
        strategy,
        "float32",
    )


@pytest.fixture(scope="module")
def weights(preset):
    return tuned(preset, asked_by_number())


def test_the_loss_is_the_weighted_cross_entropy_of_the_definition():
    random = np.random.default_rng(0)
    requests, queries = index_queries(shop.requests())
    query_vectors, item_vectors = (
        random.normal(size=(rows, 5)).astype(np.float32) * 0.2 for rows in (len(queries), shop.ITEMS + 1)
    )
    slots = random.uniform(0.1, 1, shop.ITEMS + 1).astype(np.float32)
    model = TextPairs(
        None,
        lambda rows, training: tf.gather(query_vectors, rows),
        lambda rows, training: tf.gather(item_vectors, rows),
        slots,
    )
    batch = next(Batches(requests, shop.FEATURES, 40, 3, seed=5).stream())
    inputs = {name: tf.constant(value) for name, value in batch.items()}
    row, place = np.nonzero(batch["target_items"])
    own = batch["target_items"][row, place]
    weight = batch["target_weights"][row, place].astype(np.float64)

    def by_numpy(mask_known):
        total = 0.0
        for p, (r, item) in enumerate(zip(row, own, strict=True)):
            scores = item_vectors[own].astype(np.float64) @ query_vectors[batch["query_text"][r, 0]] / 0.05
            known = set(batch["known_positives"][r]) - {0} if mask_known else set()
            terms = [
                np.exp(scores[c]) / slots[other]
                for c, other in enumerate(own)
                if c != p and other != item and other not in known
            ]
            total += weight[p] * (np.log(np.exp(scores[p]) + sum(terms)) - scores[p])
        return total / weight.sum()

    loss = float(model.compute_loss(inputs, y_pred=model(inputs, training=True)))
    assert loss == pytest.approx(by_numpy(True), rel=1e-4)
    assert abs(loss - by_numpy(False)) > 1e-3 * loss


def test_slots_average_one_over_candidates_as_they_are_drawn_and_keep_their_ratios():
    own = np.array([0.0, 0.2, 0.8, 0.0, 3.0])
    slots = relative_slots(own)
    assert np.average(slots, weights=own) == pytest.approx(1.0, rel=1e-6)
    assert slots[[2, 4]] / slots[1] == pytest.approx([4.0, 15.0], rel=1e-6)


def ranks(preset, weights):
    """Where each item stands among all for the token that asks for it, from 0."""
    encoder = load_encoder(settings(preset, 1), "float32", weights)
    items = encoder(shop.catalogue().tokens[ROWS]).numpy()
    scores = encoder((51 - ROWS)[:, np.newaxis]).numpy() @ items.T
    return (scores > np.diag(scores)[:, np.newaxis]).sum(axis=1)


def test_it_learns_which_texts_answer_which_queries(preset, weights):
    before, after = ranks(preset, None).mean(), ranks(preset, weights).mean()
    assert before > 15  # of 50: it cannot know
    assert after < 0.5 * before


def test_layers_below_the_last_ones_stay_as_published_and_the_same_run_gives_the_same(preset, weights):
    encoder = load_encoder(settings(preset, 1), "float32")
    assert not encoder.trainable_variables  # the towers' encoder is frozen
    published = encoder.backbone.weights
    moved = {
        weight.path.split("/")[0]
        for weight, now in zip(published, weights, strict=True)
        if not np.array_equal(weight, now)
    }
    assert moved == {"transformer_layer_2"}
    for one, other in zip(weights, tuned(preset, asked_by_number()), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)


def test_without_a_query_it_says_what_to_do(preset):
    requests = shop.requests()
    silent = Column(np.zeros(0, np.int32), np.zeros(requests.size + 1, np.int64))
    with pytest.raises(TandemError, match=r"none of 120 training rows has a query .* set encoder.tuning_st"):
        tuned(preset, requests._replace(columns=requests.columns | {"query_tokens": silent}))


def test_an_encoder_that_trains_with_the_towers_is_not_tuned_before_them(preset):
    with pytest.raises(ValueError, match="expected frozen"):
        EncoderSettings(preset=preset, trainable="last_layers", tuning_steps=3)


def test_weights_are_kept_whole_or_not_at_all(tmp_path, weights):
    assert not has_weights(tmp_path)
    with pytest.raises(TandemError, match=r"encoder.safetensors cannot be read .* train from scratch"):
        load_weights(tmp_path)
    save_weights(tmp_path / "state", weights)
    assert has_weights(tmp_path / "state") and len(list((tmp_path / "state").iterdir())) == 1
    for one, other in zip(weights, load_weights(tmp_path / "state"), strict=True):
        np.testing.assert_array_equal(one, other)
    path = tmp_path / "state" / "encoder.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(TandemError, match="cannot be read"):
        load_weights(tmp_path / "state")
