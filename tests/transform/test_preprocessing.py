"""What the towers see, worked out here by hand from the raw rows; and the same graph on half of its inputs."""

import gc
import os
from collections import Counter

import numpy as np
import pandas as pd
import pytest
import tensorflow as tf

from tests.mini_shop import write_mini_shop
from tests.tiny_encoder import write_tiny_preset
from tests.transform.conftest import SHOP_FEATURES, make
from tests.transform.read_split import one, read_split
from tests.transform.run_transform import run_transform
from transform.errors import TandemError
from transform.features import AGE_BOUNDARIES_DAYS, AGE_ROWS, dense_to_raw
from transform.preprocessing import path_prefixes
from transform.settings import FeatureSettings
from transform.text import load_tokenizer


@pytest.fixture(scope="module")
def preset(tmp_path_factory):
    return write_tiny_preset(tmp_path_factory.mktemp("encoder") / "tiny")


@pytest.fixture(scope="module")
def made(first_run, preset, tmp_path_factory):
    return run_transform(tmp_path_factory.mktemp("transform"), first_run.examples, SHOP_FEATURES, preset)


def vocabulary(made, name):
    """Value -> index; 0 for what is not in it."""
    values = made.output.vocabulary_by_name(name)
    return Counter({value.decode(): n for n, value in enumerate(values, start=1)})


def words(preset):
    with open(os.path.join(preset, "assets", "tokenizer", "vocabulary.txt"), encoding="utf-8") as file:
        return {token.strip(): n for n, token in enumerate(file)}


def matched(first_run, made, split):
    """(raw, transformed) rows of a split; Transform keeps the order of the file."""
    raw, rows = read_split(first_run.examples, split), made.rows[split]
    assert len(raw) == len(rows)
    return list(zip(raw, rows, strict=True))


def test_requests_become_indices_of_the_vocabularies(first_run, made):
    items, types = vocabulary(made, "item_id"), vocabulary(made, "event_type")
    segments, devices = vocabulary(made, "segment"), vocabulary(made, "device")
    for split in ("train", "eval"):
        for raw, row in matched(first_run, made, split):
            assert row["history_items"] == [items[item] for item in raw.get("history_item_ids", [])]
            assert row["history_types"] == [types[kind] for kind in raw.get("history_event_types", [])]
            ages = np.float32(raw.get("history_ages", []))
            assert row["history_ages"] == [
                int(sum(age >= np.float32(AGE_BOUNDARIES_DAYS))) + 1 for age in ages
            ]
            assert row["target_items"] == [items[item] for item in raw["target_item_ids"]]
            assert row["target_weights"] == raw["target_weights"]
            assert row["known_positives"] == [items[item] for item in raw.get("known_positive_ids", [])]
            assert row["segment"] == [segments[value] for value in raw.get("segment", [])]
            assert row["device"] == [devices[value] for value in raw.get("device", [])]
            assert row["item"] == row["item_tokens"] == row["category"] == []
            # The whole catalogue has an index, so no target is unknown.
            assert 0 not in row["target_items"]


def test_items_become_indices_with_every_level_of_their_path(first_run, made):
    items, brands, paths = (vocabulary(made, name) for name in ("item_id", "brand", "category"))
    for raw, row in matched(first_run, made, "items"):
        levels = one(raw, "category").split(" > ")
        assert row["item"] == [items[one(raw, "item_id")]]
        assert row["brand"] == [brands[brand] for brand in raw.get("brand", [])]
        assert row["category"] == [paths[" > ".join(levels[:n])] for n in range(1, len(levels) + 1)]
        assert 0 not in row["category"]
        assert row["query_tokens"] == row["history_items"] == row["target_items"] == []


