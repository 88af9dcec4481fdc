"""Requests that arrive together are answered in one call, and questions asked before from the cache."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import grpc
import numpy as np
import pytest
import tensorflow as tf
from prometheus_client import CollectorRegistry
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

from serving import server as servers
from serving.batching import Batcher, BatchingParameters, _Waiting
from serving.batching_file import read_batching_parameters
from serving.bundle import publish
from serving.client import wait_until_available
from serving.loaded_bundle import load_bundle
from serving.request_inputs import RequestError
from serving.server_options import ServerOptions
from tests.serving.conftest import Shop, request_of, wait_for
from transform.errors import TandemError

# The first request waits long for seven more: the eighth closes the batch, so that no time is lost.
PARAMETERS = (
    "max_batch_size { value: 8 } batch_timeout_micros { value: 20000000 } num_batch_threads { value: 1 }"
)
QUESTIONS = [
    {"query": ["red mug"], "history_item_ids": [["sku-3", "sku-8", "sku-1"]]},
    {"query": ["blue lamp"]},
    {"query": [""], "history_item_ids": [["sku-5"]], "history_event_types": [["purchase"]]},
    {"query": ["vase"], "history_item_ids": [["sku-5"]], "history_ages": np.array([[2.0]], np.float32)},
    {"segment": ["gold"], "basket": np.array([7.0], np.float32)},
    {"query": ["green box"], "segment": ["gold"]},
    {"query": ["white plate", "pink tray"]},  # two rows: eight in all
]


class Batched:
    """A server that answers eight rows at once, and keeps its answers."""

    def __init__(self, server: servers.RetrievalServer, push_dir: Path, channel: grpc.Channel) -> None:
        self.push_dir = push_dir
        self.bundle = server._watcher.current
        self.monitoring = server._monitoring
        self.batcher, self.cache = server._monitoring._batcher, server._monitoring._cache
        self.stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)

    def ask_together(self, signature: str = "") -> list[predict_pb2.PredictResponse | grpc.RpcError]:
        def ask(question: dict) -> predict_pb2.PredictResponse | grpc.RpcError:
            try:
                return self.stub.Predict(request_of(signature, **question), timeout=60)
            except grpc.RpcError as error:
                return error

        with ThreadPoolExecutor(len(QUESTIONS)) as pool:
            return list(pool.map(ask, QUESTIONS))


@pytest.fixture(scope="module")
def batched(shop: Shop, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Batched]:
    folder = tmp_path_factory.mktemp("batched")
    (folder / "batching.txt").write_text(PARAMETERS)
    publish(shop.bundle_dir, folder / "push", 1)
    server = servers.start(
        folder / "push",
        0,
        poll_seconds=0.05,
        batching_parameters_file=str(folder / "batching.txt"),
        cache_mb=1,
    )
    wait_until_available(f"127.0.0.1:{server.port}")
    with grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        yield Batched(server, folder / "push", channel)
    server.stop()


def test_requests_of_different_lengths_are_answered_in_one_call_as_if_alone(
    batched: Batched, stub: prediction_service_pb2_grpc.PredictionServiceStub
) -> None:
    calls, requests = batched.batcher.calls, batched.batcher.requests
    together = batched.ask_together("exact")
    assert (batched.batcher.calls - calls, batched.batcher.requests - requests) == (1, len(QUESTIONS))
    for question, answer in zip(QUESTIONS, together, strict=True):
        alone = stub.Predict(
            request_of("exact", **question), timeout=10
        ).outputs  # another server, no batches
        assert list(answer.outputs["item_ids"].string_val) == list(alone["item_ids"].string_val)
        scores, expected = tf.make_ndarray(answer.outputs["scores"]), tf.make_ndarray(alone["scores"])
        np.testing.assert_allclose(scores, expected, rtol=1e-4, atol=1e-5)


def test_a_request_that_fails_does_not_take_the_others_with_it(
    batched: Batched, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = batched.bundle.run

    def fragile(signature, inputs):
        if b"blue lamp" in inputs["query"].tolist():
            raise ValueError("a query vector is not finite")
        return run(signature, inputs)

    monkeypatch.setattr(batched.bundle, "run", fragile)
    answers = batched.ask_together()
    assert answers[1].code() == grpc.StatusCode.INTERNAL
    for question, answer in zip(QUESTIONS, answers, strict=True):
        if question is not QUESTIONS[1]:
            assert len(tf.make_ndarray(answer.outputs["scores"])) == len(next(iter(question.values())))


def test_question_asked_before_is_answered_from_the_cache_until_the_next_version(
    batched: Batched, other_shop: Shop
) -> None:
    titles = request_of("items", item_ids=["sku-0", "sku-9"])  # is never batched, so nothing waits
    first = batched.stub.Predict(titles, timeout=10)
    hits = batched.cache.hits
    assert batched.stub.Predict(titles, timeout=10) == first
    assert batched.cache.hits == hits + 1
    assert batched.stub.Predict(request_of("items", item_ids=["sku-0"]), timeout=10) != first
    assert batched.cache.hits == hits + 1
    publish(other_shop.bundle_dir, batched.push_dir, 2)
    wait_for(lambda: batched.stub.Predict(titles, timeout=10).model_spec.version.value == 2)


def test_who_leaves_before_the_batch_is_counted_holds_no_place_and_is_left_out(batched: Batched) -> None:
    late, gone = request_of(query=["red mug"]), batched.stub.Predict.future(request_of(query=["vase"]))
    with pytest.raises(grpc.RpcError) as refused:
        batched.stub.Predict(late, timeout=0.3)
    assert refused.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
    wait_for(lambda: batched.monitoring._counts["DEADLINE_EXCEEDED"] == 1)
    assert batched.monitoring._gate.in_flight == 1
    gone.cancel()
    wait_for(lambda: batched.monitoring._counts["CANCELLED"] == 1)
    assert batched.monitoring._gate.in_flight == 0
    wait_for(lambda: not batched.batcher._waiting and not batched.batcher._rows)


class Patient:
    """A caller who waits for ever, until the test says otherwise."""

    entrypoint = "GRPC"
    seconds: float | None = None
    active = True

    def time_remaining(self) -> float | None:
        return self.seconds

    def is_active(self) -> bool:
        return self.active


class TestBatcher:
    """What is put together, and what is not."""

    @pytest.fixture(scope="class")
    def bundle(self, shop: Shop):
        return load_bundle(shop.bundle_dir)

    def inputs(self, bundle, rows: int) -> dict[str, np.ndarray]:
        query = np.array([b"red mug"] * rows, object)
        filled = {"query": query}
        for name, spec in bundle.specs["exact"].items():
            if name != "query":
                empty = b"" if spec.dtype == tf.string else np.nan
                filled[name] = np.full((rows, 0)[: spec.shape.rank], empty, spec.dtype.as_numpy_dtype)
        return filled

    @pytest.fixture
    def batcher(self) -> Iterator[Batcher]:
        """A minute to wait for four rows, in one place: whoever waits, waits in vain."""
        batcher = Batcher(BatchingParameters(4, 60_000_000, 1))
        batcher.start()
        yield batcher
        batcher.stop()

    def test_full_batches_other_signatures_and_large_requests_do_not_wait(self, bundle, batcher) -> None:
        alone = batcher.run(bundle, "exact", self.inputs(bundle, 5), Patient())
        assert alone["item_ids"].shape == (5, 20)
        batcher.run(bundle, "items", {"item_ids": np.array([b"sku-0"], object)}, Patient())
        assert (batcher.calls, batcher.requests) == (2, 2)

        def ask(rows: int) -> int:
            return len(batcher.run(bundle, "exact", self.inputs(bundle, rows), Patient())["item_ids"])

        with ThreadPoolExecutor(3) as pool:
            assert list(pool.map(ask, (2, 1, 1))) == [2, 1, 1]
        # 3 rows do not fit beside 2: the first batch is closed for them, and the last row fills the second.
        with ThreadPoolExecutor(3) as pool:
            answers = [pool.submit(ask, 2)]
            wait_for(lambda: batcher._waiting)
            answers.append(pool.submit(ask, 3))
            assert answers[0].result(30) == 2
            answers.append(pool.submit(ask, 1))
            assert [answer.result(30) for answer in answers] == [2, 3, 1]
        assert (batcher.calls, batcher.requests) == (5, 8)
        assert (
            not batcher._waiting and not batcher._rows
        )  # nothing is kept, so that a replaced version can go

    def test_large_requests_take_a_place_like_batches(self, bundle, batcher, monkeypatch) -> None:
        free, computing = threading.Event(), []
        run = bundle.run

        def slow(signature, inputs):
            computing.append(len(inputs["query"]))
            assert free.wait(30)
            return run(signature, inputs)

        monkeypatch.setattr(bundle, "run", slow)
        with ThreadPoolExecutor(2) as pool:
            inputs = [self.inputs(bundle, rows) for rows in (5, 6)]
            answers = [pool.submit(batcher.run, bundle, "exact", asked, Patient()) for asked in inputs]
            wait_for(lambda: computing and batcher._waiting)
            assert len(computing) == 1  # there is one place
            free.set()
            assert [len(answer.result(30)["item_ids"]) for answer in answers] == [5, 6]

    def test_what_nobody_waits_for_any_more_is_not_computed(self, bundle, batcher, monkeypatch) -> None:
        computed = []
        run = bundle.run
        monkeypatch.setattr(bundle, "run", lambda s, i: computed.append(len(i["query"])) or run(s, i))
        late, gone = Patient(), Patient()

        def ask(caller: Patient) -> dict[str, np.ndarray] | RequestError:
            try:
                return batcher.run(bundle, "exact", self.inputs(bundle, 1), caller)
            except RequestError as error:
                return error

        with ThreadPoolExecutor(4) as pool:
            waiting = [pool.submit(ask, caller) for caller in (late, Patient(), gone)]
            wait_for(lambda: batcher._rows == 3)
            late.seconds, gone.active = 0.0, False
            whole = ask(Patient())  # the fourth row fills the batch
            assert [w.result(30).status for w in (waiting[0], waiting[2])] == [
                "DEADLINE_EXCEEDED",
                "CANCELLED",
            ]
            np.testing.assert_array_equal(waiting[1].result(30)["item_ids"], whole["item_ids"])
        assert computed == [2]  # rows: those of the two who waited

    def test_sizes_and_waits_are_told(self, bundle, batcher) -> None:
        for rows in (5, 6):
            batcher.run(bundle, "exact", self.inputs(bundle, rows), Patient())
        registry = CollectorRegistry()
        registry.register(batcher.sizes)
        registry.register(batcher.waits)

        def of(name: str, labels: dict[str, str] | None = None) -> float | None:
            return registry.get_sample_value(f":tensorflow:serving:{name}", labels)

        assert of("batching:processed_batch_size_sum") == 11
        assert of("batching:processed_batch_size_bucket", {"le": "4.0"}) == 0
        assert of("batching:processed_batch_size_bucket", {"le": "8.0"}) == 2
        assert of("batching_session:queuing_latency_count") == 2
        assert 0 < of("batching_session:queuing_latency_sum") < 60e6


def test_each_of_two_places_takes_half_of_what_is_there() -> None:
    batcher = Batcher(BatchingParameters(64, 0, 2))  # does not begin: the test takes what is due
    bundle: Any = SimpleNamespace(manifest=SimpleNamespace(version=1))
    for _ in range(80):
        batcher._join(
            (1, "exact"), _Waiting(bundle, "exact", {"query": np.array([b"red mug"])}, Patient(), int, None)
        )
    # Half of 80, twice: rows that are being answered count, since who asked for them asks again.
    assert [len(batcher._take()) for _ in range(2)] == [40, 40]
    for _ in range(200):
        batcher._join(
            (1, "exact"), _Waiting(bundle, "exact", {"query": np.array([b"red mug"])}, Patient(), int, None)
        )
    assert [len(batcher._take()) for _ in range(4)] == [64, 64, 64, 8]


def test_batching_parameters_are_read_in_tensorflow_servings_format(tmp_path: Path) -> None:
    path = tmp_path / "batching.txt"
    path.write_text(PARAMETERS)
    assert read_batching_parameters(str(path)) == BatchingParameters(8, 20_000_000, 1)
    path.write_text("")
    assert read_batching_parameters(str(path)) == BatchingParameters()
    for text, reason in (
        ("max_batch_size { value: 0 }", "max_batch_size is 0, expected at least 1"),
        ("batch_timeout_micros { value: -1 }", "batch_timeout_micros is -1, expected at least 0"),
        ("max_batch_size: 8", "expected some of max_batch_size, batch_timeout_micros, num_batch_threads"),
        ("allowed_batch_sizes: 8", "expected some of max_batch_size"),
    ):
        path.write_text(text)
        with pytest.raises(TandemError, match=reason):
            read_batching_parameters(str(path))
    with pytest.raises(TandemError, match="gone cannot be read"):
        read_batching_parameters(str(tmp_path / "gone"))
    with pytest.raises(TandemError, match="--cache-mb is -1, expected at least 0"):
        ServerOptions(tmp_path, 0, cache_mb=-1)
