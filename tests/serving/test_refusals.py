"""Nonsense gets the right status and one line that says what is wrong with it."""

import re

import grpc
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tensorflow.core.framework.tensor_pb2 import TensorProto
from tensorflow_serving.apis import predict_pb2

from tests.serving.conftest import request_of


def refusal(stub, request) -> tuple[str, str]:
    with pytest.raises(grpc.RpcError) as caught:
        stub.Predict(request, timeout=10)
    return caught.value.code().name, caught.value.details()


def tensor(dtype, dims, **values) -> TensorProto:
    shape = tf.TensorShape(dims).as_proto()
    return TensorProto(dtype=dtype.as_datatype_enum, tensor_shape=shape, **values)


def nonsense() -> dict[str, tuple[predict_pb2.PredictRequest, str, str]]:
    """Name -> request, status, what the message must say."""
    label, version, output = (request_of(query=["mug"]) for _ in range(3))
    label.model_spec.version_label = "canary"
    version.model_spec.version.value = 6
    output.output_filter.append("price")
    long = "x" * 10_000
    bad = "INVALID_ARGUMENT"
    number, text = tf.float32, tf.string
    count = "another number of values"
    return {
        "model": (request_of(name="ranking", query=["mug"]), "NOT_FOUND",
            "'ranking' is not served, expected 'retrieval'"),
        "version": (version, "NOT_FOUND", "version 6 .* is not loaded, expected 7"),
        "label": (label, "NOT_FOUND", "label 'canary' of 'retrieval' is unknown, expected a version"),
        "signature": (request_of("classify", query=["mug"]), bad,
            "'classify' is unknown, expected one of embed_item, "),
        "output": (output, bad, "output 'price' is unknown .* expected some of item_ids, scores"),
        "input": (request_of(query=["mug"], price=[1.0]), bad,
            "input 'price' is unknown to .* expected some of "),
        "nothing": (request_of(), bad, "received no input, expected some of .*query"),
        "missing": (request_of("evaluate"), bad, "received no input, expected some of examples"),
        "dtype": (request_of(query=[1.0]), bad, "input 'query' has dtype float32, expected string"),
        "double": (request_of(basket=tensor(tf.float64, [1], double_val=[1.0])), bad,
            "'basket' has dtype float64, expected float32"),
        "no dtype": (request_of(query=TensorProto()), bad, "'query' has dtype .*expected string"),
        "odd dtype": (request_of(query=TensorProto(dtype=9999)), bad, "'query' has dtype .*expected string"),
        "scalar": (request_of(query="mug"), bad, r"'query' has shape \[\], expected \[batch\]"),
        "matrix": (request_of(query=[["mug"]]), bad, r"'query' has shape \[1, 1\], expected \[batch\]"),
        "flat history": (request_of(history_item_ids=["a"]), bad,
            r"has shape \[1\], expected \[batch, length\]"),
        "no rows": (request_of(query=tensor(text, [0])), bad,
            r"shape \[0\], expected \[batch\] with a batch of 1 to 1024"),
        "no shape": (request_of(query=tensor(text, None)), bad, "has an unknown shape, expected"),
        "below zero": (request_of(query=minus_one()), bad, r"shape \[-1\]"),
        "bomb": (request_of(query=tensor(text, [1 << 40], string_val=[b"x"])), bad, "batch of 1 to 1024"),
        "wide": (request_of(history_item_ids=[["a"] * 1001]), bad, "length of 0 to 1000"),
        "more values than places": (request_of(query=tensor(text, [1], string_val=[b"a", b"b"])), bad, count),
        "content of a string": (request_of(query=tensor(text, [1], tensor_content=b"abcd")), bad, count),
        "content too short": (request_of(basket=tensor(number, [2], tensor_content=b"abc")), bad, count),
        "batches differ": (request_of(query=["a", "b"], segment=["gold"]), bad,
            "differ in batch size: query 2, segment 1"),
        "lengths differ": (request_of(history_item_ids=[["a"]], history_event_types=[["v", "v"]]), bad,
            "differ in length"),
        "long query": (request_of(query=[long]), bad, "a query of 10,000 characters, expected at most 2,000"),
        "long id": (request_of(history_item_ids=[[long * 3]]), bad,
            "a string of 30,000 bytes, expected at most 20,000"),
        "not UTF-8": (request_of(query=tensor(text, [1], string_val=[b"\xff\xfe"])), bad, "not UTF-8"),
        "infinite": (request_of(query=["a"], basket=[np.inf]), bad, "'basket' holds an infinite number"),
        "neither example nor text": (request_of("evaluate", examples=[b"\xff\xfe"]), bad, "that are no record"),
        "overflows": (request_of(query=["a"], basket=[-3e38]), bad,
            r"holds a number of size 3e\+38, expected at most 1e\+15"),
        "no example": (request_of("evaluate", examples=["x"]), bad, "signature 'evaluate': "),
        "long name": (request_of(query=["a"], **{long: ["b"]}), bad, "input 'xxx"),
    }  # fmt: skip


def minus_one() -> TensorProto:
    proto = tensor(tf.string, [1])
    proto.tensor_shape.dim[0].size = -1
    return proto


@pytest.mark.parametrize("case", sorted(nonsense()))
def test_nonsense_gets_the_right_status_and_a_reason(stub, case: str) -> None:
    request, status, reason = nonsense()[case]
    code, details = refusal(stub, request)
    assert code == status
    assert len(details) <= 1000
    assert re.search(reason, details), details


def test_query_of_exactly_the_limit_is_answered(stub) -> None:
    # 2,000 characters, of two bytes each: the limit counts characters.
    assert stub.Predict(request_of(query=["é" * 2000]), timeout=10).outputs["item_ids"].string_val
    assert refusal(stub, request_of(query=["é" * 2001]))[0] == "INVALID_ARGUMENT"


@given(
    name=st.sampled_from(["query", "segment", "basket", "history_item_ids", "history_ages", "price"]),
    dtype=st.sampled_from([0, 1, 2, 3, 7, 9, 20, 101, 5000]),
    dims=st.lists(st.integers(-2, 5), max_size=3),
    strings=st.lists(st.binary(max_size=20), max_size=4),
    floats=st.lists(st.floats(width=32), max_size=4),
    content=st.binary(max_size=12),
    signature=st.sampled_from(["", "exact", "embed_query", "items", "embed_item"]),
)
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_random_tensors_are_answered_or_refused_but_never_break_the_server(
    stub, name, dtype, dims, strings, floats, content, signature
) -> None:
    proto = TensorProto(dtype=dtype, string_val=strings, float_val=floats, tensor_content=content)
    for size in dims:
        proto.tensor_shape.dim.add().size = size
    try:
        stub.Predict(request_of(signature, **{name: proto}), timeout=10)
    except grpc.RpcError as error:
        assert error.code().name == "INVALID_ARGUMENT", error.details()