def test_texts_become_tokens_with_start_and_end(first_run, made, preset):
    tokens = words(preset)
    start, end = tokens["[CLS]"], tokens["[SEP]"]
    queries = [(one(raw, "query"), row["query_tokens"]) for raw, row in matched(first_run, made, "train")]
    assert any(query for query, _ in queries) and not all(query for query, _ in queries)
    for query, found in queries:
        known = query is not None and all(word in tokens for word in query.split())
        if query is None:
            assert found == []
        elif known:
            assert found == [start, *(tokens[word] for word in query.split()), end]
    for raw, row in matched(first_run, made, "items"):
        found = row["item_tokens"]
        assert (found[0], found[-1]) == (start, end)
        assert len(found) <= SHOP_FEATURES.item_tokens
        title = one(raw, "title").lower().split()
        if all(word in tokens for word in title):
            assert found[1 : len(title) + 1] == [tokens[word] for word in title]
        # The separators of the path are no words.
        assert tokens["[UNK]"] not in found
        parts, numbers = row["item_word_tokens"], row["item_word_numbers"]
        assert numbers == sorted(numbers) and numbers[0] == 1 and len(parts) == len(numbers)
        assert [
            found[0],
            *parts[: len(found) - 2],
            found[-1],
        ] == found  # titles of the shop have no punctuation


def test_the_item_vocabulary_is_the_catalogue_by_frequency(first_run, made):
    targets = Counter(
        item for row in read_split(first_run.examples, "train") for item in row["target_item_ids"]
    )
    catalogue = [one(row, "item_id") for row in read_split(first_run.examples, "items")]
    names = [value.decode() for value in made.output.vocabulary_by_name("item_id")]
    with open(made.output.vocabulary_file_by_name("item_id_counts"), encoding="utf-8") as file:
        counted = [line.split(" ", 1) for line in file.read().splitlines()]
    assert sorted(names) == sorted(catalogue)
    assert [item for _, item in counted] == names
    assert [int(count) for count, _ in counted] == [1 + targets[item] for item in names]
    assert [int(count) for count, _ in counted] == sorted((1 + targets[item] for item in names), reverse=True)


def test_numbers_become_quantile_buckets_and_a_missing_one_has_none(first_run, made):
    pairs = [(one(raw, "price"), row["price"]) for raw, row in matched(first_run, made, "items")]
    assert all(bucket == [] for price, bucket in pairs if price is None)
    priced = sorted((price, bucket[0]) for price, bucket in pairs if price is not None)
    buckets = [bucket for _, bucket in priced]
    assert buckets == sorted(buckets)
    assert set(buckets) == set(range(1, SHOP_FEATURES.number_buckets + 1))
    # Quarters of about 54 prices.
    assert max(Counter(buckets).values()) <= 18


@pytest.fixture(scope="module")
def layer(made):
    return made.output.transform_features_layer()


def values(tensor):
    return tensor.values.numpy().tolist() if isinstance(tensor, tf.SparseTensor) else tensor.numpy().tolist()


def test_the_graph_answers_a_request_from_query_inputs_alone(made, layer):
    items, types = vocabulary(made, "item_id"), vocabulary(made, "event_type")
    request = {
        "query": tf.constant(["red mug", ""]),
        "history_item_ids": tf.constant([["i003", "gone", "i001"], ["", "", ""]]),
        "history_event_types": tf.constant([["view", "purchase", ""], ["", "", ""]]),
        "history_ages": tf.constant([[0.5, -1.0, np.nan], [0.0, 0.0, 0.0]]),
        "segment": tf.constant(["single", "unheard of"]),
        "household": tf.constant([1.0, np.nan]),
        "device": tf.constant(["", "phone"]),
    }
    found = layer(dense_to_raw(request))
    assert values(found["history_items"]) == [items["i003"], 0, items["i001"]]
    assert values(found["history_types"]) == [types["view"], types["purchase"], 0]
    assert values(found["history_ages"]) == [3, 0, 0]
    assert values(found["segment"]) == [vocabulary(made, "segment")["single"], 0]
    assert found["household"].indices.numpy().tolist() == [[0, 0]]
    assert values(found["device"]) == [vocabulary(made, "device")["phone"]]
    assert found["query_tokens"].dense_shape.numpy()[0] == 2
    assert set(found["query_tokens"].indices.numpy()[:, 0]) == {0}
    assert "item_tokens" not in found


def test_the_graph_embeds_an_item_from_item_inputs_alone(first_run, made, layer):
    raw, row = next(
        pair for pair in matched(first_run, made, "items") if one(pair[0], "brand") and one(pair[0], "price")
    )
    item = {
        name: tf.constant([one(raw, name)]) for name in ("item_id", "title", "brand", "category", "price")
    }
    found = layer(dense_to_raw(item))
    for name in ("item", "item_tokens", "brand", "category", "price"):
        assert values(found[name]) == row[name]
    assert "query_tokens" not in found


