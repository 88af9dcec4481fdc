"""TensorFlow Serving's gRPC services: PredictionService and ModelService."""

from collections.abc import Callable
from typing import Any, NoReturn, TypeVar

import grpc
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_management_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)

from serving.answers import Answers
from serving.grpc_access import abort
from serving.request_inputs import RequestError

Response = TypeVar("Response")


class GrpcCaller:
    """The client of one call, as `serving.request_gate` sees it."""

    entrypoint = "GRPC"

    def __init__(self, context: grpc.ServicerContext) -> None:
        self._context = context

    def time_remaining(self) -> float | None:
        """Seconds until the deadline that the client set."""
        remaining = self._context.time_remaining()
        return None if remaining is None else float(remaining)

    def is_active(self) -> bool:
        """Whether the client has neither cancelled nor gone."""
        return bool(self._context.is_active())


class PredictionServicer(prediction_service_pb2_grpc.PredictionServiceServicer):
    """Predict and GetModelMetadata; the rest of the service is answered as unimplemented."""

    def __init__(self, answers: Answers) -> None:
        self._answers = answers

    def Predict(
        self, request: predict_pb2.PredictRequest, context: grpc.ServicerContext
    ) -> predict_pb2.PredictResponse:
        """Runs a signature."""
        return _answer(lambda: self._answers.predict(request, GrpcCaller(context)), context)

    def GetModelMetadata(
        self, request: get_model_metadata_pb2.GetModelMetadataRequest, context: grpc.ServicerContext
    ) -> get_model_metadata_pb2.GetModelMetadataResponse:
        """Describes the signatures."""
        return _answer(lambda: self._answers.metadata(request, GrpcCaller(context)), context)

    def Classify(self, request: Any, context: grpc.ServicerContext) -> NoReturn:
        """Not offered: retrieval has no classes."""
        _unimplemented("Classify", context)

    def Regress(self, request: Any, context: grpc.ServicerContext) -> NoReturn:
        """Not offered: retrieval answers no single number."""
        _unimplemented("Regress", context)

    def MultiInference(self, request: Any, context: grpc.ServicerContext) -> NoReturn:
        """Not offered: it joins Classify and Regress."""
        _unimplemented("MultiInference", context)


class ModelServicer(model_service_pb2_grpc.ModelServiceServicer):
    """GetModelStatus and HandleReloadConfigRequest."""

    def __init__(self, answers: Answers) -> None:
        self._answers = answers

    def GetModelStatus(
        self, request: get_model_status_pb2.GetModelStatusRequest, context: grpc.ServicerContext
    ) -> get_model_status_pb2.GetModelStatusResponse:
        """The state of every version seen, newest first."""
        return _answer(lambda: self._answers.status(request, GrpcCaller(context)), context)

    def HandleReloadConfigRequest(
        self, request: model_management_pb2.ReloadConfigRequest, context: grpc.ServicerContext
    ) -> model_management_pb2.ReloadConfigResponse:
        """Changes which versions are served, and their labels."""
        return _answer(lambda: self._answers.reload(request, GrpcCaller(context)), context)


def _answer(respond: Callable[[], Response], context: grpc.ServicerContext) -> Response:
    try:
        return respond()
    except RequestError as error:
        abort(context, error)


def _unimplemented(method: str, context: grpc.ServicerContext) -> NoReturn:
    message = f"{method} is not offered: retrieval signatures take tensors, not examples; call Predict"
    abort(context, RequestError("UNIMPLEMENTED", message))
