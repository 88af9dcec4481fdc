"""The retrieval server: TensorFlow Serving's gRPC API over the newest bundle of a push directory."""

import gc
import logging
import os
import signal
import sys
import threading
from concurrent import futures
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc

from serving.settings import MODEL_NAME
from transform.errors import TandemError

if TYPE_CHECKING:
    from serving.request_inputs import Limits

logger = logging.getLogger("tandem.serving")

# Requests worked on at once; TensorFlow and ScaNN let go of the interpreter lock while they compute.
_THREADS = 16
# Requests in flight get this long to finish after SIGTERM.
_DRAIN_SECONDS = 10.0
_MAX_MESSAGE_BYTES = 16 << 20


class RetrievalServer:
    """A server that has its port and, sooner or later, a version to answer from.

    Attributes:
      port: the port it listens on.
    """

    def __init__(self, server: grpc.Server, watcher: Any, port: int) -> None:
        self._server = server
        self._watcher = watcher
        self.port = port

    def stop(self, drain_seconds: float = _DRAIN_SECONDS) -> None:
        """Takes no new request, lets those in flight finish, and returns when all is over."""
        self._watcher.stop()
        self._server.stop(drain_seconds).wait()


def start(
    push_dir: str | os.PathLike[str],
    port: int,
    *,
    host: str = "127.0.0.1",
    model_name: str = MODEL_NAME,
    poll_seconds: float = 1.0,
    limits: "Limits | None" = None,
) -> RetrievalServer:
    """Starts a server and returns; it answers UNAVAILABLE until a version is loaded.

    Args:
      push_dir: the directory of versions; may not be there yet.
      port: 0 takes any that is free.
      host: the interface to listen on.
      model_name: the name that requests must give.
      poll_seconds: how often the push directory is looked into.
      limits: how large a request may be.

    Raises:
      TandemError: the port is in use, or the push directory is a file.
    """
    path = Path(push_dir)
    if path.exists() and not path.is_dir():
        raise TandemError(
            f"push directory {str(path)!r} is a file, expected a directory of versions: name another."
        )
    server = grpc.server(
        futures.ThreadPoolExecutor(_THREADS, thread_name_prefix="request"),
        options=[
            ("grpc.so_reuseport", 0),
            ("grpc.max_receive_message_length", _MAX_MESSAGE_BYTES),
            ("grpc.max_send_message_length", _MAX_MESSAGE_BYTES),
        ],
    )
    bound = _bind(server, host, port)

    import tensorflow_text  # noqa: F401  imported here so that it is frozen, too
    from tensorflow_serving.apis import model_service_pb2_grpc, prediction_service_pb2_grpc

    from serving.ready_bundle import load_and_warm_up
    from serving.request_inputs import Limits
    from serving.servicers import ModelServicer, PredictionServicer
    from serving.version_watcher import VersionWatcher

    gc.freeze()  # what is imported stays: collecting a replaced version need not look through it
    limits = limits or Limits()
    watcher = VersionWatcher(path, lambda directory: load_and_warm_up(directory, limits), poll_seconds)
    prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(
        PredictionServicer(model_name, watcher, limits), server
    )
    model_service_pb2_grpc.add_ModelServiceServicer_to_server(ModelServicer(model_name, watcher), server)
    server.start()
    watcher.start()
    return RetrievalServer(server, watcher, bound)


def serve(
    push_dir: str | os.PathLike[str],
    port: int,
    host: str = "127.0.0.1",
    model_name: str = MODEL_NAME,
    poll_seconds: float = 1.0,
) -> None:
    """Serves until SIGTERM or SIGINT, then drains and returns; logs to standard error.

    Args:
      push_dir: the directory of versions.
      port: 0 takes any that is free and logs it.
      host: the interface to listen on.
      model_name: the name that requests must give.
      poll_seconds: how often the push directory is looked into.

    Raises:
      TandemError: the port is in use, or the push directory is a file.
    """
    _log_to_stderr()
    stopping = threading.Event()
    for name in (signal.SIGTERM, signal.SIGINT):
        signal.signal(name, lambda *_: stopping.set())
    server = start(push_dir, port, host=host, model_name=model_name, poll_seconds=poll_seconds)
    logger.info("listening on %s:%d (gRPC, model %r)", host, server.port, model_name)
    while not stopping.wait(1.0):
        pass
    logger.info("stopping: requests in flight finish")
    server.stop()
    logger.info("stopped")


def _bind(server: grpc.Server, host: str, port: int) -> int:
    try:
        bound = int(server.add_insecure_port(f"{host}:{port}"))
    except RuntimeError:
        bound = 0
    if not bound:
        raise TandemError(
            f"{host}:{port} cannot be listened on, expected a free port of this machine: stop what uses it or"
            " name another with --port."
        )
    return bound


def _log_to_stderr() -> None:
    tandem = logging.getLogger("tandem")
    if not tandem.handlers:
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
        tandem.addHandler(handler)
        tandem.setLevel(logging.INFO)
        tandem.propagate = False