def test_half_of_the_graph_is_a_signature_of_a_saved_model(layer, tmp_path):
    """Signatures that take one side's inputs are saved, and read again where nothing else is known."""

    def signature(output, names):
        @tf.function(input_signature=[{name: tf.TensorSpec([None], tf.string) for name in names}])
        def tokens(inputs):
            return {"tokens": tf.sparse.to_dense(layer(dense_to_raw(inputs))[output])}

        return tokens

    sides = {"query": ["query"], "item": ["item_id", "title", "brand", "category"]}
    module = tf.Module()
    module.layer = layer
    module.query, module.item = (signature(f"{side}_tokens", names) for side, names in sides.items())
    tf.saved_model.save(module, str(tmp_path / "model"))
    read = tf.saved_model.load(str(tmp_path / "model"))
    for side, names in sides.items():
        inputs = {name: tf.constant(["red mug", "blue lamp"]) for name in names}
        found = getattr(read, side)(inputs)["tokens"].numpy()
        assert found.shape[0] == 2
        np.testing.assert_array_equal(found, getattr(module, side)(inputs)["tokens"].numpy())


def test_a_shop_with_queries_and_titles_only_transforms_too(preset, tmp_path):
    shop = write_mini_shop(tmp_path / "shop", with_users=False, spans=1)
    items = pd.read_parquet(shop / "items.parquet")
    items[["item_id", "title"]].to_parquet(shop / "items.parquet")
    features = FeatureSettings(query_tokens=8, item_tokens=12)
    run = make(tmp_path, shop, newest=1, features=features)
    made = run_transform(tmp_path / "transform", run.examples, features, preset)
    assert all(row["query_tokens"] and not row["history_items"] for row in made.rows["train"])
    assert all(row["item_tokens"] for row in made.rows["items"])
    assert all(row["brand"] == row["category"] == row["price"] == [] for row in made.rows["items"])
    assert sorted(row["item"] for row in made.rows["items"]) == [[n] for n in range(1, len(items) + 1)]


@pytest.mark.parametrize(
    ("path", "prefixes"),
    [
        ("A > B > C", ["A", "A > B", "A > B > C"]),
        ("A>B", ["A", "A > B"]),
        (" A  >  B ", ["A", "A > B"]),
        ("A", ["A"]),
        ("A > B > C > D > E", ["A", "A > B", "A > B > C", "A > B > C > D"]),
    ],
)
def test_a_path_becomes_its_prefixes(path, prefixes):
    found = path_prefixes(tf.sparse.from_dense([["x > y"], [""], [path]]))
    assert [value.decode() for value in found.values.numpy()] == ["x", "x > y", *prefixes]
    assert found.indices.numpy()[2:, 0].tolist() == [2] * len(prefixes)


def test_every_age_has_a_row_of_the_table():
    assert len(AGE_BOUNDARIES_DAYS) + 2 == AGE_ROWS
    assert list(AGE_BOUNDARIES_DAYS) == sorted(AGE_BOUNDARIES_DAYS)


def test_a_preset_that_is_not_there_gets_one_line(tmp_path):
    with pytest.raises(TandemError, match="holds no tokenizer.json; expected a KerasHub preset"):
        load_tokenizer(str(tmp_path / "nowhere"), 8)


def test_a_preset_that_cannot_be_read_gets_one_line(tmp_path):
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(TandemError, match="could not load the tokenizer .*import it again") as caught:
        load_tokenizer(str(tmp_path), 8)
    assert "\n" not in str(caught.value)


def test_a_tokenizer_works_in_a_function_after_a_collection(preset):
    tokenizer = load_tokenizer(preset, 8)
    gc.collect()
    signature = [tf.TensorSpec([None], tf.string)]
    ids = tf.function(tokenizer, input_signature=signature, autograph=False)(tf.constant(["red mug", ""]))
    assert ids.shape == (2, 8) and np.count_nonzero(ids, axis=1).tolist() == [4, 2]
