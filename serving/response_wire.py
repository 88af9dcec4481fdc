"""A `PredictResponse` in its wire format, written as bytes: filling one from Python takes several times as long."""

import functools
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from google.protobuf.message import Message

# "Length-delimited": a length, then so many bytes.
_DELIMITED = 2


def response_bytes(model: str, signature: str, version: int, outputs: Mapping[str, NDArray[Any]]) -> bytes:
    """A serialised `PredictResponse`: values in `float_val` or `string_val`, as TensorFlow Serving has them.

    Source: https://protobuf.dev/programming-guides/encoding/

    Args:
      model: name of the model.
      signature: that answered.
      version: that answered.
      outputs: name -> array float32, or of bytes.
    """
    entry, key, value = _map_tags()
    parts = [_head(model, signature, version)]
    for name, array in outputs.items():
        parts.append(_field(entry, _field(key, name.encode()) + _field(value, _tensor(array))))
    return b"".join(parts)


def _tensor(array: NDArray[Any]) -> bytes:
    is_number = array.dtype == np.float32
    shape, floats, string = _shape(is_number, array.shape), *_value_tags()
    if is_number:
        return shape + _field(floats, array.astype("<f4", copy=False).tobytes())
    return shape + b"".join([_field(string, text) for text in array.ravel().tolist()])


def _field(tag: bytes, body: bytes) -> bytes:
    size = len(body)
    return tag + (_SMALL[size] if size < 128 else _varint(size)) + body


def _varint(number: int) -> bytes:
    """Seven bits a byte, the lowest first; the eighth says that there are more."""
    found = bytearray()
    while number > 127:
        found.append(number & 127 | 128)
        number >>= 7
    return bytes([*found, number])


_SMALL = [_varint(size) for size in range(128)]


@functools.lru_cache(256)
def _head(model: str, signature: str, version: int) -> bytes:
    from tensorflow_serving.apis.predict_pb2 import PredictResponse

    response = PredictResponse()
    response.model_spec.name = model
    response.model_spec.signature_name = signature
    response.model_spec.version.value = version
    return bytes(response.SerializeToString())


@functools.lru_cache(256)
def _shape(is_number: bool, shape: tuple[int, ...]) -> bytes:
    """A serialised `TensorProto` without its values."""
    import tensorflow as tf
    from tensorflow.core.framework.tensor_pb2 import TensorProto

    tensor = TensorProto(dtype=(tf.float32 if is_number else tf.string).as_datatype_enum)
    for size in shape:
        tensor.tensor_shape.dim.add().size = size
    return bytes(tensor.SerializeToString())


@functools.cache
def _map_tags() -> tuple[bytes, bytes, bytes]:
    """Of an entry of `outputs`, and of its key and value."""
    from tensorflow_serving.apis.predict_pb2 import PredictResponse

    entry = PredictResponse.OutputsEntry
    return _tag(PredictResponse, "outputs"), _tag(entry, "key"), _tag(entry, "value")


@functools.cache
def _value_tags() -> tuple[bytes, bytes]:
    """Of packed floats, and of one string."""
    from tensorflow.core.framework.tensor_pb2 import TensorProto

    return _tag(TensorProto, "float_val"), _tag(TensorProto, "string_val")


def _tag(message: "type[Message]", field: str) -> bytes:
    return _varint(message.DESCRIPTOR.fields_by_name[field].number << 3 | _DELIMITED)
