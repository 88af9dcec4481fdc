"""The co-occurrence view: its layer against a loop, and where the model has it and where not."""

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.tiny_encoder import write_tiny_preset
from tests.towers import shop
from towers.architecture import describe_architecture
from towers.build import build_model, keyed_variables
from towers.cooccurrence import HALF_LIFE_DAYS, CooccurrenceView
from towers.encoder import load_encoder
from towers.examples import Column
from towers.fit import compile_model
from towers.item_to_item import ItemToItem
from towers.serving_copy import ServingCopy
from towers.settings import EncoderSettings, ModelSettings, TrainingSettings
from towers.snapshot import restore_snapshot, take_snapshot
from transform.errors import TandemError
from transform.features import AGE_BOUNDARIES_DAYS

ITEMS, D = 9, 4
IS_TARGET = [1.0, 1.0, 0.0]
FOUND = ItemToItem(
    rows=np.array([3, 7, 1, 5], np.int32),
    given=np.random.default_rng(0).normal(size=(4, D)).astype(np.float32),
    gives=np.random.default_rng(1).normal(size=(4, D)).astype(np.float32),
    trend=np.random.default_rng(2).normal(size=ITEMS).astype(np.float32),
)
FEATURES = shop.FEATURES.model_copy(update={"cooccurrence_items": 20})
MODEL = ModelSettings(dimension=8, cooccurrence_dimension=3, made_up_queries=0.0)


def view(weight=6.0, trend_weight=0.5):
    layer = CooccurrenceView(ITEMS, 6, IS_TARGET, D + 1, weight, trend_weight)
    layer.build()
    layer.fill(FOUND)
    return layer


def oracle(entries, has_text):
    """Item -> score of one request, entry by entry."""
    if has_text:
        return np.zeros(ITEMS)
    edges = [0.0, *AGE_BOUNDARIES_DAYS, 512.0]
    place = {int(row): n for n, row in enumerate(FOUND.rows)}
    newest = {}
    for item, kind, age in entries:
        if item and IS_TARGET[kind]:
            newest.setdefault(item, age)
    query = np.zeros(D)
    for item, age in newest.items():
        bucket = age or 6
        days = (edges[bucket - 1] + edges[bucket]) / 2
        if item in place:
            query += 0.5 ** (days / HALF_LIFE_DAYS) * FOUND.given[place[item]].astype(float)
    scores = 0.5 * FOUND.trend.astype(float)
    for item, n in place.items():
        scores[item] += 6.0 * query @ FOUND.gives[n].astype(float)
    return scores


histories = st.lists(
    st.tuples(st.integers(0, ITEMS - 1), st.integers(0, 2), st.integers(0, 12)), min_size=1, max_size=9
)


@settings(max_examples=80, deadline=None)
@given(histories, st.booleans())
def test_scores_are_what_the_oracle_says(entries, has_text):
    layer = view()
    columns = [tf.constant([[entry[n] for entry in entries]], tf.int32) for n in range(3)]
    inputs = dict(zip(("history_items", "history_types", "history_ages"), columns, strict=True))
    query = layer.of_queries(inputs, tf.constant([has_text])).numpy()
    got = query @ layer.of_items(tf.range(ITEMS)).numpy().T
    np.testing.assert_allclose(got[0], oracle(entries, has_text), atol=1e-4)


def test_it_learns_from_histories():
    """Items 1 and 2 go together, 3 comes alone; who has 1 is offered 2. Returns are no purchases."""
    layer = CooccurrenceView(ITEMS, 6, IS_TARGET, D + 1, 1.0, 0.0)
    layer.build()
    users = [[2, 1], [1, 2], [3]] * 200
    items = Column(np.array(sum(users, []), np.int32), np.cumsum([0, *map(len, users)]))
    ones = Column(np.ones(len(items.values), np.int32), items.offsets)
    layer.learn({"history_items": items, "history_types": ones, "history_ages": ones})
    asked = {name: tf.ones([1, 1], tf.int32) for name in ("history_items", "history_types", "history_ages")}
    scores = layer.of_queries(asked, tf.constant([False])) @ tf.transpose(layer.of_items([1, 2, 3, 4]))
    assert scores[0, 1] > 0.2
    np.testing.assert_allclose(scores[0, 2:], 0.0, atol=1e-4)
    returned = {"history_items": items, "history_types": Column(2 * ones.values, ones.offsets)}
    with pytest.raises(
        TandemError, match="no event of a target type.*: set features.cooccurrence_items to 0"
    ):
        layer.learn(returned | {"history_ages": ones})


@pytest.fixture(scope="module")
def preset(tmp_path_factory):
    return write_tiny_preset(tmp_path_factory.mktemp("encoder"))


def built(preset, features=FEATURES, model=MODEL):
    encoder = load_encoder(EncoderSettings(preset=preset), "float32")
    made = build_model(features, model, encoder, shop.vocabularies())
    if made.cooccurrence is not None:
        random = np.random.default_rng(4)
        given, gives = random.normal(size=(2, 20, 2)).astype(np.float32)
        trend = random.normal(size=shop.ITEMS + 1).astype(np.float32)
        made.cooccurrence.fill(ItemToItem(np.arange(1, 21, dtype=np.int32), given, gives, trend))
    return made


def of_batch(model, **kwargs):
    batch = next(shop.batches().stream())
    queries = model.embed_queries({k: tf.constant(v) for k, v in batch.items()}, **kwargs)
    return batch, queries.numpy()


def test_the_towers_are_trained_without_it_and_served_with_it(preset):
    model = built(preset)
    plain = built(preset, shop.FEATURES, MODEL.model_copy(update={"dimension": 5}))
    batch, queries = of_batch(model)
    _, alone = of_batch(model, training=True)
    assert queries.shape[1] == 8
    assert alone.shape[1] == 5
    np.testing.assert_allclose(queries[:, :5], of_batch(plain)[1], atol=1e-6)
    has_text = (batch["query_tokens"] > 0).any(1)
    assert has_text.any() and not has_text.all()
    assert not queries[has_text, 5:].any()
    assert (queries[~has_text, 7] == MODEL.trend_weight).all()


def test_it_is_in_no_state_and_in_the_copy_that_is_served(preset):
    model = built(preset)
    compile_model(model, TrainingSettings(), "float32", 1, 0)
    architecture = describe_architecture(FEATURES, EncoderSettings(preset=preset), MODEL)
    assert architecture["model"]["cooccurrence_dimension"] == 3
    state = take_snapshot(model, architecture, shop.vocabularies(), keyed_variables(model, FEATURES), step=3)
    assert not [name for name in state.variables if "cooccurrence" in name]
    given = np.asarray(model.cooccurrence.given)
    restore_snapshot(model, state)
    np.testing.assert_array_equal(model.cooccurrence.given, given)
    copy = ServingCopy(FEATURES, EncoderSettings(preset=preset), MODEL, shop.vocabularies()).of(model)
    np.testing.assert_array_equal(copy.cooccurrence.given, given)
    np.testing.assert_array_equal(copy.cooccurrence.place, model.cooccurrence.place)
    np.testing.assert_allclose(of_batch(copy)[1], of_batch(model)[1], atol=1e-6)
