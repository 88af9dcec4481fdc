"""The request log: a JSON object a line, without queries or user features unless they are asked for."""

import datetime
import json
import logging
import logging.handlers
import math
import sys
from typing import Any

from serving.observed import Observed
from transform.errors import TandemError


class RequestLog:
    """Writes each call to a file, or to standard output where the path is "-".

    A line holds `time` (UTC), `method`, `entrypoint`, `status`, `milliseconds` and `model`; an answered request
    also `version`, `signature` and `rows`. What a client wrote is in it only `with_inputs`: the answered
    request's `inputs`, and the `message` of a refusal, which may quote it. A file that is moved away is opened
    anew, as log rotation wants it.
    """

    def __init__(self, path: str, model_name: str, with_inputs: bool = False) -> None:
        """Opens the file.

        Raises:
          TandemError: it cannot be written.
        """
        self._model_name = model_name
        self._with_inputs = with_inputs
        self._handler: logging.Handler
        if path == "-":
            self._handler = logging.StreamHandler(sys.stdout)
            return
        try:
            self._handler = logging.handlers.WatchedFileHandler(path, encoding="utf-8")
        except OSError as error:
            raise TandemError(
                f"{path} cannot be written ({error.strerror}), expected a file for requests: name another with"
                " --request-log."
            ) from error

    def observe(self, observed: Observed) -> None:
        """Writes one line."""
        line = json.dumps(self._fields(observed), ensure_ascii=False, default=str)
        self._handler.handle(logging.makeLogRecord({"msg": line}))

    def _fields(self, observed: Observed) -> dict[str, Any]:
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
            spec = observed.response.model_spec
            fields |= {"version": spec.version.value, "signature": spec.signature_name}
            fields["rows"] = max(
                tensor.tensor_shape.dim[0].size for tensor in observed.request.inputs.values()
            )
            if self._with_inputs:
                fields["inputs"] = {name: _values(tensor) for name, tensor in observed.request.inputs.items()}
        if observed.message and self._with_inputs:
            fields["message"] = observed.message
        return fields


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
