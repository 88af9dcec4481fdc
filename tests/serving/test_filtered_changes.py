"""Filters and related items see the catalogue as it has been changed."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serving.catalogue_log import CatalogueLog
from serving.live_catalogue import LiveCatalogue
from serving.loaded_bundle import LoadedBundle, load_bundle
from serving.request_inputs import Limits, RequestError
from tests.serving.catalogue_oracle import Client, embed_item
from tests.serving.conftest import Shop, request_of
from tests.serving.filter_oracle import HISTORY, LOVED, answered, best_20, passes, predict, tensors
from tests.serving.test_filters import FILTERS

UPSERTS = [
    {"item_id": "new-1", "title": "red mug", "brand": "acme", "category": "home > mugs", "price": 3.5},
    {"item_id": "new-2", "title": "red red mug", "category": "garden", "price": 40.0},
    {"item_id": "sku-9", "title": "red mug", "brand": "acme", "category": "home > lamps"},
    {"item_id": "sku-3", "title": "blue mug", "category": "home > mugs", "price": 31.0},
]
DELETED = ["sku-50", "sku-1", "sku-11", "new-3"]


@pytest.fixture(scope="module")
def bundle(shop: Shop, tmp_path_factory: pytest.TempPathFactory) -> LoadedBundle:
    made = load_bundle(shop.bundle_dir)
    catalogue = LiveCatalogue(CatalogueLog(tmp_path_factory.mktemp("catalog")), Limits())
    catalogue.attach(made)
    catalogue.apply({"upsert": UPSERTS, "delete": DELETED}, Client())
    return made


@pytest.fixture(scope="module")
def live(shop: Shop) -> dict[str, tuple[dict[str, Any], np.ndarray]]:
    """Every item of the changed catalogue and its vector."""
    rows = [dict(zip(shop.items, values, strict=True)) for values in zip(*shop.items.values(), strict=True)]
    items = {row["item_id"]: (row, vector) for row, vector in zip(rows, shop.catalogue.vectors, strict=True)}
    empty = {"brand": "", "category": "", "price": np.nan}
    items |= {str(item["item_id"]): (empty | item, embed_item(shop, item)) for item in UPSERTS}
    return {item_id: pair for item_id, pair in items.items() if item_id not in DELETED}


@settings(max_examples=50, deadline=None)
@given(filters=FILTERS, signature=st.sampled_from(["", "exact"]), with_history=st.booleans())
def test_filters_agree_with_a_look_at_every_item_as_it_now_is(
    shop, bundle, live, filters, signature, with_history
) -> None:
    filters = {
        name: [*value, "new-1", "sku-3"] if name == "filter_item_ids" and value else value
        for name, value in filters.items()
    }
    query: dict[str, Any] = {"query": ["red mug"]}
    history = HISTORY[0] if with_history else []
    if with_history:
        query |= {"history_item_ids": HISTORY, "history_event_types": LOVED}
    vector = shop.embed_queries(**query)[0]
    wanted = [
        (item_id, float(own @ vector) + 2.0 * (item_id in history))
        for item_id, (item, own) in live.items()
        if passes(item, filters, history)
    ]
    answer = predict(bundle, request_of(signature, **query, **tensors(filters)))
    assert answered(answer) == best_20(sorted(wanted, key=lambda pair: -pair[1])[:20])


def test_related_items_are_those_of_the_changed_catalogue(bundle: LoadedBundle, live) -> None:
    for item_id in ("new-1", "sku-9", "sku-2"):
        own = live[item_id][1]
        cosines = {
            other: float(vector @ own / np.linalg.norm(vector) / np.linalg.norm(own))
            for other, (_, vector) in live.items()
            if other != item_id
        }
        best = sorted(cosines, key=lambda other: -cosines[other])[:20]
        answer = bundle.run("related", {"item_id": np.array([item_id.encode()], object)})
        assert [other.decode() for other in answer["item_ids"][0]] == best
        np.testing.assert_allclose(answer["scores"][0], [cosines[other] for other in best], rtol=1e-4)
    with pytest.raises(RequestError, match="'sku-50', expected ids of items in the catalogue"):
        bundle.run("related", {"item_id": np.array([b"sku-50"], object)})
