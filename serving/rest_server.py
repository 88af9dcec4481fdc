"""TensorFlow Serving's REST API over HTTP: predict, metadata and status of one model; and changes of its catalogue."""

import contextlib
import json
import logging
import re
import select
import ssl
import time
import urllib.parse
from http import HTTPStatus
from typing import Any, NamedTuple

from tensorflow_serving.apis import get_model_metadata_pb2, get_model_status_pb2, model_pb2, predict_pb2

from serving import rest_json
from serving.access import Access
from serving.answers import SIGNATURE_DEF, Answers
from serving.http_server import Handler, HttpServer
from serving.loaded_bundle import FILTERED
from serving.observed import Observed
from serving.request_inputs import RequestError

logger = logging.getLogger("tandem.serving")

# As TensorFlow Serving's --rest_api_timeout_in_ms: HTTP has no deadlines of its own.
_TIMEOUT_SECONDS = 30.0
_VERSION = r"(?:/versions/(?P<version>\d{1,18})|/labels/(?P<label>[^/:]+))?"
_PATHS = {
    "GET": re.compile(rf"/v1/models/(?P<name>[^/:]+){_VERSION}(?P<verb>/metadata)?"),
    "POST": re.compile(rf"/v1/models/(?P<name>[^/:]+){_VERSION}:(?P<verb>predict|classify|regress|catalog)"),
}
_METHODS = {
    None: "/tensorflow.serving.ModelService/GetModelStatus",
    "/metadata": "/tensorflow.serving.PredictionService/GetModelMetadata",
    "predict": "/tensorflow.serving.PredictionService/Predict",
    "classify": "/tensorflow.serving.PredictionService/Classify",
    "regress": "/tensorflow.serving.PredictionService/Regress",
    "catalog": "/tandem.Catalog/Apply",
}
# TensorFlow Serving's own table.
_CODES = {
    "INVALID_ARGUMENT": 400,
    "FAILED_PRECONDITION": 400,
    "UNAUTHENTICATED": 401,
    "PERMISSION_DENIED": 403,
    "NOT_FOUND": 404,
    "RESOURCE_EXHAUSTED": 429,
    "CANCELLED": 499,
    "INTERNAL": 500,
    "UNIMPLEMENTED": 501,
    "UNAVAILABLE": 503,
    "DEADLINE_EXCEEDED": 504,
}


class RestCaller:
    """The client of one HTTP request, as `serving.request_gate` sees it."""

    entrypoint = "REST"

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self._deadline = time.monotonic() + _TIMEOUT_SECONDS

    def time_remaining(self) -> float | None:
        """Seconds until the server's own timeout."""
        return self._deadline - time.monotonic()

    def is_active(self) -> bool:
        """Whether the connection is open; one with TLS is taken to be."""
        if isinstance(self._connection, ssl.SSLSocket):
            return True
        poll = select.poll()
        poll.register(self._connection, select.POLLRDHUP | select.POLLHUP | select.POLLERR)
        return not poll.poll(0)


class Route(NamedTuple):
    """What a path asks for.

    Attributes:
      method: the gRPC method that does the same, in full.
      verb: `_METHODS`' key.
      spec: name, and version or label.
    """

    method: str
    verb: str | None
    spec: model_pb2.ModelSpec


