"""What the server answers, whichever way it was asked: gRPC and REST share these functions."""

import logging
from collections.abc import Callable
from typing import TypeVar

import grpc
from tensorflow_serving.apis import get_model_metadata_pb2, get_model_status_pb2, model_pb2, predict_pb2

from serving.loaded_bundle import LoadedBundle
from serving.predict import predict
from serving.request_gate import Caller, RequestGate
from serving.request_inputs import Limits, RequestError
from serving.version_watcher import VersionWatcher

logger = logging.getLogger("tandem.serving")

SIGNATURE_DEF = "signature_def"

Response = TypeVar("Response")


class Answers:
    """Answers requests from the versions that are loaded; raises nothing but `RequestError`.

    Attributes:
      model_name: the name that requests must give.
    """

    def __init__(self, model_name: str, watcher: VersionWatcher, limits: Limits, gate: RequestGate) -> None:
        self.model_name = model_name
        self._watcher = watcher
        self._limits = limits
        self._gate = gate

    def predict(self, request: predict_pb2.PredictRequest, caller: Caller) -> predict_pb2.PredictResponse:
        """Runs a signature of the version that is chosen when the request arrives.

        Raises:
          RequestError: the request is refused, comes too late, or is one too many.
        """

        def respond() -> predict_pb2.PredictResponse:
            with self._gate.turn(caller):
                response = predict(self.bundle(request.model_spec), request, self._limits)
            response.model_spec.name = self.model_name
            return response

        return _only_request_errors(respond)

    def metadata(
        self, request: get_model_metadata_pb2.GetModelMetadataRequest
    ) -> get_model_metadata_pb2.GetModelMetadataResponse:
        """Describes the signatures: a `SignatureDefMap` under `signature_def`.

        Raises:
          RequestError: the request is refused.
        """

        def respond() -> get_model_metadata_pb2.GetModelMetadataResponse:
            fields = list(request.metadata_field)
            if not fields or set(fields) != {SIGNATURE_DEF}:
                raise RequestError(
                    "INVALID_ARGUMENT", f"metadata_field is {fields[:3]!r}, expected [{SIGNATURE_DEF!r}]"
                )
            bundle = self.bundle(request.model_spec)
            definitions = get_model_metadata_pb2.SignatureDefMap(signature_def=bundle.signature_defs)
            response = get_model_metadata_pb2.GetModelMetadataResponse()
            response.model_spec.name = self.model_name
            response.model_spec.version.value = bundle.manifest.version
            response.metadata[SIGNATURE_DEF].Pack(definitions)
            return response

        return _only_request_errors(respond)

    def status(
        self, request: get_model_status_pb2.GetModelStatusRequest
    ) -> get_model_status_pb2.GetModelStatusResponse:
        """The state of every version seen, newest first, or of the one that is asked for.

        Raises:
          RequestError: NOT_FOUND.
        """

        def respond() -> get_model_status_pb2.GetModelStatusResponse:
            self._check_name(request.model_spec)
            statuses = self._watcher.statuses()
            if request.model_spec.HasField("version"):
                version = request.model_spec.version.value
                statuses = {version: statuses[version]} if version in statuses else {}
            if not statuses:
                raise RequestError("NOT_FOUND", f"no such version of {self.model_name!r} was seen")
            response = get_model_status_pb2.GetModelStatusResponse()
            for version, status in sorted(statuses.items(), reverse=True):
                entry = response.model_version_status.add(version=version, state=int(status.state))
                entry.status.error_code = grpc.StatusCode.INTERNAL.value[0] if status.error else 0
                entry.status.error_message = status.error
            return response

        return _only_request_errors(respond)

    def bundle(self, spec: model_pb2.ModelSpec) -> LoadedBundle:
        """The version that a request chooses.

        Raises:
          RequestError: NOT_FOUND, or UNAVAILABLE before the first version.
        """
        self._check_name(spec)
        bundle = self._watcher.current
        if bundle is None:
            raise RequestError("UNAVAILABLE", self._watcher.why_unavailable())
        if spec.HasField("version_label"):
            raise RequestError(
                "INVALID_ARGUMENT", f"version_label is {spec.version_label!r}, expected a version or none"
            )
        if spec.HasField("version") and spec.version.value != bundle.manifest.version:
            raise RequestError(
                "NOT_FOUND",
                f"version {spec.version.value} of {self.model_name!r} is not loaded, expected"
                f" {bundle.manifest.version} or none for the newest",
            )
        return bundle

    def _check_name(self, spec: model_pb2.ModelSpec) -> None:
        if spec.name != self.model_name:
            raise RequestError(
                "NOT_FOUND", f"model {spec.name[:100]!r} is not served, expected {self.model_name!r}"
            )


def _only_request_errors(respond: Callable[[], Response]) -> Response:
    try:
        return respond()
    except RequestError:
        raise
    except Exception as error:
        logger.exception("a request failed")
        raise RequestError("INTERNAL", f"{type(error).__name__}; the server's log says more") from error
