"""A `PredictRequest` becomes what one bundle is asked, and its outputs the answer."""

import contextlib
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from numpy.typing import NDArray

from serving.loaded_bundle import DEFAULT, FILTERED, LoadedBundle
from serving.request_inputs import Limits, RequestError, read_inputs
from serving.response_wire import response_bytes

if TYPE_CHECKING:
    from tensorflow_serving.apis.predict_pb2 import PredictRequest

Arrays = Mapping[str, NDArray[Any]]


class Question(NamedTuple):
    """What a request asks of a bundle.

    Attributes:
      signature: that is run.
      inputs: all that it takes.
      outputs: names of those that are wanted; empty for all.
    """

    signature: str
    inputs: Arrays
    outputs: frozenset[str]


def read_question(bundle: LoadedBundle, request: "PredictRequest", limits: Limits) -> Question:
    """Checks a request.

    Args:
      bundle: the version that answers.
      request: signature `serving_default` where it names none; all outputs where its filter is empty.
      limits: sizes.

    Raises:
      RequestError: INVALID_ARGUMENT; FAILED_PRECONDITION of a filter.
    """
    signature = request.model_spec.signature_name or DEFAULT
    if signature not in bundle.specs:
        raise RequestError(
            "INVALID_ARGUMENT",
            f"signature {signature[:100]!r} is unknown, expected one of {', '.join(sorted(bundle.specs))}",
        )
    wanted = frozenset(request.output_filter)
    known = set(bundle.signature_defs[signature].outputs)
    if wanted - known:
        raise RequestError(
            "INVALID_ARGUMENT",
            f"output {min(wanted - known)[:100]!r} is unknown to signature {signature!r}, expected some of"
            f" {', '.join(sorted(known))}",
        )
    filters = {}
    if signature in FILTERED:
        bundle.filters.check_names(request.inputs, bundle.manifest.version)
        filters = bundle.filters.specs
    inputs = read_inputs(request.inputs, bundle.specs[signature], signature, limits, filters)
    bundle.filters.check_values(inputs)
    return Question(signature, inputs, wanted)


@contextlib.contextmanager
def models_refusals(signature: str) -> Iterator[None]:
    """Inputs that the graph does not take are the client's fault.

    Raises:
      RequestError: INVALID_ARGUMENT.
    """
    import tensorflow as tf

    try:
        yield
    except tf.errors.InvalidArgumentError as error:
        raise RequestError(
            "INVALID_ARGUMENT", f"signature {signature!r}: {error.message.splitlines()[0]}"
        ) from error
    except UnicodeDecodeError as error:  # TensorFlow's refusal, which quotes the bytes
        raise RequestError(
            "INVALID_ARGUMENT", "the inputs hold bytes that are no record, expected serialised ones"
        ) from error


def pack_answer(model: str, version: int, question: Question, outputs: Arrays) -> bytes:
    """A serialised `PredictResponse` with the outputs that are wanted, and which model and version they are of."""
    wanted = {
        name: value for name, value in outputs.items() if not question.outputs or name in question.outputs
    }
    return response_bytes(model, question.signature, version, wanted)
