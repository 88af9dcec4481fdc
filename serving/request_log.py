"""The request log: a JSON object a line, without queries or user features unless they are asked for."""

import datetime
import json
import logging
import logging.handlers
import math
import sys
from collections.abc import Iterator
from typing import Any

from prometheus_client.core import CounterMetricFamily, Metric

from serving.observed import Observed
from transform.errors import TandemError

logger = logging.getLogger("tandem.serving")


class RequestLog:
    """Writes each call to a file, or to standard output where the path is "-".

    A line holds `time` (UTC), `method`, `entrypoint`, `status`, `milliseconds` and `model`; an answered request
    also `version`, `signature` and `rows`. What a client wrote is in it only `with_inputs`: the answered
    request's `inputs`, and the `message` of a refusal, which may quote it. A file that is moved away is opened
    anew, as log rotation wants it. What the disk does not take is counted, and holds up no request.

    Attributes:
      lost: lines that were not written.
    """

    def __init__(self, path: str, model_name: str, with_inputs: bool = False) -> None:
        """Opens the file.

        Raises:
          TandemError: it cannot be written.
        """
        self._model_name = model_name
        self._with_inputs = with_inputs
        self._path = path
        self._failing = False
        self.lost = 0
        self._handler: logging.Handler
        if path == "-":
            self._handler = _Stream(sys.stdout)
            return
        try:
            self._handler = _File(path, encoding="utf-8")
        except OSError as error:
            raise TandemError(
                f"{path} cannot be written ({error.strerror}), expected a file for requests: name another with"
                " --request-log."
            ) from error

    def observe(self, observed: Observed) -> None:
        """Writes one line."""
        line = json.dumps(self._fields(observed), ensure_ascii=False, default=str)
        try:
            self._handler.handle(logging.makeLogRecord({"msg": line}))
        except (OSError, ValueError) as error:  # ValueError: standard output is closed
            self.lost += 1
            if not self._failing:
                logger.error(
                    "request log: %s cannot be written (%s); requests are answered on, and lost lines are counted",
                    *(self._path, error),
                )
            self._failing = True
            return
        if self._failing:
            logger.info("request log: %s can be written again", self._path)
        self._failing = False

    def collect(self) -> Iterator[Metric]:
        """Prometheus figures."""
        yield CounterMetricFamily("tandem_request_log_lost", "Lines that were not written.", value=self.lost)

    def _fields(self, observed: Observed) -> dict[str, Any]:
        from tensorflow_serving.apis.predict_pb2 import PredictResponse

        now = datetime.datetime.now(datetime.timezone.utc)
        fields: dict[str, Any] = {
            "time": now.isoformat(timespec="milliseconds"),
            "method": observed.method,
            "entrypoint": observed.entrypoint,
            "status": observed.status,
            "milliseconds": round(observed.seconds * 1000, 3),
            "model": self._model_name,
        }
        if observed.method == "Predict" and observed.response is not None:
            spec = PredictResponse.FromString(observed.response).model_spec
            fields |= {"version": spec.version.value, "signature": spec.signature_name}
            fields["rows"] = max(
                tensor.tensor_shape.dim[0].size for tensor in observed.request.inputs.values()
            )
            if self._with_inputs:
                fields["inputs"] = {name: _values(tensor) for name, tensor in observed.request.inputs.items()}
        if observed.message and self._with_inputs:
            fields["message"] = observed.message
        return fields


class _Raises:
    """A handler that tells its caller what went wrong, rather than standard error."""

    def handleError(self, record: logging.LogRecord) -> None:
        """Goes on raising what is being handled."""
        raise


class _Stream(_Raises, logging.StreamHandler):  # type: ignore[type-arg]
    pass


class _File(_Raises, logging.handlers.WatchedFileHandler):
    pass


def _values(tensor: Any) -> Any:
    """Nested lists; what is not a number or not UTF-8 has a place in JSON, too."""
    import tensorflow as tf

    def plain(value: Any) -> Any:
        if isinstance(value, list):
            return [plain(entry) for entry in value]
        if isinstance(value, bytes):
            return value.decode("utf-8", errors="replace")
        return None if isinstance(value, float) and not math.isfinite(value) else value

    return plain(tf.make_ndarray(tensor).tolist())
