"""What happens to a gRPC call before its service sees it: its token is checked, then its message is read."""

from collections.abc import Awaitable, Callable
from typing import Any, NoReturn

import grpc
from google.protobuf.message import DecodeError

from serving.access import Access
from serving.observed import Observed, Observer
from serving.request_inputs import RequestError

# gRPC refuses trailers above 8 KiB, and percent-encodes what is not ASCII.
_MESSAGE = 1_000


class GrpcAccess(grpc.aio.ServerInterceptor):  # type: ignore[misc]
    """Refuses calls without the right token unread, and messages that cannot be read as INVALID_ARGUMENT."""

    def __init__(self, access: Access, observe: Observer) -> None:
        self._access = access
        self._observe = observe
        self._reading_handlers: dict[str, Any] = {}

    async def intercept_service(self, continuation: Callable[[Any], Awaitable[Any]], details: Any) -> Any:
        """The handler of a call, or one that refuses it."""
        handler = await continuation(details)
        if handler is None:
            return None
        method = details.method
        given = [value for key, value in details.invocation_metadata if key == "authorization"]
        try:
            self._access.check(method, given[0] if len(given) == 1 else None)
        except RequestError as error:
            return self._refusing(handler, method.rpartition("/")[2], error)
        if handler.unary_unary is None:
            return handler
        if method not in self._reading_handlers:
            self._reading_handlers[method] = self._reading(handler, method.rpartition("/")[2])
        return self._reading_handlers[method]

    def _refusing(self, handler: Any, method: str, error: RequestError) -> Any:
        async def refuse(_: Any, context: Any) -> Any:
            self._observe(Observed(method, "GRPC", error.status, 0.0, message=error.message))
            await abort(context, error)

        if handler.unary_unary is None:
            return grpc.stream_stream_rpc_method_handler(refuse)
        return grpc.unary_unary_rpc_method_handler(refuse)

    def _reading(self, handler: Any, method: str) -> Any:
        kind = type(handler.request_deserializer(b""))

        async def answer(message: bytes, context: Any) -> bytes:
            request = kind()
            try:
                whole = request.MergeFromString(message) == len(message)
            except DecodeError:
                whole = False
            if not whole:  # FromString would take what it could read for the whole
                error = RequestError(
                    "INVALID_ARGUMENT",
                    f"the message is not what {method} takes, expected its protocol buffer",
                )
                self._observe(Observed(method, "GRPC", error.status, 0.0, message=error.message))
                await abort(context, error)
            response = await handler.unary_unary(request, context)
            return response if isinstance(response, bytes) else bytes(handler.response_serializer(response))

        return grpc.unary_unary_rpc_method_handler(answer)


async def abort(context: Any, error: RequestError) -> NoReturn:
    """Ends a call with the status and the line of an error."""
    await context.abort(grpc.StatusCode[error.status], error.message[:_MESSAGE])
    raise AssertionError("unreachable: abort raises")
