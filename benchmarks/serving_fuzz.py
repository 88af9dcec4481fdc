"""Sends random and broken requests to a running server; every reply must be a right answer or a fitting refusal."""

import argparse
import collections
import http.client
import json
import random
import sys
from collections.abc import Callable
from typing import Any

import grpc
import numpy as np
import tensorflow as tf
from tensorflow.core.framework.tensor_pb2 import TensorProto
from tensorflow_serving.apis import predict_pb2

MODEL = "retrieval"
ALLOWED = {"OK", "INVALID_ARGUMENT", "NOT_FOUND", "RESOURCE_EXHAUSTED"}
# 413 is RESOURCE_EXHAUSTED of one message; 411 and 501 are HTTP that is not the API's.
ALLOWED_HTTP = {200, 400, 404, 411, 413, 429, 501}
METHODS = (
    "tensorflow.serving.PredictionService/Predict",
    "tensorflow.serving.PredictionService/GetModelMetadata",
    "tensorflow.serving.ModelService/GetModelStatus",
)
TEXTS = ("query", "segment", "history_item_ids", "history_event_types")
QUERY = (*TEXTS, "history_ages", "basket")
LISTS = ("filter_brand", "filter_category", "filter_item_ids", "exclude_item_ids")
FILTERS = (*LISTS, "filter_price", "exclude_history")
NAMES = (*QUERY, *FILTERS, "k", "price", "examples", "item_ids", "item_id", "")
SIGNATURES = (
    "",
    "",
    "",
    "",
    "",
    "",
    "",
    "exact",
    "exact",
    "embed_query",
    "embed_item",
    "items",
    "related",
    "evaluate",
    "classify",
    "\x00",
)


