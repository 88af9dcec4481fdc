"""Warm-up requests: replayed before a version is announced, by Tandem's server and by TensorFlow Serving."""

import os
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tensorflow_serving.apis.predict_pb2 import PredictRequest

WARMUP_REQUESTS = "assets.extra/tf_serving_warmup_requests"


def write_warmup_requests(
    directory: str, requests: Sequence[Mapping[str, Any]], *, signature: str = "serving_default"
) -> None:
    """Writes `assets.extra/tf_serving_warmup_requests`, a TFRecord file of `PredictionLog`.

    Args:
      directory: the bundle.
      requests: input name -> array, every input of the signature; TensorFlow Serving reads at most 1,000.
      signature: what to ask for.
    """
    import tensorflow as tf
    from tensorflow_serving.apis import predict_pb2, prediction_log_pb2

    path = os.path.join(directory, WARMUP_REQUESTS)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with tf.io.TFRecordWriter(path) as writer:
        for inputs in requests:
            request = predict_pb2.PredictRequest()
            request.model_spec.signature_name = signature
            for name, value in inputs.items():
                request.inputs[name].CopyFrom(tf.make_tensor_proto(value))
            log = prediction_log_pb2.PredictionLog()
            log.predict_log.request.CopyFrom(request)
            writer.write(log.SerializeToString())


def read_warmup_requests(directory: str) -> "Iterator[PredictRequest]":
    """The recorded requests in order; none where there is no file."""
    import tensorflow as tf
    from tensorflow_serving.apis import prediction_log_pb2

    path = os.path.join(directory, WARMUP_REQUESTS)
    if os.path.exists(path):
        for record in tf.data.TFRecordDataset(path).as_numpy_iterator():
            yield prediction_log_pb2.PredictionLog.FromString(record).predict_log.request
