"""TensorFlow Serving's JSON: rows ("instances") or columns ("inputs") to a `PredictRequest`, and back."""

import base64
import binascii
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from google.protobuf import json_format
from tensorflow.core.framework import types_pb2
from tensorflow_serving.apis import get_model_metadata_pb2, predict_pb2

from serving.answers import SIGNATURE_DEF
from serving.inputs import no_value
from serving.loaded_bundle import DEFAULT
from serving.request_inputs import RequestError

if TYPE_CHECKING:
    import tensorflow as tf
    from google.protobuf.message import Message
    from tensorflow.core.framework.tensor_pb2 import TensorProto

_BASE64 = "b64"
_DEEPEST = 4  # no input has more dimensions; deeper lists are refused before they are walked


def parse(body: bytes) -> dict[str, Any]:
    """A JSON object; NaN and Infinity are numbers, as TensorFlow Serving has it.

    Raises:
      RequestError: INVALID_ARGUMENT.
    """
    try:
        parsed = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise _invalid(f"the body is no JSON ({type(error).__name__}), expected an object") from error
    if not isinstance(parsed, dict):
        raise _invalid("the body is no JSON object, expected one")
    return parsed


def signature_of(body: Mapping[str, Any]) -> str:
    """The signature that a body names; `DEFAULT` where it names none.

    Raises:
      RequestError: INVALID_ARGUMENT.
    """
    name = body.get("signature_name", "")
    if not isinstance(name, str) or not name.isprintable():  # a lone surrogate is not printable
        raise _invalid("signature_name is no text, expected the name of a signature")
    return name or DEFAULT


def fill_inputs(
    body: Mapping[str, Any], specs: "Mapping[str, tf.TensorSpec]", request: predict_pb2.PredictRequest
) -> bool:
    """Turns `instances` or `inputs` into the tensors of a request.

    Every instance has the same keys and shapes. null stands for no value. Inputs that `specs` does not know
    become tensors without a type, and a signature without specs gets none: who answers says what is wrong.

    Returns:
      Whether the answer is wanted by row.

    Raises:
      RequestError: INVALID_ARGUMENT.
    """
    if ("instances" in body) == ("inputs" in body):
        raise _invalid("expected one of the keys 'instances' and 'inputs'")
    by_row = "instances" in body
    if not specs:
        return by_row
    columns = _by_column(body["instances"], specs) if by_row else _named(body["inputs"], specs, "inputs")
    for name, values in columns.items():
        try:
            tensor = request.inputs[name]
        except ValueError as error:  # protocol buffers have no names that are not Unicode
            raise _invalid("the name of an input is not Unicode text, expected that of an input") from error
        if name in specs:
            _fill(tensor, name, values, specs[name].dtype)
    return by_row


def predictions(response: predict_pb2.PredictResponse, by_row: bool) -> bytes:
    """The answer as TensorFlow Serving writes it: `predictions`, a row each, or `outputs`, a column each."""
    columns = {name: _nested(name, tensor) for name, tensor in sorted(response.outputs.items())}
    if not by_row:
        only = next(iter(columns.values())) if len(columns) == 1 else columns
        return _dump({"outputs": only})
    if len(columns) == 1:
        return _dump({"predictions": next(iter(columns.values()))})
    rows = zip(*columns.values(), strict=True)
    return _dump({"predictions": [dict(zip(columns, row, strict=True)) for row in rows]})


def metadata(response: get_model_metadata_pb2.GetModelMetadataResponse) -> bytes:
    """`model_spec` and, under `metadata`, the signatures."""
    definitions = get_model_metadata_pb2.SignatureDefMap()
    response.metadata[SIGNATURE_DEF].Unpack(definitions)
    spec = {
        "name": response.model_spec.name,
        "signature_name": "",
        "version": str(response.model_spec.version.value),
    }
    return _dump({"model_spec": spec, "metadata": {SIGNATURE_DEF: _plain(definitions)}})


def message(response: "Message") -> bytes:
    """Any message, its defaults too, with the names of its fields."""
    return _dump(_plain(response))


def error(text: str) -> bytes:
    """What every refusal looks like."""
    return _dump({"error": text})


