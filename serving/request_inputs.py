"""Turns a request's tensors into arrays, and refuses what a signature does not take."""

import functools
import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from serving.inputs import EXAMPLES, no_value
from transform.features import QUERY

if TYPE_CHECKING:
    import tensorflow as tf

_SHOWN = 100
# Absent inputs of so many entries are kept for the next request; larger ones would take memory for whoever asks for many shapes.
_SHARED = 64


class RequestError(Exception):
    """A request that gets no answer.

    Attributes:
      status: name of the gRPC status code, such as "INVALID_ARGUMENT".
      message: one line: what was received, what was expected.
    """

    def __init__(self, status: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


class Limits(NamedTuple):
    """How large a request may be.

    Attributes:
      query_characters: Unicode characters of a query.
      text_bytes: UTF-8 bytes of any other string.
      rows: requests in a batch.
      columns: entries of a history, or of a filter's list.
      number: absolute value of a number; a larger one would overflow in a sum of squares.
    """

    query_characters: int = 2_000
    text_bytes: int = 20_000
    rows: int = 1_024
    columns: int = 1_000
    number: float = 1e15


def read_inputs(
    tensors: Mapping[str, Any],
    specs: "Mapping[str, tf.TensorSpec]",
    signature: str,
    limits: Limits,
    filters: "Mapping[str, tf.TensorSpec]" = MappingProxyType({}),
) -> dict[str, NDArray[Any]]:
    """Decodes and checks the inputs of one request; those that are absent get `no_value`.

    Args:
      tensors: input name -> `TensorProto`.
      specs: what the signature takes, [B] or [B, n] each, with the same n.
      signature: its name, for messages.
      limits: sizes.
      filters: what it takes, too, each with an n of its own or of its spec.

    Returns:
      Name -> array, for every input of the signature, and the filters that are there.

    Raises:
      RequestError: INVALID_ARGUMENT; names the input, what was received and what is expected.
    """
    takes = {**specs, **filters}
    given = set(tensors)
    unknown = given - takes.keys()
    if unknown:
        raise _invalid(
            f"input {_show(min(unknown))} is unknown to signature {signature!r}, expected some of"
            f" {', '.join(takes)}"
        )
    if not given:
        raise _invalid(f"received no input, expected some of {', '.join(takes)} for signature {signature!r}")
    arrays = {name: _read(name, tensors[name], takes[name], limits) for name in takes if name in given}
    rows = _common_size(arrays, axis=0, word="batch size")
    columns = _common_size({n: a for n, a in arrays.items() if n in specs}, axis=1, word="length") or 0
    for name, spec in specs.items():
        if name not in arrays:
            shape = (rows or 0, columns)[: spec.shape.rank]
            absent = _shared_absent if math.prod(shape) <= _SHARED else _absent
            arrays[name] = absent(spec.dtype, shape)
    return arrays


def _absent(dtype: "tf.DType", shape: tuple[int, ...]) -> NDArray[Any]:
    array = np.full(shape, no_value(dtype), dtype.as_numpy_dtype)
    array.setflags(write=False)  # many requests may share it
    return array


_shared_absent = functools.lru_cache(256)(_absent)


def _read(name: str, tensor: Any, spec: "tf.TensorSpec", limits: Limits) -> NDArray[Any]:
    import tensorflow as tf

    if tensor.dtype != spec.dtype.as_datatype_enum:
        raise _invalid(f"input {name!r} has dtype {_dtype_name(tensor.dtype)}, expected {spec.dtype.name}")
    _check_shape(name, tensor.tensor_shape, spec.shape, limits)
    is_text = spec.dtype == tf.string
    try:
        array = _strings(tensor) if is_text else tf.make_ndarray(tensor)
    except (ValueError, TypeError) as error:
        raise _invalid(
            f"input {name!r} holds another number of values than its shape {_dims(tensor.tensor_shape)},"
            " expected a value for each place"
        ) from error
    if is_text and name != EXAMPLES:
        _check_text(name, array, limits)
    elif spec.dtype == tf.float32:
        _check_numbers(name, array, limits)
    return array


def _strings(tensor: Any) -> NDArray[Any]:
    """As `tf.make_ndarray`, in a fraction of its time: the last value, or an empty one, stands for those that are left out."""
    if tensor.tensor_content:
        raise ValueError("strings are not packed into bytes")
    shape = [dim.size for dim in tensor.tensor_shape.dim]
    values = list(tensor.string_val)
    values += (values[-1:] or [b""]) * (math.prod(shape) - len(values))
    array = np.empty(len(values), object)
    array[:] = values
    return array.reshape(shape)


def _check_shape(name: str, shape: Any, spec: "tf.TensorShape", limits: Limits) -> None:
    length = spec[1] if spec.rank == 2 else None
    expected = "[batch]" if spec.rank == 1 else f"[batch, {length or 'length'}]"
    if shape.unknown_rank or len(shape.dim) != spec.rank:
        received = "an unknown shape" if shape.unknown_rank else f"shape {_dims(shape)}"
        raise _invalid(f"input {name!r} has {received}, expected {expected}")
    for dim, most, word in zip(shape.dim, (limits.rows, limits.columns), ("batch", "length"), strict=False):
        least = 1 if word == "batch" else 0
        if not least <= dim.size <= most:
            raise _invalid(
                f"input {name!r} has shape {_dims(shape)}, expected {expected} with a {word} of {least} to"
                f" {most}"
            )
    if length is not None and shape.dim[1].size != length:
        raise _invalid(f"input {name!r} has shape {_dims(shape)}, expected {expected}")


def _check_numbers(name: str, array: NDArray[Any], limits: Limits) -> None:
    if np.isinf(array).any():
        raise _invalid(f"input {name!r} holds an infinite number, expected a finite one, or NaN for no value")
    largest = np.fmax.reduce(np.abs(array), axis=None, initial=0.0)  # which passes over NaN
    if largest > limits.number:
        raise _invalid(
            f"input {name!r} holds a number of size {largest:.3g}, expected at most {limits.number:g}"
        )


def _check_text(name: str, array: NDArray[Any], limits: Limits) -> None:
    values = array.ravel().tolist()
    try:
        # A line break cannot be part of a longer character, so all are valid if, and only if, the whole is.
        b"\n".join(values).decode("utf-8")
    except UnicodeDecodeError as error:
        raise _invalid(f"input {name!r} holds bytes that are not UTF-8, expected UTF-8 text") from error
    longest = max(values, key=len, default=b"")
    if name == QUERY:
        if len(longest) <= limits.query_characters:
            return
        most = max(len(value.decode("utf-8")) for value in values)
        if most > limits.query_characters:
            raise _invalid(
                f"input {name!r} holds a query of {most:,} characters, expected at most"
                f" {limits.query_characters:,}"
            )
    elif len(longest) > limits.text_bytes:
        raise _invalid(
            f"input {name!r} holds a string of {len(longest):,} bytes, expected at most {limits.text_bytes:,}"
        )


def _common_size(arrays: Mapping[str, NDArray[Any]], axis: int, word: str) -> int | None:
    sizes = {name: array.shape[axis] for name, array in arrays.items() if array.ndim > axis}
    if len(set(sizes.values())) > 1:
        received = ", ".join(f"{name} {size}" for name, size in sizes.items())
        raise _invalid(f"inputs differ in {word}: {received}; expected the same {word} for all")
    return next(iter(sizes.values()), None)


def _dtype_name(number: int) -> str:
    import tensorflow as tf

    try:
        return tf.dtypes.as_dtype(number).name
    except TypeError:
        return f"number {number}"


def _dims(shape: Any) -> str:
    return f"[{', '.join(str(dim.size) for dim in shape.dim[:8])}{', ...' if len(shape.dim) > 8 else ''}]"


def _show(name: str) -> str:
    return repr(name if len(name) <= _SHOWN else f"{name[:_SHOWN]}...")


def _invalid(message: str) -> RequestError:
    return RequestError("INVALID_ARGUMENT", message)
