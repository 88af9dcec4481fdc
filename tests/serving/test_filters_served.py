"""Filters over gRPC and REST, from the client, in batches and from the cache."""

import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import grpc
import numpy as np
import pytest
from tensorflow_serving.apis import prediction_service_pb2_grpc

from serving import server as servers
from serving.batching import Batcher, BatchingParameters
from serving.bundle import publish
from serving.client import RetrievalClient, wait_until_available
from serving.item_filter import ItemFilter
from serving.loaded_bundle import load_bundle
from tests.serving.conftest import Shop, request_of
from tests.serving.filter_oracle import HISTORY, LOVED, NAN, answered, best, expected, predict, tensors


class TestTogether:
    """Requests with other filters, or none, in one call of the model."""

    ASKED = (
        {"filter_category": ["home > mugs", "home > lamps", "home > trays"]},
        {},
        {"filter_price": (NAN, 20.0), "exclude_history": True},
        {"filter_item_ids": ["sku-1", "sku-2"]},
    )

    def requests(self) -> list[dict[str, Any]]:
        query = {"query": ["red mug"], "history_item_ids": HISTORY, "history_event_types": LOVED}
        return [request_of(**query, **tensors(filters)) for filters in self.ASKED]

    @pytest.mark.parametrize("signature", ["", "exact"])
    def test_each_keeps_its_own_filter(self, shop: Shop, signature: str) -> None:
        batcher = Batcher(BatchingParameters(4, 20_000_000, 1))
        batcher.start()
        caller = SimpleNamespace(entrypoint="GRPC", time_remaining=lambda: None, is_active=lambda: True)
        bundle = load_bundle(shop.bundle_dir)

        def run(signature: str, inputs: Any) -> Any:
            return batcher.run(bundle, signature, inputs, caller)

        def ask(request: Any) -> Any:
            request.model_spec.signature_name = signature
            return predict(bundle, request, run)

        with ThreadPoolExecutor(4) as pool:
            answers = list(pool.map(ask, self.requests()))
        batcher.stop()
        assert (batcher.calls, batcher.requests) == (1, 4)
        for filters, answer in zip(self.ASKED, answers, strict=True):
            query = {"query": ["red mug"], "history_item_ids": HISTORY, "history_event_types": LOVED}
            assert answered(answer) == expected(shop, filters, **query)

    def test_histories_of_other_lengths_exclude_no_other_items(self, shop: Shop) -> None:
        batcher = Batcher(BatchingParameters(3, 20_000_000, 1))
        batcher.start()
        caller = SimpleNamespace(entrypoint="GRPC", time_remaining=lambda: None, is_active=lambda: True)
        bundle = load_bundle(shop.bundle_dir)

        def run(signature: str, inputs: Any) -> Any:
            return batcher.run(bundle, signature, inputs, caller)

        histories: list[dict[str, Any]] = [
            {"history_item_ids": [["sku-1", "sku-2", "sku-3"]]},
            {"history_ages": [[1.0]]},  # of no item
            {},
        ]
        without = [request_of(query=["red mug"], **given) for given in histories]
        requests = [request_of(query=["red mug"], exclude_history=[True], **given) for given in histories]
        with ThreadPoolExecutor(3) as pool:
            answers = list(pool.map(lambda request: predict(bundle, request, run), requests))
        batcher.stop()
        assert (batcher.calls, batcher.requests) == (1, 3)
        assert not set(answered(answers[0])["ids"]) & {"sku-1", "sku-2", "sku-3"}
        for place in (1, 2):
            alone = answered(predict(bundle, without[place]))
            assert answered(answers[place])["ids"] == alone["ids"]

    def test_rows_of_one_request_have_filters_of_their_own(self, shop: Shop, stub) -> None:
        answer = stub.Predict(
            request_of(
                query=["red mug", "blue lamp", "vase"],
                filter_category=[["home > mugs", "home > lamps"], ["", ""], ["home > vases", ""]],
                filter_price=np.array([[NAN, NAN], [5, 20], [NAN, NAN]], np.float32),
            ),
            timeout=10,
        )
        mugs_and_lamps = {"filter_category": ["home > mugs", "home > lamps"]}
        assert answered(answer, 0) == expected(shop, mugs_and_lamps, query=["red mug"])
        assert answered(answer, 1) == expected(shop, {"filter_price": (5, 20)}, query=["blue lamp"])
        assert answered(answer, 2) == expected(shop, {"filter_category": ["home > vases"]}, query=["vase"])


