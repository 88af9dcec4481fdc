"""Queries encoded before training are what the encoder would have made of them in each step."""

import numpy as np
import pytest
import tensorflow as tf

from tests.tiny_encoder import write_tiny_preset
from tests.towers import shop
from towers.datasets import Batches
from towers.query_texts import QUERY_TEXT, encode_queries


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return shop.model(write_tiny_preset(tmp_path_factory.mktemp("queries") / "preset"), trainable="frozen")


def test_looked_up_queries_equal_encoded_ones(model):
    requests, vectors = encode_queries(model.encoder, shop.requests())
    model.use_query_texts(vectors)
    batch = next(Batches(requests, shop.FEATURES, 40, 3, seed=5).stream())
    batch = {name: tf.constant(value) for name, value in batch.items()}
    looked_up = np.asarray(model.embed_queries(batch))
    encoded = np.asarray(model.embed_queries({k: v for k, v in batch.items() if k != QUERY_TEXT}))
    np.testing.assert_allclose(looked_up, encoded, atol=1e-5)
    wrong = np.asarray(model.embed_queries(batch | {QUERY_TEXT: tf.roll(batch[QUERY_TEXT], 1, axis=0)}))
    assert np.abs(wrong - encoded).max() > 1e-2


def test_each_distinct_query_has_one_row_and_none_has_the_zero_row(model):
    requests, vectors = encode_queries(model.encoder, shop.requests())
    tokens = shop.requests().columns["query_tokens"].padded(np.arange(requests.size))
    rows = requests.columns[QUERY_TEXT].padded(np.arange(requests.size))[:, 0]
    assert len(vectors) == len({tuple(row) for row in tokens} | {(0,) * tokens.shape[1]})
    np.testing.assert_array_equal(rows == 0, ~tokens.any(axis=1))
    assert not vectors[0].any() and vectors[1:].any(axis=1).all()
    seen = {}
    for text, row in zip(map(tuple, tokens), rows, strict=True):
        assert seen.setdefault(text, row) == row
    assert len(set(seen.values())) == len(seen)


def test_a_shop_without_queries_has_one_row(model):
    nothing = shop.requests()
    empty = nothing.columns["query_tokens"]._replace(
        values=np.zeros(0, np.int32), offsets=np.zeros(nothing.size + 1, np.int64)
    )
    requests, vectors = encode_queries(
        model.encoder, nothing._replace(columns=nothing.columns | {"query_tokens": empty})
    )
    assert vectors.shape == (1, model.encoder.dimension) and not vectors.any()
    assert not requests.columns[QUERY_TEXT].values.any()
