"""Related items are those of the largest cosine, through an index and in the graph, never the item itself."""

from pathlib import Path

import grpc
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from serving.changed_items import ChangedItems
from serving.client import RetrievalClient
from serving.index_build import build_index
from serving.loaded_bundle import load_bundle
from serving.related import RELATED_DIR, RelatedItems, build_related_index, unit_vectors
from serving.settings import IndexSettings
from serving.write_bundle import write_bundle
from tests.serving.conftest import Shop, load_model, request_of
from transform.errors import TandemError


def cosines(vectors: np.ndarray) -> np.ndarray:
    """[N, N] in float64, minus infinity on the diagonal; 0 for a vector of zeros."""
    vectors = vectors.astype(np.float64)
    lengths = np.linalg.norm(vectors, axis=1)
    scores = vectors @ vectors.T / np.maximum(np.outer(lengths, lengths), 1e-300)
    np.fill_diagonal(scores, -np.inf)
    return scores


def related_of(vectors: np.ndarray, k: int) -> RelatedItems:
    sizes = IndexSettings(k=k)
    ids = [f"i{row:03d}".encode() for row in range(len(vectors))]
    index = build_related_index(vectors, sizes) or build_index(vectors, sizes)
    row_of = {item: row for row, item in enumerate(ids)}.get
    return RelatedItems(index, np.array(ids, object), vectors, row_of, k)


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    items=st.integers(1, 30),
    k=st.integers(1, 12),
    kind=st.sampled_from(["any", "unit", "ties"]),
)
def test_related_items_have_the_largest_cosines(seed: int, items: int, k: int, kind: str) -> None:
    random = np.random.default_rng(seed)
    vectors = random.normal(size=(items, 4)).astype(np.float32) * random.uniform(0.1, 9, (items, 1))
    if kind == "ties":  # few distinct directions, some items without one
        vectors = random.integers(-1, 2, (items, 4))
    vectors = vectors.astype(np.float32)
    if kind == "unit":
        vectors = unit_vectors(vectors)
    asked = random.integers(0, items, 3)
    ids = np.array([f"i{row:03d}".encode() for row in asked], object)
    found = related_of(vectors, k).of(ids, ChangedItems(*vectors.shape))
    count = min(k, items - 1)
    assert found["item_ids"].shape == found["scores"].shape == (3, count)
    expected = cosines(vectors)
    for request, row in enumerate(asked):
        rows = [int(item[1:]) for item in found["item_ids"][request]]
        assert row not in rows and len(set(rows)) == count
        np.testing.assert_allclose(found["scores"][request], expected[row, rows], atol=1e-5)
        np.testing.assert_allclose(expected[row, rows], -np.sort(-expected[row])[:count], atol=1e-5)


def test_length_of_a_vector_does_not_matter() -> None:
    # By inner product with item 0 the long vector 2 would win, by cosine it is the near one.
    vectors = np.array([[1, 0], [0.9, 0.1], [50, 50]], np.float32)
    assert related_of(vectors, 1).of(np.array([b"i000"], object), ChangedItems(3, 2))[
        "item_ids"
    ].tolist() == [[b"i001"]]


def test_normalised_vectors_need_no_second_index() -> None:
    vectors = np.random.default_rng(2).normal(size=(40, 4)).astype(np.float32)
    assert build_related_index(vectors, IndexSettings()).size == 40
    assert build_related_index(unit_vectors(vectors), IndexSettings()) is None


def test_server_and_stock_signature_answer_alike(shop: Shop, stub) -> None:
    asked = ["sku-9", "sku-31"]
    expected = cosines(shop.catalogue.vectors)
    ids = list(shop.catalogue.item_ids)
    through_index = stub.Predict(request_of("related", item_id=asked), timeout=10).outputs
    exact = load_model(shop.bundle_dir).signatures["related"](item_id=tf.constant(asked))
    for outputs in (
        {name: tf.make_ndarray(value) for name, value in through_index.items()},
        {name: value.numpy() for name, value in exact.items()},
    ):
        for request, item in enumerate(asked):
            best = np.argsort(-expected[ids.index(item)], kind="stable")[:20]
            assert [found.decode() for found in outputs["item_ids"][request]] == [ids[row] for row in best]
            np.testing.assert_allclose(
                outputs["scores"][request], expected[ids.index(item), best], rtol=1e-4, atol=1e-6
            )


def test_unknown_item_is_named(shop: Shop, stub) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        stub.Predict(request_of("related", item_id=["sku-9", "gone"]), timeout=10)
    assert caught.value.code() == grpc.StatusCode.NOT_FOUND
    assert caught.value.details() == "input 'item_id' holds 'gone', expected ids of items in the catalogue"
    with pytest.raises(tf.errors.InvalidArgumentError, match="item_id holds.*gone.*expected ids of items"):
        load_model(shop.bundle_dir).signatures["related"](item_id=tf.constant(["sku-9", "gone"]))


def test_client_returns_related_items(shop: Shop, address: str) -> None:
    best = np.argsort(-cosines(shop.catalogue.vectors)[0], kind="stable")[:5]
    with RetrievalClient(address) as client:
        found = client.related(shop.catalogue.item_ids[0], k=5)
        assert found.item_ids == [shop.catalogue.item_ids[row] for row in best]
        assert found.version == 7
        with pytest.raises(TandemError, match="NOT_FOUND: .*'gone'"):
            client.related("gone")


def test_bundle_of_one_item_has_no_related_ones(shop: Shop, tmp_path: Path) -> None:
    one = shop.catalogue._replace(**{name: value[:1] for name, value in shop.catalogue._asdict().items()})
    write_bundle(shop.towers_dir, one, str(tmp_path / "bundle"), IndexSettings(k=5))
    bundle = load_bundle(tmp_path / "bundle")
    asked = {"item_id": np.array([one.item_ids[0].encode()], object)}
    assert bundle.run("related", asked)["item_ids"].shape == (1, 0)
    assert bundle.engine.run("related", asked)["scores"].shape == (1, 0)


def test_bundle_without_an_index_of_its_own_for_them_uses_the_main_one(shop: Shop, tmp_path: Path) -> None:
    unit = shop.catalogue._replace(vectors=unit_vectors(shop.catalogue.vectors))
    write_bundle(shop.towers_dir, unit, str(tmp_path / "bundle"), IndexSettings(k=5))
    assert not (tmp_path / "bundle" / RELATED_DIR).exists()
    bundle = load_bundle(tmp_path / "bundle")
    found = bundle.run("related", {"item_id": np.array([b"sku-9"], object)})
    row = list(unit.item_ids).index("sku-9")
    best = np.argsort(-cosines(unit.vectors)[row], kind="stable")[:5]
    assert [item.decode() for item in found["item_ids"][0]] == [unit.item_ids[row] for row in best]
