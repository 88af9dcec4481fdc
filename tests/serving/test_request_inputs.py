"""Strings of a request are read as TensorFlow reads them, and inputs that are absent are shared safely."""

import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from tensorflow.core.framework.tensor_pb2 import TensorProto

from serving.request_inputs import Limits, RequestError, read_inputs

SPECS = {"query": tf.TensorSpec([None], tf.string), "history": tf.TensorSpec([None, None], tf.string)}


def tensor(values: list[bytes], shape: list[int], content: bytes = b"") -> TensorProto:
    proto = TensorProto(dtype=tf.string.as_datatype_enum, string_val=values, tensor_content=content)
    for size in shape:
        proto.tensor_shape.dim.add(size=size)
    return proto


@settings(max_examples=200, deadline=None)
@given(
    values=st.lists(st.sampled_from([b"", b"red mug", b"lamp"]), max_size=8),
    rows=st.integers(1, 4),
    columns=st.integers(0, 3),
)
def test_strings_are_those_that_tensorflow_reads(values: list[bytes], rows: int, columns: int) -> None:
    proto = tensor(values, [rows, columns])
    try:
        expected = tf.make_ndarray(proto)
    except ValueError:  # more values than places
        with pytest.raises(RequestError, match="another number of values than its shape"):
            read_inputs({"history": proto}, SPECS, "serving_default", Limits())
        return
    found = read_inputs({"history": proto}, SPECS, "serving_default", Limits())["history"]
    assert found.shape == expected.shape
    # where there is no value at all, TensorFlow makes up str
    assert found.tolist() == [[value or b"" for value in row] for row in expected.tolist()]


def test_strings_as_bytes_of_a_tensor_are_refused() -> None:
    with pytest.raises(RequestError, match="another number of values"):
        read_inputs({"query": tensor([], [2], b"red mug")}, SPECS, "serving_default", Limits())


def test_absent_inputs_are_kept_where_they_are_small_and_cannot_be_written_to() -> None:
    for rows, is_kept in ((1, True), (64, True), (65, False)):
        given = {"history": tensor([b"i"], [rows, 1])}
        first, second = (read_inputs(given, SPECS, "serving_default", Limits())["query"] for _ in range(2))
        assert first.tolist() == second.tolist() == [b""] * rows
        assert (first is second) == is_kept
    wide = read_inputs({"history": tensor([b"i"], [2, 2])}, SPECS, "serving_default", Limits())
    with pytest.raises(ValueError, match="read-only"):
        wide["query"][0] = b"x"
