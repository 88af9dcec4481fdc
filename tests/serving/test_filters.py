"""Filters let through what a plain look at every item lets through, and bad ones are named."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serving.loaded_bundle import LoadedBundle, load_bundle
from serving.request_inputs import RequestError
from serving.settings import IndexSettings
from serving.write_bundle import write_bundle
from tests.serving.conftest import COLOURS, Shop, request_of
from tests.serving.filter_oracle import HISTORY, LOVED, NAN, answered, expected, predict, tensors
from transform.settings import Feature, FeatureSettings


@pytest.fixture(scope="module")
def bundle(shop: Shop) -> LoadedBundle:
    return load_bundle(shop.bundle_dir)


ITEM_IDS = st.lists(st.sampled_from(["", "gone", *(f"sku-{n}" for n in range(60))]), max_size=25)
FILTERS = st.fixed_dictionaries(
    {},
    optional={
        "filter_category": st.lists(
            st.sampled_from(["", "home", "home > mugs", " home>lamps ", "home > mug", "garden", "mugs", ">"]),
            max_size=3,
        ),
        "filter_brand": st.lists(st.sampled_from(["", "acme", "nobody"]), max_size=2),
        "filter_price": st.tuples(
            st.sampled_from([NAN, 0.0, 5.0, 30.0]), st.sampled_from([NAN, 30.0, 31.0, 500.0])
        ),
        "filter_item_ids": ITEM_IDS,
        "exclude_item_ids": ITEM_IDS,
        "exclude_history": st.booleans(),
    },
)


@settings(max_examples=80, deadline=None)
@given(filters=FILTERS, signature=st.sampled_from(["", "exact"]), with_history=st.booleans())
def test_random_filters_agree_with_a_look_at_every_item(
    shop, bundle, filters, signature, with_history
) -> None:
    query: dict[str, Any] = {"query": ["red mug"]}
    if with_history:
        query |= {"history_item_ids": HISTORY, "history_event_types": LOVED}
    answer = predict(bundle, request_of(signature, **query, **tensors(filters)))
    assert answered(answer) == expected(shop, filters, **query)


def test_each_filter_shows(shop: Shop, bundle: LoadedBundle) -> None:
    def ids(**filters: Any) -> list[str]:
        query = {"query": ["red mug"], "history_item_ids": HISTORY, "history_event_types": LOVED}
        answer = predict(bundle, request_of(**query, **tensors(filters)))
        return [item.decode() for item in answer.outputs["item_ids"].string_val if item]

    everything = ids()
    of = {name: dict(zip(shop.items["item_id"], shop.items[name], strict=True)) for name in shop.items}
    assert len(everything) == 20 and "sku-3" in everything
    assert {of["category"][item] for item in ids(filter_category=["home > mugs"])} == {"home > mugs"}
    assert len(ids(filter_category=["home > mugs"])) == len(COLOURS)
    assert len(ids(filter_category=["home > mugs", "home > lamps"])) == 2 * len(COLOURS)
    assert len(ids(filter_category=["home"])) == 20
    assert ids(filter_category=["garden"]) == []
    assert {of["brand"][item] for item in ids(filter_brand=["acme"])} == {"acme"}
    priced = ids(filter_price=[10.0, 20.0])
    # Prices are 1 + n, and every seventh is missing: 10..20 without 1 + 14.
    assert sorted(of["price"][item] for item in priced) == [p for p in range(10, 21) if (p - 1) % 7]
    assert set(ids(filter_item_ids=["sku-7", "gone"])) == {"sku-7"}
    assert everything[0] not in ids(exclude_item_ids=everything[:1])
    assert not {"sku-3", "sku-50"} & set(ids(exclude_history=True)) and len(ids(exclude_history=True)) == 20


def test_request_of_filters_alone_is_answered(shop: Shop, stub) -> None:
    filters = {"filter_brand": ["acme"]}
    answer = stub.Predict(request_of(**tensors(filters)), timeout=10)
    assert answered(answer) == expected(shop, filters, query=[""])


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "unknown": (
        {"filter_colour": [["red"]]},
        "input 'filter_colour' is unknown .*filter_brand, filter_price",
    ),
    "text for a number": (
        {"filter_price": [["5", "6"]]},
        "'filter_price' has dtype string, expected float32",
    ),
    "one end": ({"filter_price": np.zeros((1, 1), np.float32)}, r"shape \[1, 1\], expected \[batch, 2\]"),
    "flat": ({"filter_brand": ["acme"]}, r"'filter_brand' has shape \[1\], expected \[batch, length\]"),
    "wrong way round": (
        {"filter_price": np.array([[9, 5]], np.float32)},
        "'filter_price' holds the range 9 to 5, expected the lower end first",
    ),
    "infinite": ({"filter_price": np.array([[0, np.inf]], np.float32)}, "an infinite number"),
    "number for a flag": (
        {"exclude_history": np.array([1.0], np.float32)},
        "has dtype float32, expected bool",
    ),
    "too long": ({"filter_item_ids": [["a"] * 1001]}, "length of 0 to 1000"),
    "other batch": ({"filter_brand": [["a"], ["b"]]}, "differ in batch size: query 1, filter_brand 2"),
    "not UTF-8": ({"filter_brand": [[b"\xff"]]}, "not UTF-8"),
}


@pytest.mark.parametrize("case", sorted(BAD))
def test_bad_filter_is_named(bundle: LoadedBundle, case: str) -> None:
    inputs, reason = BAD[case]
    with pytest.raises(RequestError, match=reason) as caught:
        predict(bundle, request_of(query=["mug"], **inputs))
    assert caught.value.status == "INVALID_ARGUMENT"


def test_filters_are_for_retrieval_only(bundle: LoadedBundle) -> None:
    with pytest.raises(RequestError, match="'filter_brand' is unknown to signature 'embed_query'"):
        predict(bundle, request_of("embed_query", query=["mug"], filter_brand=[["acme"]]))


def test_metadata_lists_the_filters(bundle: LoadedBundle) -> None:
    inputs = bundle.signature_defs["serving_default"].inputs
    assert {name for name in inputs if name.startswith(("filter_", "exclude_"))} == set(bundle.filters.specs)
    assert [dim.size for dim in inputs["filter_price"].tensor_shape.dim] == [-1, 2]
    assert "filter_brand" not in bundle.signature_defs["embed_query"].inputs


def test_bundle_without_attributes_serves_on_and_filters_by_items_only(shop: Shop, tmp_path: Path) -> None:
    write_bundle(shop.towers_dir, shop.catalogue, str(tmp_path / "old"), IndexSettings(k=20))
    old = load_bundle(tmp_path / "old")
    answer = predict(old, request_of(query=["mug"]))
    assert answered(answer) == expected(shop, {}, query=["mug"])
    filters = {"exclude_item_ids": ["sku-1"], "filter_item_ids": ["sku-1", "sku-2"]}
    answer = predict(old, request_of(query=["mug"], **tensors(filters)))
    assert answered(answer) == expected(shop, filters, query=["mug"])
    with pytest.raises(RequestError, match="'filter_brand' filters by an attribute .* push again") as caught:
        predict(old, request_of(query=["mug"], filter_brand=[["acme"]]))
    assert caught.value.status == "FAILED_PRECONDITION"


def test_column_that_would_be_taken_for_a_filter_is_refused() -> None:
    with pytest.raises(ValueError, match="filter_price: reserved for filters"):
        FeatureSettings(user=(Feature(name="filter_price", kind="number"),))
    with pytest.raises(ValueError, match="item_ids: reserved"):
        FeatureSettings(item=(Feature(name="item_ids", kind="category"),))
