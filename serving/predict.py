"""Answers one `PredictRequest` from one bundle."""

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from serving.loaded_bundle import DEFAULT, FILTERED, LoadedBundle
from serving.request_inputs import Limits, RequestError, read_inputs

if TYPE_CHECKING:
    from tensorflow.core.framework.tensor_pb2 import TensorProto
    from tensorflow_serving.apis.predict_pb2 import PredictRequest, PredictResponse


def predict(bundle: LoadedBundle, request: "PredictRequest", limits: Limits) -> "PredictResponse":
    """Checks the request, runs its signature and packs the outputs it asks for.

    Args:
      bundle: the version that answers.
      request: signature `serving_default` where it names none; all outputs where its filter is empty.
      limits: sizes.

    Raises:
      RequestError: INVALID_ARGUMENT; NOT_FOUND of `related`; FAILED_PRECONDITION of a filter.
    """
    import tensorflow as tf
    from tensorflow_serving.apis import predict_pb2

    signature = request.model_spec.signature_name or DEFAULT
    if signature not in bundle.specs:
        raise RequestError(
            "INVALID_ARGUMENT",
            f"signature {signature[:100]!r} is unknown, expected one of {', '.join(sorted(bundle.specs))}",
        )
    wanted = set(request.output_filter)
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
    try:
        outputs = bundle.run(signature, inputs)
    except tf.errors.InvalidArgumentError as error:
        raise RequestError(
            "INVALID_ARGUMENT", f"signature {signature!r}: {error.message.splitlines()[0]}"
        ) from error
    response = predict_pb2.PredictResponse()
    response.model_spec.signature_name = signature
    response.model_spec.version.value = bundle.manifest.version
    for name, value in outputs.items():
        if not wanted or name in wanted:
            _pack(value, response.outputs[name])
    return response


def _pack(array: NDArray[Any], tensor: "TensorProto") -> None:
    """Fills `float_val` or `string_val`, as TensorFlow Serving does: many clients read those fields."""
    import tensorflow as tf

    for size in array.shape:
        tensor.tensor_shape.dim.add().size = size
    if array.dtype == np.float32:
        tensor.dtype = tf.float32.as_datatype_enum
        tensor.float_val.extend(array.ravel().tolist())
    else:
        tensor.dtype = tf.string.as_datatype_enum
        tensor.string_val.extend(array.ravel().tolist())
