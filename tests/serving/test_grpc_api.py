"""The gRPC API around Predict: health, reflection, what is not offered, deadlines and overload."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from tensorflow_serving.apis import (
    classification_pb2,
    inference_pb2,
    prediction_service_pb2_grpc,
    regression_pb2,
)

from serving import server as servers
from serving.bundle import publish
from serving.client import wait_until_available
from serving.server_options import ServerOptions
from tests.serving.conftest import Shop, request_of, wait_for
from transform.errors import TandemError

SERVING, NOT_SERVING = health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING


def test_health_is_serving_only_once_a_version_answers(shop: Shop, tmp_path: Path) -> None:
    push_dir = tmp_path / "push"
    server = servers.start(push_dir, 0, poll_seconds=0.05)
    with grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        health = health_pb2_grpc.HealthStub(channel)
        seen = health.Watch(health_pb2.HealthCheckRequest(), timeout=60)
        assert next(seen).status == NOT_SERVING
        assert health.Check(health_pb2.HealthCheckRequest(), timeout=10).status == NOT_SERVING
        publish(shop.bundle_dir, push_dir, 1)
        assert next(seen).status == SERVING
        # At the very moment that the watcher hears of it, the version answers.
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        assert stub.Predict(request_of(query=["mug"]), timeout=10).model_spec.version.value == 1
        named = health_pb2.HealthCheckRequest(service="tensorflow.serving.PredictionService")
        assert health.Check(named, timeout=10).status == SERVING
        with pytest.raises(grpc.RpcError) as caught:
            health.Check(health_pb2.HealthCheckRequest(service="shop"), timeout=10)
        assert caught.value.code() == grpc.StatusCode.NOT_FOUND
        server.stop()
        assert next(seen).status == NOT_SERVING  # load balancers hear of it before the port closes


def test_reflection_lists_the_services_and_describes_predict(address: str) -> None:
    with grpc.insecure_channel(address) as channel:
        stub = reflection_pb2_grpc.ServerReflectionStub(channel)
        asked = [
            reflection_pb2.ServerReflectionRequest(list_services=""),
            reflection_pb2.ServerReflectionRequest(
                file_containing_symbol="tensorflow.serving.PredictionService"
            ),
        ]
        listed, described = stub.ServerReflectionInfo(iter(asked), timeout=10)
    assert {service.name for service in listed.list_services_response.service} == {
        "tensorflow.serving.PredictionService",
        "tensorflow.serving.ModelService",
        "tandem.Catalog",
        "grpc.health.v1.Health",
        "grpc.reflection.v1alpha.ServerReflection",
    }
    files = described.file_descriptor_response.file_descriptor_proto
    assert any(b"prediction_service.proto" in file for file in files)


def test_what_is_not_offered_is_unimplemented_with_a_reason(stub) -> None:
    calls = {
        "MultiInference": (stub.MultiInference, inference_pb2.MultiInferenceRequest()),
        "Classify": (stub.Classify, classification_pb2.ClassificationRequest()),
        "Regress": (stub.Regress, regression_pb2.RegressionRequest()),
    }
    for name, (call, request) in calls.items():
        with pytest.raises(grpc.RpcError) as caught:
            call(request, timeout=10)
        assert caught.value.code() == grpc.StatusCode.UNIMPLEMENTED
        assert caught.value.details().startswith(f"{name} is not offered: ")


def test_message_that_is_not_the_methods_or_has_a_tail_is_an_invalid_argument(address: str) -> None:
    good = request_of(query=["mug"]).SerializeToString()
    with grpc.insecure_channel(address) as channel:
        predict = channel.unary_unary("/tensorflow.serving.PredictionService/Predict")
        assert predict(good, timeout=10)
        for broken in (b"\xff", good[:-1], good + b"\x0crest"):  # 0x0c ends a group that never began
            with pytest.raises(grpc.RpcError, match="the message is not what Predict takes") as caught:
                predict(broken, timeout=10)
            assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT


class Busy(NamedTuple):
    """A server with one worker, which is held up by a request that is in flight.

    Attributes:
      stub: for further requests; three may be in flight.
      go_on: ends the hold-up.
      began: queries whose work began.
      in_flight: how many requests the server works on or keeps waiting.
    """

    stub: prediction_service_pb2_grpc.PredictionServiceStub
    health: health_pb2_grpc.HealthStub
    go_on: threading.Event
    began: list[bytes]
    first: grpc.Future
    in_flight: Callable[[], int]


@pytest.fixture
def busy(push_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Busy]:
    server = servers.start(push_dir, 0, poll_seconds=0.05, workers=1, max_in_flight=3)
    address = f"127.0.0.1:{server.port}"
    wait_until_available(address)
    bundle = server._watcher.current
    run, go_on, working = bundle.run, threading.Event(), threading.Event()
    began: list[bytes] = []

    def slow(signature, inputs):
        began.append(inputs["query"][0])
        working.set()
        assert go_on.wait(30)
        return run(signature, inputs)

    monkeypatch.setattr(bundle, "run", slow)
    with grpc.insecure_channel(address) as channel:
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        first = stub.Predict.future(request_of(query=["first"]), timeout=30)
        assert working.wait(10)
        health = health_pb2_grpc.HealthStub(channel)
        yield Busy(stub, health, go_on, began, first, lambda: server._gate.in_flight)
        go_on.set()
        first.result()
        server.stop()


def test_work_of_a_request_whose_deadline_passed_or_whose_client_left_is_not_done(busy: Busy) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        busy.stub.Predict(request_of(query=["late"]), timeout=0.2)
    assert caught.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
    wait_for(lambda: busy.in_flight() == 1)  # the server has given it up, too
    left = busy.stub.Predict.future(request_of(query=["left"]), timeout=30)
    stays = busy.stub.Predict.future(request_of(query=["stays"]), timeout=30)
    left.cancel()
    busy.go_on.set()
    assert stays.result().model_spec.version.value == 1
    busy.first.result()
    assert busy.began == [b"first", b"stays"]


def test_one_request_too_many_is_refused_at_once_while_health_is_answered(busy: Busy) -> None:
    waiting = [busy.stub.Predict.future(request_of(query=["waits"]), timeout=30) for _ in range(2)]

    wait_for(lambda: busy.in_flight() == 3)

    def refusal(_: int) -> tuple[str, str]:
        with pytest.raises(grpc.RpcError) as caught:
            busy.stub.Predict(request_of(query=["too many"]), timeout=20)
        return caught.value.code().name, caught.value.details()

    with ThreadPoolExecutor(20) as pool:
        for status, details in pool.map(refusal, range(40)):
            assert status == "RESOURCE_EXHAUSTED"
            assert "3 requests are in flight, expected fewer than 3" in details
    assert busy.health.Check(health_pb2.HealthCheckRequest(), timeout=10).status == SERVING
    busy.go_on.set()
    assert all(future.result().model_spec.version.value == 1 for future in waiting)
    assert busy.stub.Predict(request_of(query=["mug"]), timeout=10).outputs  # there is room again


@pytest.mark.parametrize("field", ["max_in_flight", "max_message_mb"])
def test_limits_below_one_are_refused(field: str, tmp_path: Path) -> None:
    with pytest.raises(TandemError, match=f"--{field.replace('_', '-')} is 0, expected at least 1"):
        ServerOptions(tmp_path, 0, **{field: 0})
