"""The client that comes with Tandem."""

import numpy as np
import pytest

from serving.client import Interaction, RetrievalClient, wait_until_available
from tests.serving.conftest import Shop
from transform.errors import TandemError


def test_client_searches_by_text_history_and_features(shop: Shop, address: str) -> None:
    with RetrievalClient(address) as client:
        result = client.search("red mug", k=10)
        assert result.item_ids == shop.best(shop.embed_queries(query=["red mug"])[0])
        assert (len(result.scores), result.version) == (10, 7)
        assert result.milliseconds > 0
        assert result.item_ids == client.search("red mug", k=10, exact=True).item_ids
        history = [Interaction("sku-3", "purchase", 1.5), "sku-8"]
        vector = shop.embed_queries(
            history_item_ids=[["sku-3", "sku-8"]],
            history_event_types=[["purchase", ""]],
            history_ages=[[1.5, np.nan]],
            segment=["gold"],
            basket=[30.0],
        )[0]
        found = client.search(history=history, segment="gold", basket=30, k=5).item_ids
        assert found == shop.best(vector, 5)
        assert (
            client.items(found[:1])[0].title == shop.catalogue.titles[shop.catalogue.item_ids.index(found[0])]
        )
        assert client.items([]) == []


def test_client_says_in_one_line_what_is_wrong(address: str) -> None:
    with RetrievalClient(address) as client:
        with pytest.raises(TandemError, match="k is 21, expected at most 20"):
            client.search("mug", k=21)
        with pytest.raises(TandemError, match="k is 0"):
            client.search("mug", k=0)
        with pytest.raises(
            TandemError, match="INVALID_ARGUMENT: input 'colour' is unknown .* expected some of"
        ):
            client.search("mug", colour="red")
        with pytest.raises(TandemError, match="10,000 characters, expected at most 2,000"):
            client.search("x" * 10_000)
    with (
        RetrievalClient("127.0.0.1:1") as client,
        pytest.raises(TandemError, match="no server answers at 127.0.0.1:1"),
    ):
        client.search("mug")
    with pytest.raises(TandemError, match="127.0.0.1:1 has no version to answer from after 0 s"):
        wait_until_available("127.0.0.1:1", timeout_seconds=0.3)