def rest_handler(answers: Answers, access: Access, max_bytes: int) -> type[Handler]:
    """An HTTP handler that asks the same functions as the gRPC services.

    Args:
      answers: asked.
      access: looks at the `Authorization` header first.
      max_bytes: of a body; a larger one is not read.
    """

    class RestHandler(Handler):
        """One connection."""

        server: HttpServer

        def do_GET(self) -> None:
            """Status or metadata."""
            self._respond(b"")

        def do_POST(self) -> None:
            """Predict."""
            length = self.headers.get("Content-Length", "")
            refused = ""
            if "Transfer-Encoding" in self.headers or not (length.isascii() and length.isdigit()):
                code, refused = HTTPStatus.LENGTH_REQUIRED, "expected a body with its Content-Length"
            elif len(length) > 18 or int(length) > max_bytes:
                code = HTTPStatus.REQUEST_ENTITY_TOO_LARGE
                refused = f"the body has {length[:20]} bytes, expected at most {max_bytes:,}"
            elif self.headers.get("Content-Encoding", "identity") != "identity":
                code, refused = (
                    HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
                    "the body is compressed, expected plain JSON",
                )
            if refused:
                self.close_connection = True  # the body was not read: what follows is no request
                self._discard(max_bytes)
                self._reply(code, rest_json.error(refused))
                return
            self._respond(self.rfile.read(int(length)))

        def _discard(self, most: int) -> None:
            """Reads on a little: a client that is still sending would not see the reply."""
            self.connection.settimeout(0.2)
            with contextlib.suppress(OSError):
                while most > 0 and (received := len(self.rfile.read1(1 << 16))):
                    most -= received

        def _respond(self, body: bytes) -> None:
            with self.server.answering():
                code, text = self._answer(body)
                challenge = {"WWW_Authenticate": "Bearer"} if code == HTTPStatus.UNAUTHORIZED else {}
                self._reply(code, text, **challenge)

        def _answer(self, body: bytes) -> tuple[int, bytes]:
            path = self.path.split("?")[0]
            found = _PATHS[self.command].fullmatch(path)
            if not found:
                return 404, rest_json.error("no such path, expected /v1/models/NAME, or one below it")
            route = _route(found)
            given = self.headers.get_all("Authorization", [])
            try:
                access.check(route.method, given[0] if len(given) == 1 else None)
            except RequestError as error:
                return self._refuse(route, error)
            return self._call(route, body)

        def _call(self, route: Route, body: bytes) -> tuple[int, bytes]:
            caller = RestCaller(self.connection)
            try:
                if route.verb == "predict":
                    request = predict_pb2.PredictRequest(model_spec=route.spec)
                    try:
                        by_row = _read(answers, request, body)
                    except RequestError as error:
                        return self._refuse(route, error)
                    answer = predict_pb2.PredictResponse.FromString(answers.predict(request, caller))
                    return 200, rest_json.predictions(answer, by_row)
                if route.verb == "/metadata":
                    asked = get_model_metadata_pb2.GetModelMetadataRequest(
                        model_spec=route.spec, metadata_field=[SIGNATURE_DEF]
                    )
                    return 200, rest_json.metadata(answers.metadata(asked, caller))
                if route.verb is None:
                    status = get_model_status_pb2.GetModelStatusRequest(model_spec=route.spec)
                    return 200, rest_json.message(answers.status(status, caller))
                if route.verb == "catalog":
                    return self._change(route, body, caller)
                offered = f"{route.verb} is not offered: retrieval signatures take tensors, not examples"
                return self._refuse(route, RequestError("UNIMPLEMENTED", f"{offered}; use :predict"))
            except RequestError as error:
                return _CODES[error.status], rest_json.error(error.message)
            except Exception as error:
                logger.exception("a REST request failed")
                return 500, rest_json.error(f"{type(error).__name__}; the server's log says more")

        def _change(self, route: Route, body: bytes, caller: RestCaller) -> tuple[int, bytes]:
            try:
                change = rest_json.parse(body)
                answers.check_every_version(route.spec)
            except RequestError as error:
                return self._refuse(route, error)
            return 200, json.dumps(answers.change(change, caller)).encode()

        def _refuse(self, route: Route, error: RequestError) -> tuple[int, bytes]:
            method = route.method.rpartition("/")[2]
            answers.observe(Observed(method, "REST", error.status, 0.0, message=error.message))
            return _CODES[error.status], rest_json.error(error.message)

        def _reply(self, code: int, text: bytes, **headers: str) -> None:
            self.reply(code, "application/json", text, **headers)

    return RestHandler


def _route(found: "re.Match[str]") -> Route:
    spec = model_pb2.ModelSpec(name=urllib.parse.unquote(found["name"]))
    if found["version"]:
        spec.version.value = int(found["version"])
    if found["label"]:
        spec.version_label = urllib.parse.unquote(found["label"])
    return Route(_METHODS[found["verb"]], found["verb"], spec)


def _read(answers: Answers, request: predict_pb2.PredictRequest, body: bytes) -> bool:
    parsed = rest_json.parse(body)
    request.model_spec.signature_name = rest_json.signature_of(parsed)
    bundle, signature = answers.bundle(request.model_spec), request.model_spec.signature_name
    filters = bundle.filters.specs if signature in FILTERED else {}
    return rest_json.fill_inputs(parsed, {**bundle.specs.get(signature, {}), **filters}, request)
