"""A whole model goes on from a state under another vocabulary: by key nothing moves, by position everything would."""

import numpy as np
import pytest
import tensorflow as tf

from tests.tiny_encoder import write_tiny_preset
from tests.towers import shop
from towers.build import build_model, keyed_variables
from towers.catalogue import Catalogue
from towers.encoder import load_encoder
from towers.fit import compile_model, fit
from towers.loss import expected_slots
from towers.settings import EncoderSettings, ModelSettings, TrainingSettings
from towers.snapshot import restore_snapshot, take_snapshot
from towers.state import carry_state
from towers.vocabulary import Vocabulary

SETTINGS = ModelSettings(dimension=8, made_up_queries=0.0)
STILL = TrainingSettings(warm_start_learning_rate=0.0, encoder_learning_rate=0.0)
BEFORE = [f"i{n}" for n in range(shop.ITEMS)]
# Reversed, two items gone, three new ones among the others.
AFTER = ["new0", *reversed(BEFORE[2:30]), "new1", "new2", *BEFORE[30:]]
UNSEEN = ("i7", "i40")  # in the catalogue from the start, but targets only of the second run


@pytest.fixture(scope="module")
def preset(tmp_path_factory):
    return write_tiny_preset(tmp_path_factory.mktemp("warm") / "preset")


def make(preset, keys, catalogue, unseen=()):
    counts = np.array([1 if key in unseen else 3 for key in keys])
    vocabularies = shop.vocabularies() | {"item_id": Vocabulary("item_id", tuple(keys), counts)}
    encoder = load_encoder(EncoderSettings(preset=preset, trainable="frozen"), "float32")
    model = build_model(shop.FEATURES, SETTINGS, encoder, vocabularies)
    model.use_catalogue(catalogue, expected_slots(np.ones(len(keys) + 1), 0))
    return model, vocabularies


def rows_of(keys, wanted):
    place = {key: row for row, key in enumerate(keys, start=1)}
    return np.array([place.get(key, 0) for key in wanted])


def reordered(catalogue):
    """The same items' features, by the rows of AFTER; a new item takes those of row 1."""
    rows = np.maximum(rows_of(BEFORE, AFTER), 1)
    return Catalogue(
        np.concatenate([catalogue.tokens[:1], catalogue.tokens[rows]]),
        {name: np.concatenate([table[:1], table[rows]]) for name, table in catalogue.features.items()},
    )


@pytest.fixture(scope="module")
def trained(preset):
    """A model after 20 steps, its state, and a batch of its requests."""
    model, vocabularies = make(preset, BEFORE, shop.catalogue(), UNSEEN)
    compile_model(model, TrainingSettings(learning_rate=0.05), "float32", 20, 0)
    fit(model, shop.batches(), 20, [])
    state = take_snapshot(model, {}, vocabularies, keyed_variables(model, shop.FEATURES), 20)
    return model, state, next(shop.batches().stream())


def vectors(model, keys, batch):
    """Items both vocabularies know, by key; and requests, with their bonus."""
    kept = [key for key in BEFORE if key in AFTER]
    items = model.embed_catalogue_items(tf.constant(rows_of(keys, kept), tf.int32)).numpy()
    inputs = {name: tf.constant(value) for name, value in batch.items()}
    return items, model.embed_queries(inputs).numpy(), model.history_bonus(inputs).numpy()


def warm(preset, trained, carry):
    """Goes on under AFTER at learning rate 0 for 3 steps."""
    _, state, batch = trained
    keys_before = np.array(["", *BEFORE])
    moved = {
        name: rows_of(AFTER, keys_before[batch[name]].ravel()).reshape(batch[name].shape).astype(np.int32)
        for name in ("history_items", "target_items", "known_positives")
    }
    # Items that are gone leave no trace: requests that knew them are not compared.
    gone = ((moved["history_items"] == 0) & (batch["history_items"] > 0)).any(axis=1)
    model, vocabularies = make(preset, AFTER, reordered(shop.catalogue()))
    compile_model(model, STILL, "float32", 3, state.step)
    restore_snapshot(model, carry(state, vocabularies))
    data = tf.data.Dataset.from_tensors({name: tf.constant(value) for name, value in (batch | moved).items()})
    model.fit(data.repeat(), steps_per_epoch=3, verbose=0)
    assert int(model.optimizer.iterations) == state.step + 3
    items, queries, bonus = vectors(model, AFTER, batch | moved)
    return items, queries[~gone], bonus[~gone], gone


def by_position(state, vocabularies):
    """The control: row n stays row n."""
    old = state.vocabularies["item_id"]
    keys = vocabularies["item_id"].keys[: len(old.keys)]
    return carry_state(
        state._replace(vocabularies=state.vocabularies | {"item_id": old._replace(keys=keys)}), vocabularies
    )


def test_learning_rate_zero_changes_no_vector(preset, trained):
    model, _, batch = trained
    items, queries, bonus, gone = warm(preset, trained, carry_state)
    expected_items, expected_queries, expected_bonus = vectors(model, BEFORE, batch)
    np.testing.assert_array_equal(items, expected_items)
    np.testing.assert_allclose(queries, expected_queries[~gone], atol=1e-6)  # sums of another order
    np.testing.assert_allclose(bonus, expected_bonus[~gone], atol=1e-6)
    assert len(queries) > 3 and np.abs(bonus).max() > 0.1


def test_an_item_learnt_for_the_first_time_starts_as_the_unknown_item_it_was(preset, trained):
    first, state, _ = trained
    model, vocabularies = make(preset, AFTER, reordered(shop.catalogue()))
    compile_model(model, STILL, "float32", 3, state.step)
    carried = carry_state(state, vocabularies)
    restore_snapshot(model, carried)
    rows = rows_of(AFTER, UNSEEN)
    ids = np.asarray(model.item_tower.ids)
    np.testing.assert_array_equal(ids[rows], ids[[0, 0]])
    assert np.asarray(model.item_tower.seen)[rows].all()
    # Its own row has held something else all the time, which no vector was made of.
    assert np.abs(carried.variables[first.item_tower.ids.path][rows] - ids[0]).max(axis=1).min() > 1e-3


def test_by_position_every_vector_would_change(preset, trained):
    model, _, batch = trained
    items, *_ = warm(preset, trained, by_position)
    expected, *_ = vectors(model, BEFORE, batch)
    assert (np.abs(items - expected).max(axis=1) > 1e-3).mean() > 0.9