class Fuzzer:
    """Makes requests from a seed, sends them and looks at the replies.

    Attributes:
      counts: how often each status came; those of HTTP as "HTTP 400".
    """

    def __init__(self, address: str, rest_port: int | None, seed: int) -> None:
        self.counts: collections.Counter[str] = collections.Counter()
        self._random = random.Random(seed)
        self._rest_port = rest_port
        self._host = address.rpartition(":")[0]
        size = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
        channel = grpc.insecure_channel(address, options=size)
        self._calls = [channel.unary_unary(f"/{method}") for method in METHODS]
        self._expected = self._predict(self._good())

    def run(self, requests: int) -> None:
        """Sends so many.

        Raises:
          AssertionError: a reply is neither a right answer nor a fitting refusal.
        """
        kinds: list[Callable[[], None]] = [self._structured] * 6 + [self._bytes, self._mutated, self._big]
        if self._rest_port:
            kinds += [self._rest] * 3
        for number in range(requests):
            self._random.choice(kinds)()
            if number % 100 == 99 or number == requests - 1:
                assert self._predict(self._good()) == self._expected, "a good request is answered differently"

    def _structured(self) -> None:
        """A request of the right kind with whatever tensors."""
        request = predict_pb2.PredictRequest()
        spec = request.model_spec
        spec.name = self._random.choice([MODEL] * 50 + ["", "ranking", "\u2603" * 50])
        spec.signature_name = self._random.choice(SIGNATURES)
        if self._random.random() < 0.05:
            spec.version.value = self._random.choice([-1, 0, 1, 7, 1 << 62])
        elif self._random.random() < 0.03:
            spec.version_label = self._random.choice(["", "stable", "x" * 1000])
        if self._random.random() < 0.1:
            request.output_filter.append(self._random.choice(["scores", "item_ids", "", "x" * 1000]))
        rows = self._random.choice([1, 1, 1, 1, 2, 2, 3, 3, 0, 1024, 1025])
        others = {"items": ("item_ids",), "evaluate": ("examples",), "related": ("item_id",)}
        fitting = others.get(spec.signature_name, QUERY)
        if spec.signature_name in ("", "exact") and self._random.random() < 0.5:
            fitting = (*QUERY, *FILTERS)
        names = fitting if self._random.random() < 0.85 else NAMES
        columns = (
            self._random.choice([0, 0, 1, 3, 1000, 1001]) if rows < 1000 else self._random.choice([0, 2])
        )
        for name in self._random.sample(names, min(len(names), self._random.choice([1, 1, 1, 2, 3, 6]))):
            request.inputs[name].CopyFrom(self._tensor(name, rows, columns))
        self._check(request.SerializeToString(), request)

    def _tensor(self, name: str, rows: int, columns: int) -> TensorProto:
        """The right type and shape most of the time, with odd values in it."""
        choose = self._random.choice
        shape = [rows, columns] if name.startswith("history") else [rows]
        if name in LISTS:
            shape = [rows, choose([0, 1, 5])]
        elif name == "filter_price":
            shape = [rows, 2]
        if self._random.random() < 0.1:
            shape = [choose([-1, 0, 1, 2, 1 << 40]) for _ in range(choose([0, 1, 2, 3, 12]))]
        texts = (*TEXTS, *LISTS, "examples", "item_ids", "item_id")
        as_text = (name in texts) != (self._random.random() < 0.05)
        tensor = TensorProto(dtype=(tf.string if as_text else tf.float32).as_datatype_enum)
        if name == "exclude_history" and not as_text:
            tensor.dtype = tf.bool.as_datatype_enum
        if self._random.random() < 0.05:
            tensor.dtype = choose([0, 2, 3, 9, 20, 101, 5000])
        for size in shape:
            tensor.tensor_shape.dim.add().size = size
        count = int(np.prod([max(0, size) for size in shape], dtype=object)) if shape else 1
        count = min(count, 5000) + choose([0] * 19 + [1])
        if as_text:
            odd = [b"", b"red mug", b"sku-3", b"\xff\xfe", b"\x00", "\u00e9\U0001f375".encode(), b"x" * 3000]
            kept = odd if self._random.random() < 0.3 else odd[:3]
            tensor.string_val.extend(choose(kept) for _ in range(count))
        elif tensor.dtype == tf.bool.as_datatype_enum:
            tensor.bool_val.extend(choose([True, False]) for _ in range(count))
        else:
            numbers = [0.0, 1.5, -1.0, float("nan"), float("inf"), -3e38, 1e-45]
            some = numbers[: choose([4, 4, 7])]
            tensor.float_val.extend(choose(some) for _ in range(count))
        if self._random.random() < 0.05:
            tensor.tensor_content = self._random.randbytes(choose([1, 4, 8, 100]))
        return tensor

    def _bytes(self) -> None:
        """No message at all, to any of the methods."""
        self._check(self._random.randbytes(self._random.choice([0, 1, 10, 1000])), method=self._any())

    def _mutated(self) -> None:
        """A good message, damaged or cut off."""
        data = bytearray(self._good().SerializeToString())
        for _ in range(self._random.choice([1, 2, 5])):
            data[self._random.randrange(len(data))] = self._random.randrange(256)
        self._check(bytes(data[: self._random.choice([len(data), self._random.randrange(len(data))])]))

    def _big(self) -> None:
        """10 MB in one string, which fits into a message, or 20 MB, which does not."""
        if self._random.random() < 0.8:  # seldom: it is the slowest kind
            return self._structured()
        request = self._good()
        request.inputs["query"].string_val[0] = b"x" * self._random.choice([10_000_000, 20_000_000])
        self._check(request.SerializeToString())

    def _rest(self) -> None:
        """JSON of the right kind, damaged or not, or any bytes."""
        assert self._rest_port
        choose = self._random.choice
        leaf = [
            None,
            "",
            "red mug",
            "\ud800",
            1,
            -1.5,
            float("nan"),
            float("inf"),
            1e300,
            True,
            {},
            {"b64": "_"},
        ]
        value: Any = choose(leaf) if self._random.random() < 0.5 else "red mug"
        for _ in range(choose([0, 1, 1, 1, 2, 2, 50])):
            value = [value] * choose([0, 1, 1, 1, 2])
        body: Any = {
            choose(["inputs", "instances", "k"]): choose([value, {choose(NAMES): value}, [{"query": value}]])
        }
        if self._random.random() < 0.3:  # a good one, which may still be damaged below
            body = {"instances": [{"query": "red mug", "basket": choose([None, 1, -1.5, float("nan")])}]}
        if self._random.random() < 0.2:
            body["signature_name"] = choose([*SIGNATURES, 5, None, "\ud800"])
        data = json.dumps(body).encode()
        if self._random.random() < 0.1:
            data = data[: self._random.randrange(len(data))] + self._random.randbytes(choose([0, 3]))
        path = choose([""] * 15 + ["/versions/7", "/versions/99999999999999999999", "/labels/%ff", "/x"])
        connection = http.client.HTTPConnection(self._host, self._rest_port, timeout=30)
        connection.request(choose(["POST"] * 19 + ["GET", "PUT"]), f"/v1/models/{MODEL}{path}:predict", data)
        response = connection.getresponse()
        text = response.read()
        connection.close()
        self.counts[f"HTTP {response.status}"] += 1
        assert response.status in ALLOWED_HTTP, (response.status, text[:500], data[:500])
        parsed = json.loads(text)
        assert set(parsed) <= ({"outputs", "predictions"} if response.status == 200 else {"error"}), text[
            :500
        ]

    def _check(self, data: bytes, request: predict_pb2.PredictRequest | None = None, method: int = 0) -> None:
        try:
            reply = self._calls[method](data, timeout=60)
        except grpc.RpcError as error:
            status = error.code().name
            assert status in ALLOWED, (status, error.details(), data[:500])
            assert error.details() and len(error.details()) <= 1000
        else:
            status = "OK"
            if request is not None:
                _check_right(request, predict_pb2.PredictResponse.FromString(reply))
        self.counts[status] += 1

    def _predict(self, request: predict_pb2.PredictRequest) -> predict_pb2.PredictResponse:
        return predict_pb2.PredictResponse.FromString(
            self._calls[0](request.SerializeToString(deterministic=True), timeout=60)
        )

    def _good(self) -> predict_pb2.PredictRequest:
        request = predict_pb2.PredictRequest()
        request.model_spec.name = MODEL
        request.inputs["query"].CopyFrom(tf.make_tensor_proto(["red mug"]))
        return request

    def _any(self) -> int:
        return self._random.randrange(len(METHODS))


