"""Requests that arrive together are answered in one call, and questions asked before from the cache."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

from serving import server as servers
from serving.answer_cache import AnswerCache
from serving.batching import Batcher, BatchingParameters
from serving.batching_file import read_batching_parameters
from serving.bundle import publish
from serving.client import wait_until_available
from serving.loaded_bundle import load_bundle
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

    def test_full_batches_other_signatures_and_large_requests_do_not_wait(self, bundle) -> None:
        batcher = Batcher(BatchingParameters(4, 60_000_000, 1))  # a minute: whoever waits, waits in vain
        alone = batcher.run(bundle, "exact", self.inputs(bundle, 5))
        assert alone["item_ids"].shape == (5, 20)
        batcher.run(bundle, "items", {"item_ids": np.array([b"sku-0"], object)})
        assert batcher.calls == 0
        with ThreadPoolExecutor(3) as pool:
            rows = list(pool.map(lambda n: batcher.run(bundle, "exact", self.inputs(bundle, n)), (2, 1, 1)))
        assert sorted(len(answer["item_ids"]) for answer in rows) == [1, 1, 2]
        # 3 rows do not fit beside 2: the first batch is closed for them, and the last row fills the second.
        with ThreadPoolExecutor(3) as pool:
            answers = [pool.submit(batcher.run, bundle, "exact", self.inputs(bundle, 2))]
            wait_for(lambda: batcher._open)
            answers.append(pool.submit(batcher.run, bundle, "exact", self.inputs(bundle, 3)))
            answers[0].result(30)
            answers.append(pool.submit(batcher.run, bundle, "exact", self.inputs(bundle, 1)))
            assert [len(answer.result(30)["item_ids"]) for answer in answers] == [2, 3, 1]
        assert not batcher._open  # nothing is kept, so that a replaced version can go


def test_half_of_many_waiting_requests_are_left_for_the_next_batches() -> None:
    batcher = Batcher(BatchingParameters(64, 0, 2))
    one = {"query": np.array([b"red mug"], object)}
    batches = [batcher._join((1, "exact"), one, 1)[0] for _ in range(128)]
    sizes = [batch.rows for batch in dict.fromkeys(batches)]
    # Of n that are there, two calls at once take n / 4 each: the fifth is closed at 85 = 64 + 21, the next at 113.
    assert sizes == [16, 16, 16, 16, 21, 28, 15]
    assert [batch.full.is_set() for batch in dict.fromkeys(batches)] == [True] * 6 + [False]


def test_cache_lets_go_of_what_was_asked_longest_ago() -> None:
    def answer(size: int) -> predict_pb2.PredictResponse:
        response = predict_pb2.PredictResponse()
        response.outputs["titles"].string_val.append(b"x" * size)
        return response

    def ask(item: str) -> predict_pb2.PredictResponse | None:
        key, found = cache.get(1, 0, request_of("items", item_ids=[item]))
        if found is None:
            cache.put(key, answer(400))
        return found

    cache = AnswerCache(1_000)  # room for two of these
    assert [ask(item) for item in ("a", "b")] == [None, None]
    assert ask("a") == answer(400)
    assert ask("c") is None  # which drives out b
    assert ask("a") and ask("c")
    assert ask("b") is None
    assert cache.get(2, 0, request_of("items", item_ids=["a"]))[1] is None  # another version, another answer
    assert cache.get(1, 1, request_of("items", item_ids=["a"]))[1] is None  # and another catalogue
    key, _ = cache.get(1, 0, request_of("items", item_ids=["large"]))
    cache.put(key, answer(2_000))
    assert cache.get(1, 0, request_of("items", item_ids=["large"]))[1] is None
    assert ask("b")  # and what was there is still there


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
