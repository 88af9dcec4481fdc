"""The REST API: TensorFlow Serving's JSON over a socket, with the answers that gRPC gives."""

import http.client
import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.framework.tensor_pb2 import TensorProto
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

from serving import rest_json
from serving import server as servers
from serving.bundle import publish
from serving.client import wait_until_available
from tests.serving.conftest import Shop, request_of, wait_for

TOKEN = "query-0123456789abcdef"
PREDICT = "/v1/models/retrieval:predict"


class Rest:
    """A connection to a server whose version 1 is stable, and 2 the newest."""

    def __init__(self, port: int, grpc_port: int, token: str = "") -> None:
        self.port = port
        self.address = f"127.0.0.1:{grpc_port}"
        self.headers = {"Authorization": f"Bearer {token}"} if token else {}

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, Any]:
        """Status and decoded JSON; a body that is not bytes is encoded."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        connection.request(method, path, data, {**self.headers, **headers})
        response = connection.getresponse()
        text = response.read()
        connection.close()
        assert response.getheader("Content-Type") == "application/json"
        return response.status, json.loads(text)

    def predict(self, body: Any, path: str = PREDICT) -> dict[str, Any]:
        status, answer = self.ask("POST", path, body)
        assert status == 200, answer
        return answer

    def refusal(self, body: Any, path: str = PREDICT) -> tuple[int, str]:
        status, answer = self.ask("POST", path, body)
        assert answer.keys() == {"error"}
        return status, answer["error"]


@pytest.fixture(scope="module")
def rest(shop: Shop, other_shop: Shop, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rest]:
    folder = tmp_path_factory.mktemp("rest")
    for version, made in ((1, shop), (2, other_shop)):
        publish(made.bundle_dir, folder / "push", version)
    config = folder / "models.config"
    config.write_text(
        'model_config_list { config { name: "retrieval" model_version_policy { all {} }'
        ' version_labels { key: "stable" value: 1 } } }'
    )
    server = servers.start(
        folder / "push", 0, poll_seconds=0.05, model_config_file=str(config), rest_port=0, max_message_mb=1
    )
    for version in (1, 2):
        wait_until_available(f"127.0.0.1:{server.port}", version=version)
    assert server.rest_port
    yield Rest(server.rest_port, server.port)
    server.stop()


def test_columns_and_rows_get_what_grpc_gives(rest: Rest, other_shop: Shop) -> None:
    queries, history = ["red mug", "blue lamp"], [["sku-3", ""], ["sku-8", "sku-1"]]
    with grpc.insecure_channel(rest.address) as channel:
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        expected = stub.Predict(request_of(query=queries, history_item_ids=history), timeout=10).outputs
    ids = np.char.decode(tf.make_ndarray(expected["item_ids"]).astype(bytes)).tolist()
    scores = tf.make_ndarray(expected["scores"])
    columns = rest.predict({"inputs": {"query": queries, "history_item_ids": history}})["outputs"]
    assert columns["item_ids"] == ids
    np.testing.assert_array_equal(np.array(columns["scores"], np.float32), scores)  # to the last bit
    instances = [{"query": q, "history_item_ids": h} for q, h in zip(queries, history, strict=True)]
    rows = rest.predict({"instances": instances})["predictions"]
    assert [row["item_ids"] for row in rows] == ids
    np.testing.assert_array_equal(np.array([row["scores"] for row in rows], np.float32), scores)
    vector = other_shop.embed_queries(query=["red mug"])[0]
    named = rest.predict({"inputs": {"query": ["red mug"]}, "signature_name": "exact"})["outputs"]
    assert named["item_ids"][0] == other_shop.best(vector, 20)


def test_one_input_or_one_output_goes_without_its_name(rest: Rest, shop: Shop) -> None:
    item, title = shop.catalogue.item_ids[3], shop.catalogue.titles[3]
    body = {"signature_name": "items"}
    assert rest.predict({**body, "inputs": [item, "gone"]})["outputs"]["titles"] == [title, ""]
    rows = rest.predict({**body, "instances": [item, "gone"]})["predictions"]
    assert [row["titles"] for row in rows] == [title, ""]
    assert rest.predict({**body, "instances": [{"b64": "c2t1LTA="}]}) == rest.predict(
        {**body, "instances": [{"item_ids": "sku-0"}]}
    )  # base64 of "sku-0"
    embed = {"signature_name": "embed_item"}
    rows = rest.predict({**embed, "instances": [{"title": "red mug"}, {"title": "vase"}]})["predictions"]
    columns = rest.predict({**embed, "inputs": {"title": ["red mug", "vase"]}})["outputs"]
    assert rows == columns
    assert np.array(rows).shape == (2, 8)


def test_output_without_columns_has_its_rows_still() -> None:
    response = predict_pb2.PredictResponse()
    response.outputs["empty"].CopyFrom(tf.make_tensor_proto(np.zeros((2, 0), np.float32)))
    shape = tf.TensorShape([2, 1]).as_proto()
    one = TensorProto(dtype=tf.float32.as_datatype_enum, tensor_shape=shape, float_val=[0.1, float("nan")])
    response.outputs["one"].CopyFrom(one)
    # 0.1 as the shortest text that is this float32, not as 0.10000000149011612.
    assert (
        rest_json.predictions(response, by_row=False)
        == b'{"outputs": {"empty": [[], []], "one": [[0.1], [NaN]]}}'
    )


def test_null_nan_and_absence_all_mean_no_value(rest: Rest) -> None:
    absent = rest.predict({"instances": [{"query": "mug"}]})
    assert rest.predict({"instances": [{"query": "mug", "basket": None, "segment": None}]}) == absent
    assert rest.predict(b'{"instances": [{"query": "mug", "basket": NaN}]}') == absent
    assert rest.predict({"instances": [{"query": "mug", "basket": 7, "segment": ""}]}) != absent


def test_path_chooses_version_and_label(rest: Rest, shop: Shop, other_shop: Shop) -> None:
    body = {"inputs": {"query": ["red mug"]}}
    best = {
        1: shop.best(shop.embed_queries(query=["red mug"])[0], 20),
        2: other_shop.best(other_shop.embed_queries(query=["red mug"])[0], 20),
    }
    for part, version in (("", 2), ("/versions/2", 2), ("/versions/1", 1), ("/labels/stable", 1)):
        answer = rest.predict(body, f"/v1/models/retrieval{part}:predict")
        assert answer["outputs"]["item_ids"][0] == best[version]
    for part, reason in (
        ("retrieval/versions/9", "version 9 of 'retrieval' is not loaded, expected 1 or 2"),
        ("retrieval/labels/canary", "label 'canary' of 'retrieval' is unknown, expected one of stable"),
        ("ranking", "model 'ranking' is not served, expected 'retrieval'"),
    ):
        status, error = rest.refusal(body, f"/v1/models/{part}:predict")
        assert status == 404
        assert reason in error


def test_status_and_metadata_have_tensorflow_servings_shape(rest: Rest) -> None:
    def available(version: str) -> dict[str, Any]:
        return {
            "version": version,
            "state": "AVAILABLE",
            "status": {"error_code": "OK", "error_message": ""},
        }

    status, answer = rest.ask("GET", "/v1/models/retrieval")
    assert (status, answer) == (200, {"model_version_status": [available("2"), available("1")]})
    status, answer = rest.ask("GET", "/v1/models/retrieval/labels/stable")
    assert (status, answer) == (200, {"model_version_status": [available("1")]})
    assert rest.ask("GET", "/v1/models/retrieval/versions/9")[0] == 404
    status, answer = rest.ask("GET", "/v1/models/retrieval/versions/1/metadata")
    assert status == 200
    assert answer["model_spec"] == {"name": "retrieval", "signature_name": "", "version": "1"}
    items = answer["metadata"]["signature_def"]["signature_def"]["items"]
    assert items["inputs"]["item_ids"]["dtype"] == "DT_STRING"
    assert items["inputs"]["item_ids"]["tensor_shape"] == {
        "dim": [{"size": "-1", "name": ""}],
        "unknown_rank": False,
    }
    assert items["method_name"] == "tensorflow/serving/predict"


MALFORMED = {
    "empty": (b"", "the body is no JSON"),
    "broken": (b'{"inputs": ', "the body is no JSON"),
    "not UTF-8": (b'{"inputs": "\xff"}', "the body is no JSON"),
    "deep": (b'{"inputs": ' + b"[" * 100_000, r"the body is no JSON (RecursionError)"),
    "list": ([1], "the body is no JSON object"),
    "neither": ({}, "expected one of the keys 'instances' and 'inputs'"),
    "both": ({"inputs": {}, "instances": []}, "expected one of the keys"),
    "no rows": ({"instances": []}, "no list of at least one row"),
    "rows are text": ({"instances": "mug"}, "no list of at least one row"),
    "no name": ({"instances": ["mug"]}, "'instances' names no input, expected a value for some of basket"),
    "no columns": ({"inputs": {}}, "received no input"),
    "unknown input": ({"inputs": {"colour": ["red"]}}, "input 'colour' is unknown"),
    "name is a surrogate": (b'{"inputs": {"\\ud800": ["red"]}}', "not Unicode text"),
    "unknown signature": ({"inputs": ["x"], "signature_name": "rank"}, "signature 'rank' is unknown"),
    "odd signature": ({"inputs": ["x"], "signature_name": 3}, "signature_name is no text"),
    "surrogate signature": (b'{"inputs": ["x"], "signature_name": "\\ud800"}', "signature_name is no text"),
    "keys differ": ({"instances": [{"query": "a"}, {"segment": "b"}]}, "instance 1 has other keys"),
    "not all objects": ({"instances": [{"query": "a"}, "b"]}, "instance 1 has other keys"),
    "ragged": ({"inputs": {"history_item_ids": [["a"], []]}}, "entries of different lengths"),
    "half a list": ({"inputs": {"history_item_ids": [["a"], "b"]}}, "entries of different lengths"),
    "too deep": ({"inputs": {"query": [[[["a"]]]]}}, "expected [batch]"),
    "much too deep": ({"inputs": {"query": [[[[[[["a"]]]]]]]}}, "input 'query'"),
    "scalar": ({"inputs": {"query": "mug"}}, "has shape [], expected [batch]"),
    "number for text": ({"inputs": {"query": [1]}}, "input 'query' holds a int, expected strings"),
    "text for number": ({"inputs": {"basket": ["1"]}}, "input 'basket' holds a str, expected numbers"),
    "truth for number": ({"inputs": {"basket": [True]}}, "input 'basket' holds a bool"),
    "object for text": ({"inputs": {"query": [{"a": 1}]}}, "input 'query' holds a dict"),
    "no base64": ({"inputs": {"query": [{"b64": "?"}]}}, "cannot be encoded"),
    "odd base64": ({"inputs": {"query": [{"b64": 3}]}}, "cannot be encoded"),
    "surrogate": (b'{"inputs": {"query": ["\\ud800"]}}', "cannot be encoded"),
    "infinite": (b'{"inputs": {"basket": [Infinity]}}', "infinite number"),
    "beyond float32": ({"inputs": {"basket": [1e300]}}, "infinite number"),
    "beyond double": (b'{"inputs": {"basket": [1' + b"0" * 400 + b"]}}", "number too large"),
    "no batch": ({"inputs": {"query": []}}, "shape [0], expected [batch] with a batch of 1 to 1024"),
}  # fmt: skip


@pytest.mark.parametrize("case", MALFORMED)
def test_malformed_body_is_400_with_a_reason(rest: Rest, case: str) -> None:
    body, reason = MALFORMED[case]
    status, error = rest.refusal(body)
    assert status == 400
    assert reason in error


def test_odd_http_gets_its_code(rest: Rest) -> None:
    assert rest.refusal({"examples": []}, "/v1/models/retrieval:classify")[0] == 501
    assert rest.ask("GET", "/v1/models/retrieval:predict")[0] == 404
    assert rest.ask("POST", "/v1/models", {})[0] == 404
    assert rest.ask("GET", "/")[0] == 404
    assert rest.ask("DELETE", "/v1/models/retrieval")[0] == 501
    assert rest.ask("POST", PREDICT, b"x" * (1 << 20) + b"x")[0] == 413
    assert rest.ask("POST", PREDICT, b"{}", **{"Content-Encoding": "gzip"})[0] == 415
    assert rest.ask("POST", PREDICT, b"{}", **{"Content-Length": "-1"})[0] == 411
    assert rest.ask("POST", PREDICT, b"0\r\n\r\n", **{"Transfer-Encoding": "chunked"})[0] == 411
    with socket.create_connection(("127.0.0.1", rest.port), timeout=10) as raw:
        raw.sendall(b"\x16\x03\x01 no HTTP\r\n\r\n")
        assert b"Bad request" in raw.recv(1000)
    assert rest.predict({"inputs": {"query": ["mug"]}})


def test_one_connection_carries_many_requests(rest: Rest) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", rest.port, timeout=20)
    for _ in range(3):
        connection.request("POST", PREDICT, json.dumps({"inputs": {"query": ["mug"]}}))
        response = connection.getresponse()
        assert response.status == 200
        assert len(json.loads(response.read())["outputs"]["item_ids"][0]) == 20
    connection.close()


def test_rest_asks_for_the_same_token_and_place_and_does_no_work_for_who_left(
    shop: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokens = tmp_path / "tokens"
    tokens.write_text(f"query {TOKEN}\n")
    server = servers.start(
        tmp_path / "push", 0, poll_seconds=0.05, rest_port=0, tokens=str(tokens), max_in_flight=2, workers=1
    )
    assert server.rest_port
    body = {"inputs": {"query": ["mug"]}}
    assert Rest(server.rest_port, server.port).refusal(body)[0] == 401
    assert Rest(server.rest_port, server.port, TOKEN[:-1]).refusal(body)[0] == 401
    allowed = Rest(server.rest_port, server.port, TOKEN)
    assert allowed.refusal(body)[0] == 503
    publish(shop.bundle_dir, tmp_path / "push", 1)
    wait_for(lambda: allowed.ask("POST", PREDICT, body)[0] == 200)

    bundle, asked = server._watcher.current, []
    run = bundle.run
    monkeypatch.setattr(
        bundle, "run", lambda name, inputs: asked.extend(inputs["query"]) or run(name, inputs)
    )
    data = json.dumps({"inputs": {"query": ["left"]}}).encode()
    head = f"POST {PREDICT} HTTP/1.1\r\nAuthorization: Bearer {TOKEN}\r\nContent-Length: {len(data)}\r\n\r\n"
    with server._gate.turn(AlwaysThere()):  # the one worker is busy
        leaving = socket.create_connection(("127.0.0.1", server.rest_port), timeout=10)
        leaving.sendall(head.encode() + data)
        wait_for(lambda: server._gate.in_flight == 2)
        assert allowed.refusal(body)[0] == 429
        leaving.close()
    wait_for(lambda: server._gate.in_flight == 0)
    assert allowed.predict(body)["outputs"]["item_ids"]
    assert asked == [b"mug"]
    server.stop()


class AlwaysThere:
    entrypoint = "REST"

    def time_remaining(self) -> None:
        return None

    def is_active(self) -> bool:
        return True
