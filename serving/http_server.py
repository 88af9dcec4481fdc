"""A small HTTP/1.1 server on a thread: a bounded number of connections, timeouts, optionally TLS."""

import contextlib
import json
import logging
import socket
import socketserver
import ssl
import threading
import time
from collections.abc import Iterator
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from typing import Any

from transform.errors import TandemError

logger = logging.getLogger("tandem.serving")

# A connection that sends nothing for so long is closed, so that slow or silent clients hold no thread.
_IDLE_SECONDS = 30.0


class Handler(BaseHTTPRequestHandler):
    """Answers whole bodies and keeps connections open; subclasses add `do_GET` and `do_POST`."""

    protocol_version = "HTTP/1.1"
    timeout = _IDLE_SECONDS
    # TCP would hold back the body until the head is acknowledged.
    disable_nagle_algorithm = True
    server: "HttpServer"

    def reply(self, code: int, content_type: str, body: bytes, **headers: str) -> None:
        """Sends an answer with its length."""
        self.send_response(code)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        if self.server.stopping:
            self.send_header("Connection", "close")  # which closes it, too
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Answers what is no HTTP that is known here, in the shape of all refusals, and closes."""
        self.close_connection = True
        reason = message or HTTPStatus(code).phrase
        self.reply(code, "application/json", json.dumps({"error": reason}).encode())

    def version_string(self) -> str:
        """The `Server` header: tells no version of anything."""
        return "tandem"

    def log_message(self, *_: Any) -> None:
        """Nothing: paths hold what clients wrote; the request log says what may be said."""


class HttpServer(socketserver.ThreadingMixIn, socketserver.TCPServer):
    """Listens at once, answers after `start`.

    Attributes:
      port: that it listens on.
      stopping: whether open connections are to be closed after their next answer.
    """

    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 128

    def __init__(
        self,
        address: tuple[str, int],
        flag: str,
        tls: ssl.SSLContext | None = None,
        connections: int = 256,
    ) -> None:
        """Binds the port.

        Args:
          address: host and port; port 0 takes any that is free.
          flag: names the port in an error.
          tls: for HTTPS.
          connections: open at once; one more is closed.

        Raises:
          TandemError: the port is in use.
        """
        self.address_family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        self._tls = tls
        self._free = threading.Semaphore(connections)
        self.stopping = False
        self._answering = 0
        self._lock = threading.Lock()
        try:
            super().__init__(address, BaseHTTPRequestHandler)
        except (OSError, OverflowError) as error:
            raise TandemError(
                f"{address[0]}:{address[1]} cannot be listened on, expected a free port of this machine: stop"
                f" what uses it or name another with {flag}."
            ) from error
        self.port = int(self.server_address[1])
        self._thread = threading.Thread(
            target=self.serve_forever, args=(0.1,), name=f"http {flag}", daemon=True
        )

    def start(self, handler: type[Handler]) -> None:
        """Begins to answer with a handler, on a thread of its own."""
        self.RequestHandlerClass = handler
        self._thread.start()

    def stop(self, drain_seconds: float) -> None:
        """Takes no new connection, waits so long for those that are busy, and gives the port back."""
        self.stopping = True
        if self._thread.is_alive():
            self.shutdown()
        self.server_close()
        deadline = time.monotonic() + drain_seconds
        while self._answering and time.monotonic() < deadline:
            time.sleep(0.02)

    @contextlib.contextmanager
    def answering(self) -> Iterator[None]:
        """Holds up `stop` while an answer is worked on."""
        with self._lock:
            self._answering += 1
        try:
            yield
        finally:
            with self._lock:
                self._answering -= 1

    def get_request(self) -> tuple[Any, Any]:
        """Accepts a connection; the TLS handshake is left to its own thread, which a client may hold up."""
        connection, address = super().get_request()
        if self._tls is None:
            return connection, address
        return (
            self._tls.wrap_socket(connection, server_side=True, do_handshake_on_connect=False),
            address,
        )

    def process_request(self, request: Any, client_address: Any) -> None:
        """Gives a connection its thread, or closes it where there are too many."""
        if self._free.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Answers a connection until it is closed."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._free.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that goes away or speaks no TLS is none of the server's faults."""
        logger.debug("an HTTP connection broke off", exc_info=True)
