"""TensorFlow Serving's gRPC services: PredictionService and ModelService."""

import asyncio
from collections.abc import Awaitable, Callable
from concurrent.futures import Executor
from typing import Any, NoReturn, TypeVar

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

# A larger request is checked and answered in a thread: the loop has others to listen to.
_LARGE_BYTES = 1 << 16


class GrpcCaller:
    """The client of one call, as `serving.request_gate` sees it."""

    entrypoint = "GRPC"

    def __init__(self, context: Any) -> None:
        self._context = context
        self._active = True

    def time_remaining(self) -> float | None:
        """Seconds until the deadline that the client set."""
        remaining = self._context.time_remaining()
        return None if remaining is None else float(remaining)

    def is_active(self) -> bool:
        """Whether the client has neither cancelled nor gone."""
        return self._active

    async def answered(self, answer: Awaitable[Response]) -> Response:
        """Waits for an answer as long as the client does; a refusal ends the call."""
        try:
            return await answer
        except RequestError as error:
            await abort(self._context, error)
        except asyncio.CancelledError:
            self._active = False
            raise

    async def answered_in(self, threads: Executor, respond: Callable[["GrpcCaller"], Response]) -> Response:
        """The same of what is worked out in another thread."""
        return await self.answered(asyncio.get_running_loop().run_in_executor(threads, respond, self))


class PredictionServicer(prediction_service_pb2_grpc.PredictionServiceServicer):
    """Predict and GetModelMetadata; the rest of the service is answered as unimplemented."""

    def __init__(self, answers: Answers, threads: Executor) -> None:
        self._answers = answers
        self._threads = threads

    async def Predict(self, request: predict_pb2.PredictRequest, context: Any) -> bytes:
        """Runs a signature; the answer is a serialised `PredictResponse`."""
        caller = GrpcCaller(context)
        if self._answers.can_wait and request.ByteSize() <= _LARGE_BYTES:
            return await caller.answered(self._answers.predict_soon(request, caller))
        return await caller.answered_in(self._threads, lambda c: self._answers.predict(request, c))

    async def GetModelMetadata(
        self, request: get_model_metadata_pb2.GetModelMetadataRequest, context: Any
    ) -> get_model_metadata_pb2.GetModelMetadataResponse:
        """Describes the signatures."""
        return await GrpcCaller(context).answered_in(
            self._threads, lambda caller: self._answers.metadata(request, caller)
        )

    async def Classify(self, request: Any, context: Any) -> NoReturn:
        """Not offered: retrieval has no classes."""
        await _unimplemented("Classify", context)

    async def Regress(self, request: Any, context: Any) -> NoReturn:
        """Not offered: retrieval answers no single number."""
        await _unimplemented("Regress", context)

    async def MultiInference(self, request: Any, context: Any) -> NoReturn:
        """Not offered: it joins Classify and Regress."""
        await _unimplemented("MultiInference", context)


class ModelServicer(model_service_pb2_grpc.ModelServiceServicer):
    """GetModelStatus and HandleReloadConfigRequest."""

    def __init__(self, answers: Answers, threads: Executor) -> None:
        self._answers = answers
        self._threads = threads

    async def GetModelStatus(
        self, request: get_model_status_pb2.GetModelStatusRequest, context: Any
    ) -> get_model_status_pb2.GetModelStatusResponse:
        """The state of every version seen, newest first."""
        return await GrpcCaller(context).answered_in(
            self._threads, lambda caller: self._answers.status(request, caller)
        )

    async def HandleReloadConfigRequest(
        self, request: model_management_pb2.ReloadConfigRequest, context: Any
    ) -> model_management_pb2.ReloadConfigResponse:
        """Changes which versions are served, and their labels."""
        return await GrpcCaller(context).answered_in(
            self._threads, lambda caller: self._answers.reload(request, caller)
        )


async def _unimplemented(method: str, context: Any) -> NoReturn:
    message = f"{method} is not offered: retrieval signatures take tensors, not examples; call Predict"
    await abort(context, RequestError("UNIMPLEMENTED", message))
