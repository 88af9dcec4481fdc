"""A server that is killed while it is asked, and comes back on the same port."""

import collections
import sys
import threading
import time
from pathlib import Path

import grpc
import numpy as np
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

from benchmarks.processes import Process
from serving.catalogue_client import CatalogueClient
from serving.client import wait_until_available
from tests.serving.conftest import request_of, wait_for

CLIENTS = 4
QUESTIONS = [request_of(query=[query]) for query in ("red mug", "blue lamp", "vase", "pink tray", "")]


class Clients:
    """Ask one question after another until they are told to stop; a refused one is asked again.

    Attributes:
      statuses: how often each status came.
      wrong: answers that are not the expected ones.
    """

    def __init__(self, address: str, expected: list[predict_pb2.PredictResponse]) -> None:
        self.statuses: collections.Counter[str] = collections.Counter()
        self.wrong: list[predict_pb2.PredictResponse] = []
        self._address = address
        self._expected = expected
        self._stopping = threading.Event()
        self._threads = [threading.Thread(target=self._ask) for _ in range(CLIENTS)]

    def __enter__(self) -> "Clients":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        for thread in self._threads:
            thread.join()

    def _ask(self) -> None:
        options = [("grpc.use_local_subchannel_pool", 1), ("grpc.max_reconnect_backoff_ms", 200)]
        with grpc.insecure_channel(self._address, options) as channel:
            stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
            number = 0
            while not self._stopping.is_set():
                place = number % len(QUESTIONS)
                number += 1
                try:
                    answer = stub.Predict(QUESTIONS[place], timeout=60)
                except grpc.RpcError as error:
                    self.statuses[error.code().name] += 1
                    time.sleep(0.02)
                    continue
                self.statuses["OK"] += 1
                if not same(answer, self._expected[place]):
                    self.wrong.append(answer)


def same(one: predict_pb2.PredictResponse, other: predict_pb2.PredictResponse) -> bool:
    """Whether version and items are equal, and scores but for the order in which a batch adds them up."""
    scores = [tf.make_ndarray(answer.outputs["scores"]) for answer in (one, other)]
    return (
        one.model_spec == other.model_spec
        and one.outputs["item_ids"] == other.outputs["item_ids"]
        and np.allclose(*scores, rtol=1e-4, atol=1e-5)
    )


def serve(push_dir: Path, port: int) -> Process:
    """`tandem serve` with batches and a cache."""
    (push_dir.parent / "batching.txt").write_text("")
    options = ["--batching-parameters-file", str(push_dir.parent / "batching.txt"), "--cache-mb", "1"]
    command = [sys.executable, "-m", "pipeline.cli", "serve", "--push-dir", str(push_dir), *options]
    return Process([*command, "--port", str(port)], "listening on ")


def test_clients_of_a_killed_server_find_it_unavailable_and_then_as_it_was(push_dir: Path) -> None:
    with serve(push_dir, 0) as first:
        wait_until_available(first.address)
        with CatalogueClient(first.address) as client:
            client.apply(upsert=[{"item_id": "new", "title": "red mug red mug"}], delete=["sku-1"])
        with grpc.insecure_channel(first.address) as channel:
            stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
            expected = [stub.Predict(question, timeout=60) for question in QUESTIONS]
        assert expected[0].outputs["item_ids"].string_val[0] == b"new"
        assert all(b"sku-1" not in answer.outputs["item_ids"].string_val for answer in expected)
        with Clients(first.address, expected) as clients:
            wait_for(lambda: clients.statuses["OK"] >= 50)
            first.kill()
            wait_for(lambda: clients.statuses["UNAVAILABLE"] >= CLIENTS)
            before = clients.statuses["OK"]
            with serve(push_dir, int(first.address.rpartition(":")[2])):
                wait_for(lambda: clients.statuses["OK"] >= before + 50, seconds=120)
                clients.__exit__()
    assert clients.statuses.keys() == {"OK", "UNAVAILABLE"}
    assert clients.wrong == []
