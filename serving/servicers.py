"""TensorFlow Serving's gRPC services over the current version: PredictionService and ModelService."""

import logging
from collections.abc import Callable
from typing import Any, NoReturn, TypeVar

import grpc
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)

from serving.loaded_bundle import LoadedBundle
from serving.predict import predict
from serving.request_inputs import Limits, RequestError
from serving.version_watcher import VersionWatcher

logger = logging.getLogger("tandem.serving")

_SIGNATURE_DEF = "signature_def"
# gRPC refuses trailers above 8 KiB, and percent-encodes what is not ASCII.
_MESSAGE = 1_000

Response = TypeVar("Response")


class PredictionServicer(prediction_service_pb2_grpc.PredictionServiceServicer):
    """Predict and GetModelMetadata; the rest of the service is answered as unimplemented."""

    def __init__(self, model_name: str, watcher: VersionWatcher, limits: Limits) -> None:
        self._model_name = model_name
        self._watcher = watcher
        self._limits = limits

    def Predict(
        self, request: predict_pb2.PredictRequest, context: grpc.ServicerContext
    ) -> predict_pb2.PredictResponse:
        """Runs a signature of the version that is current when the request arrives."""

        def respond() -> predict_pb2.PredictResponse:
            response = predict(self._bundle(request.model_spec), request, self._limits)
            response.model_spec.name = self._model_name
            return response

        return _answer(respond, context)

    def GetModelMetadata(
        self, request: get_model_metadata_pb2.GetModelMetadataRequest, context: grpc.ServicerContext
    ) -> get_model_metadata_pb2.GetModelMetadataResponse:
        """Describes the signatures: a `SignatureDefMap` under `signature_def`."""

        def respond() -> get_model_metadata_pb2.GetModelMetadataResponse:
            fields = list(request.metadata_field)
            if not fields or set(fields) != {_SIGNATURE_DEF}:
                raise RequestError(
                    "INVALID_ARGUMENT", f"metadata_field is {fields[:3]!r}, expected [{_SIGNATURE_DEF!r}]"
                )
            bundle = self._bundle(request.model_spec)
            definitions = get_model_metadata_pb2.SignatureDefMap(signature_def=bundle.signature_defs)
            response = get_model_metadata_pb2.GetModelMetadataResponse()
            response.model_spec.name = self._model_name
            response.model_spec.version.value = bundle.manifest.version
            response.metadata[_SIGNATURE_DEF].Pack(definitions)
            return response

        return _answer(respond, context)

    def _bundle(self, spec: model_pb2.ModelSpec) -> LoadedBundle:
        _check_name(spec, self._model_name)
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
                f"version {spec.version.value} of {self._model_name!r} is not loaded, expected"
                f" {bundle.manifest.version} or none for the newest",
            )
        return bundle


class ModelServicer(model_service_pb2_grpc.ModelServiceServicer):
    """GetModelStatus; a change of configuration is answered as unimplemented."""

    def __init__(self, model_name: str, watcher: VersionWatcher) -> None:
        self._model_name = model_name
        self._watcher = watcher

    def GetModelStatus(
        self, request: get_model_status_pb2.GetModelStatusRequest, context: grpc.ServicerContext
    ) -> get_model_status_pb2.GetModelStatusResponse:
        """The state of every version seen, newest first."""

        def respond() -> get_model_status_pb2.GetModelStatusResponse:
            _check_name(request.model_spec, self._model_name)
            statuses = self._watcher.statuses()
            if request.model_spec.HasField("version"):
                version = request.model_spec.version.value
                statuses = {version: statuses[version]} if version in statuses else {}
            if not statuses:
                raise RequestError("NOT_FOUND", f"no such version of {self._model_name!r} was seen")
            response = get_model_status_pb2.GetModelStatusResponse()
            for version, status in sorted(statuses.items(), reverse=True):
                entry = response.model_version_status.add(version=version, state=int(status.state))
                entry.status.error_code = grpc.StatusCode.INTERNAL.value[0] if status.error else 0
                entry.status.error_message = status.error
            return response

        return _answer(respond, context)


def _check_name(spec: model_pb2.ModelSpec, model_name: str) -> None:
    if spec.name != model_name:
        raise RequestError("NOT_FOUND", f"model {spec.name[:100]!r} is not served, expected {model_name!r}")


def _answer(respond: Callable[[], Response], context: grpc.ServicerContext) -> Response:
    try:
        return respond()
    except RequestError as error:
        _abort(context, error.status, error.message)
    except Exception as error:
        logger.exception("a request failed")
        _abort(context, "INTERNAL", f"{type(error).__name__}; the server's log says more")


def _abort(context: Any, status: str, message: str) -> NoReturn:
    context.abort(grpc.StatusCode[status], message[:_MESSAGE])
    raise AssertionError("unreachable: abort raises")