@pytest.fixture(scope="module")
def cached(shop: Shop, tmp_path_factory: pytest.TempPathFactory) -> Iterator[servers.RetrievalServer]:
    push_dir = tmp_path_factory.mktemp("cached")
    publish(shop.bundle_dir, push_dir, 1)
    server = servers.start(push_dir, 0, poll_seconds=0.05, cache_mb=1, rest_port=0)
    wait_until_available(f"127.0.0.1:{server.port}")
    yield server
    server.stop()


def test_cache_tells_filters_apart(shop: Shop, cached: servers.RetrievalServer) -> None:
    cache = cached._monitoring._cache
    with grpc.insecure_channel(f"127.0.0.1:{cached.port}") as channel:
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        for hits in (0, 3):
            for filters in ({}, {"filter_price": (NAN, 20.0)}, {"filter_price": (20.0, NAN)}):
                answer = stub.Predict(request_of(query=["mug"], **tensors(filters)), timeout=10)
                assert answered(answer) == expected(shop, filters, query=["mug"])
            assert cache.hits == hits


def test_rest_takes_filters_by_row_and_by_column(shop: Shop, cached: servers.RetrievalServer) -> None:
    def ask(body: dict[str, Any]) -> Any:
        url = f"http://127.0.0.1:{cached.rest_port}/v1/models/retrieval:predict"
        with urllib.request.urlopen(url, json.dumps(body).encode(), timeout=10) as reply:
            return json.loads(reply.read(), parse_constant=lambda word: pytest.fail(f"{word} is no JSON"))

    filters = {"filter_price": [None, 20], "filter_brand": ["acme", None], "exclude_history": True}
    row = {"query": "mug", "history_item_ids": ["sku-3"], **filters}
    wanted = best(
        shop,
        {"filter_price": (NAN, 20), "filter_brand": ["acme"], "exclude_history": True},
        query=["mug"],
        history_item_ids=[["sku-3"]],
    )
    assert 0 < len(wanted) < 20
    (answer,) = ask({"instances": [row]})["predictions"]
    assert answer["item_ids"] == [item for item, _ in wanted] + [""] * (20 - len(wanted))
    assert answer["scores"][len(wanted) :] == [-3.4028235e38] * (20 - len(wanted))
    by_column = ask({"inputs": {name: [value] for name, value in row.items()}})["outputs"]
    assert (by_column["item_ids"], by_column["scores"]) == ([answer["item_ids"]], [answer["scores"]])
    with pytest.raises(urllib.error.HTTPError) as caught:
        ask({"instances": [{"query": "mug", "exclude_history": 1}]})
    assert b"input 'exclude_history' holds a int, expected true or false" in caught.value.read()


def test_client_filters(shop: Shop, address: str) -> None:
    chosen = ItemFilter(
        values={"category": ["home > mugs"], "brand": ["acme"]},
        ranges={"price": (None, 4.0)},
        without=["sku-0"],
        exclude_history=True,
    )
    filters = {
        "filter_category": ["home > mugs"],
        "filter_brand": ["acme"],
        "filter_price": (NAN, 4.0),
        "exclude_item_ids": ["sku-0"],
        "exclude_history": True,
    }
    wanted = best(shop, filters, query=["mug"], history_item_ids=[["sku-1"]])
    with RetrievalClient(address) as client:
        found = client.search("mug", ["sku-1"], k=10, filters=chosen)
        assert 0 < len(wanted) < 10
        assert found.item_ids == [item for item, _ in wanted]  # no more than there are
        np.testing.assert_allclose(found.scores, [score for _, score in wanted], rtol=1e-4)
        only = client.search("mug", k=10, filters=ItemFilter(only=["sku-7", "sku-8"]))
        assert set(only.item_ids) == {"sku-7", "sku-8"}