def _plain(response: "Message") -> Any:
    return json_format.MessageToDict(
        response, including_default_value_fields=True, preserving_proto_field_name=True
    )


def _dump(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False).encode("utf-8")


def _by_column(instances: Any, specs: "Mapping[str, tf.TensorSpec]") -> dict[str, list[Any]]:
    if not isinstance(instances, list) or not instances:
        raise _invalid("'instances' is no list of at least one row, expected one")
    if not _is_object(instances[0]):
        return _named(instances, specs, "instances")
    names = instances[0].keys()
    for number, row in enumerate(instances):
        if not _is_object(row) or row.keys() != names:
            raise _invalid(f"instance {number} has other keys than the first, expected the same for all")
    return {name: [row[name] for row in instances] for name in names}


def _named(values: Any, specs: "Mapping[str, tf.TensorSpec]", key: str) -> dict[str, Any]:
    """Column by name: a signature of one input may go without its name."""
    if _is_object(values):
        return dict(values)
    if len(specs) != 1:
        raise _invalid(f"{key!r} names no input, expected a value for some of {', '.join(specs)}")
    return {next(iter(specs)): values}


def _is_object(value: Any) -> bool:
    return isinstance(value, dict) and value.keys() != {_BASE64}


def _fill(tensor: "TensorProto", name: str, values: Any, dtype: "tf.DType") -> None:
    import tensorflow as tf

    shape: list[int] = []
    inner = values
    while isinstance(inner, list):
        shape.append(len(inner))
        if not inner or len(shape) > _DEEPEST:
            break
        inner = inner[0]
    flat = values if shape else [values]
    for size in shape[1:]:
        if any(not isinstance(entry, list) or len(entry) != size for entry in flat):
            raise _invalid(f"input {name!r} has entries of different lengths, expected the same for all")
        flat = [value for entry in flat for value in entry]
    tensor.dtype = dtype.as_datatype_enum
    for size in shape:
        tensor.tensor_shape.dim.add().size = size
    if dtype == tf.string:
        tensor.string_val.extend(_text(name, value) for value in flat)
    elif dtype == tf.bool:
        tensor.bool_val.extend(_flag(name, value) for value in flat)
    else:
        tensor.float_val.extend(_number(name, value) for value in flat)


def _text(name: str, value: Any) -> bytes:
    try:
        if value is None:
            return b""
        if isinstance(value, dict) and value.keys() == {_BASE64}:
            return base64.b64decode(value[_BASE64], validate=True)
        if isinstance(value, str):
            return value.encode("utf-8")
    except (UnicodeEncodeError, binascii.Error, TypeError, ValueError) as error:
        raise _invalid(f"input {name!r} holds text that cannot be encoded, expected UTF-8 text") from error
    raise _invalid(f"input {name!r} holds a {type(value).__name__}, expected strings")


def _flag(name: str, value: Any) -> bool:
    if value is not None and not isinstance(value, bool):
        raise _invalid(f"input {name!r} holds a {type(value).__name__}, expected true or false")
    return bool(value)


def _number(name: str, value: Any) -> float:
    import tensorflow as tf

    if value is None:
        return float(no_value(tf.float32))
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _invalid(f"input {name!r} holds a {type(value).__name__}, expected numbers")
    try:
        with np.errstate(over="ignore"):
            return float(np.float32(value))
    except OverflowError as error:
        raise _invalid(f"input {name!r} holds a number too large, expected a float32") from error


def _nested(name: str, tensor: "TensorProto") -> Any:
    shape = [dim.size for dim in tensor.tensor_shape.dim]
    values: list[Any]
    if tensor.dtype == types_pb2.DT_STRING:
        values = [value.decode("utf-8", errors="replace") for value in tensor.string_val]
    else:  # the shortest text that is the same float32, rather than the digits of a double
        values = [float(str(value)) for value in np.array(tensor.float_val, np.float32)]
    array = np.empty(len(values), object)
    array[:] = values
    return array.reshape(shape).tolist()


def _invalid(text: str) -> RequestError:
    return RequestError("INVALID_ARGUMENT", text)
