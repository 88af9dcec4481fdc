"""Pairs of a catalogue item and its own text: which items, how often, and which candidates are their negatives."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.tiny_encoder import write_tiny_preset
from tests.towers import shop
from towers.datasets import Batches
from towers.examples import Column, Requests
from towers.fit import prepare_model

ALWAYS = 1 - 1e-9


@pytest.fixture(scope="module")
def preset(tmp_path_factory):
    return write_tiny_preset(tmp_path_factory.mktemp("made_up") / "preset")


def only_ten_items():
    """Requests whose targets are items 1 to 10 of 50."""
    requests = shop.requests()
    targets = requests.columns["target_items"]
    few = Column((targets.values - 1) % 10 + 1, targets.offsets)
    return Requests(requests.columns | {"target_items": few})


def prepared(preset, share, negatives=0):
    keras.utils.set_random_seed(3)
    model = shop.model(preset, trainable="frozen", negatives=negatives, made_up_queries=share)
    batches = Batches(only_ten_items(), shop.FEATURES, 40, 3, seed=5)
    prepare_model(model, batches, shop.catalogue(), negatives)
    return model, batches


def batch_of(batches, number=0):
    return {name: tf.constant(value) for name, value in next(batches.stream(number)).items()}


@pytest.mark.parametrize("share, negatives", [(0.0, 0), (0.4, 0), (0.4, 20), (ALWAYS, 0)])
def test_slots_are_how_often_each_item_is_a_candidate(preset, share, negatives):
    model, batches = prepared(preset, share, negatives)
    embed = tf.function(lambda batch: model(batch, training=True)["items"], reduce_retracing=True)
    counts, steps = np.zeros(shop.ITEMS + 1), 150
    for number in range(steps):
        counts += np.bincount(embed(batch_of(batches, number)), minlength=shop.ITEMS + 1)
    sold, unsold = (counts[part].mean() / steps for part in (slice(1, 11), slice(11, None)))
    slots = np.asarray(model._tables["slots"])
    if share == ALWAYS:
        assert sold == pytest.approx(unsold, rel=0.1)  # drawn evenly, whatever is sold
    if share < ALWAYS:
        assert sold > 2 * unsold
    assert slots[1:11].mean() == pytest.approx(sold, rel=0.08)
    if unsold:
        assert slots[11:].mean() == pytest.approx(unsold, rel=0.08)


def test_what_its_row_is_known_to_lead_to_is_a_negative_of_a_made_up_pair(preset):
    everything = tf.tile(tf.range(1, shop.ITEMS + 1)[tf.newaxis], [40, 1])
    found = {}
    for share in (0.0, ALWAYS):
        model, batches = prepared(preset, share)
        batch = batch_of(batches)
        made = model(batch, training=True)
        known = everything[: len(batch["query_tokens"])]
        found[share] = [
            float(model.compute_loss(batch | {"known_positives": one}, y_pred=made))
            for one in (known, tf.zeros_like(known))
        ]
    assert found[ALWAYS][0] == found[ALWAYS][1] > 0.5
    assert found[0.0][0] == 0.0 < found[0.0][1]  # without made-up pairs, nothing is left to tell apart