def _check_right(request: predict_pb2.PredictRequest, response: predict_pb2.PredictResponse) -> None:
    """An answer has a row a request; item ids, of which filters may leave too few, and finite scores, best first."""
    rows = next(iter(request.inputs.values())).tensor_shape.dim[0].size
    assert response.model_spec.version.value > 0
    assert response.outputs
    for name, tensor in response.outputs.items():
        values = tf.make_ndarray(tensor)
        assert values.shape[0] == rows, (name, values.shape, rows)
        if name == "scores":
            assert np.isfinite(values).all()
            assert (np.diff(values, axis=1) <= 0).all(), "scores are not best first"
        if name == "item_ids" and not any(given in FILTERS for given in request.inputs):
            assert all(values.ravel())


def main() -> int:
    """Fuzzes one server and prints how often each status came."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--server", default="127.0.0.1:8500", help="gRPC address (default: 127.0.0.1:8500)")
    parser.add_argument("--rest-port", type=int, help="its REST port (default: gRPC only)")
    parser.add_argument("--requests", type=int, default=10_000, help="how many (default: 10000)")
    parser.add_argument("--seed", type=int, default=0, help="of the random requests (default: 0)")
    options = parser.parse_args()
    fuzzer = Fuzzer(options.server, options.rest_port, options.seed)
    try:
        fuzzer.run(options.requests)
    except AssertionError as error:
        print(f"wrong reply: {error}", file=sys.stderr)
        return 1
    print(json.dumps(dict(sorted(fuzzer.counts.items()))))
    return 0


if __name__ == "__main__":
    sys.exit(main())
