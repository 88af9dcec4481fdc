"""Made-up queries: which words of which items, how often, and which candidates are their negatives."""

from collections import Counter

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.tiny_encoder import write_tiny_preset
from tests.towers import shop
from towers.catalogue import Catalogue, encode_texts
from towers.datasets import Batches
from towers.examples import Column, Requests
from towers.fit import prepare_model
from towers.made_up import make_up_queries

ALWAYS = 1 - 1e-9


@pytest.fixture(scope="module")
def preset(tmp_path_factory):
    return write_tiny_preset(tmp_path_factory.mktemp("made_up") / "preset")


def a_catalogue(words_of_items):
    """Items whose words are numbers: word 7 has the tokens 700 and 701, and the lexemes 70 and 71."""
    longest = max(1, max(map(len, words_of_items)))
    parts, numbers, whole, lexemes = (
        np.zeros((len(words_of_items) + 1, width), np.int32)
        for width in (2 * longest, 2 * longest, 2 * longest + 2, 2 * longest)
    )
    for row, words in enumerate(words_of_items, start=1):
        tokens = [token for word in words for token in (100 * word, 100 * word + 1)]
        parts[row, : len(tokens)] = tokens
        lexemes[row, : len(tokens)] = [lexeme for word in words for lexeme in (10 * word, 10 * word + 1)]
        numbers[row, : len(tokens)] = np.repeat(np.arange(1, len(words) + 1), 2)
        if words:
            whole[row, : len(tokens) + 2] = [START, *tokens, END]
    return Catalogue(whole, {}, None, parts, numbers, lexemes, numbers)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.lists(st.integers(2, 9), max_size=7, unique=True), min_size=1, max_size=6),
    st.integers(0, 9),
)
def test_queries_are_neighbouring_words_of_their_item_in_both_views(words_of_items, seed):
    made = make_up_queries(a_catalogue(words_of_items), 50, seed)
    assert made.tokens.shape[0] == made.lexemes.shape[0] == len(made.items) == 50
    for item, tokens, lexemes in zip(made.items, made.tokens, made.lexemes, strict=True):
        words = words_of_items[item - 1]
        tokens = tokens[: np.count_nonzero(tokens)].tolist()
        if not words:
            assert not tokens and not lexemes.any()
            continue
        assert tokens[0] == START and tokens[-1] == END
        found = [token // 100 for token in tokens[1:-1:2]]
        assert tokens[1:-1] == [token for word in found for token in (100 * word, 100 * word + 1)]
        assert lexemes[lexemes > 0].tolist() == [one for word in found for one in (10 * word, 10 * word + 1)]
        first = words.index(found[0])
        assert found == words[first : first + len(found)]
        assert min(2, len(words)) <= len(found) <= 4


def test_every_window_of_every_item_is_drawn_as_often():
    made = make_up_queries(a_catalogue([[2, 3, 4, 5, 6], [7, 8]]), 24_000, seed=1)
    assert np.bincount(made.items)[1:] == pytest.approx([12_000, 12_000], rel=0.05)
    windows = Counter(tuple(row[row > 0] // 10) for row in made.lexemes[made.items == 1])
    of_length = {2: 4, 3: 3, 4: 2}
    for window, count in windows.items():
        assert count == pytest.approx(12_000 / 3 / of_length[len(window) // 2], rel=0.15)
    assert len(windows) == sum(of_length.values())


def test_a_seed_gives_the_same_queries_and_there_is_a_limit(monkeypatch):
    catalogue = a_catalogue([[2, 3, 4, 5, 6], [7, 8]])
    one, same, other = (make_up_queries(catalogue, 100, seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one.tokens, same.tokens)
    assert one.tokens.shape != other.tokens.shape or (one.tokens != other.tokens).any()
    monkeypatch.setattr("towers.made_up.MOST", 60)
    assert len(make_up_queries(catalogue, 100, 1).items) == 60


def test_an_encoder_that_trains_encodes_the_words_and_one_that_does_not_has_the_text(preset):
    made = make_up_queries(shop.catalogue(), 300, seed=4)
    drawn = tf.range(40)
    batch = batch_of(shop.batches())
    for trainable, tokens in (
        ("last_layers", made.tokens[:40]),
        ("frozen", shop.catalogue().tokens[made.items[:40]]),
    ):
        keras.utils.set_random_seed(3)
        model = shop.model(preset, trainable=trainable, made_up_queries=ALWAYS)
        if trainable == "frozen":
            text = encode_texts(model.encoder, shop.catalogue().tokens)
            model.use_catalogue(shop.catalogue()._replace(text=text), np.ones(shop.ITEMS + 1))
        model.use_made_up_queries(made)
        found = model._embed_made_up(batch, drawn, drawn >= 10, training=False).numpy()
        wanted = model.embed_texts(batch, model.encoder(tokens)).numpy()
        np.testing.assert_allclose(found[10:], wanted[10:], atol=1e-4)
        if trainable == "last_layers":
            assert np.abs(found[:10] - wanted[:10]).max() > 0.01  # those that no pair takes are not encoded


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


START, END = 101, 102


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
    slots = np.asarray(model.slots)
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
