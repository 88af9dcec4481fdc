"""The retrieval server: TensorFlow Serving's gRPC API over the newest bundle of a push directory."""

import gc
import logging
import os
import signal
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc

from serving.grpc_server import add_services, make_server, report_health
from serving.model_config import ServedModel, read_model_config
from serving.request_gate import RequestGate
from serving.server_options import ServerOptions
from serving.settings import MODEL_NAME
from serving.version_choice import NEWEST
from transform.errors import TandemError

if TYPE_CHECKING:
    from grpc_health.v1.health import HealthServicer

logger = logging.getLogger("tandem.serving")

# Requests in flight get this long to finish after SIGTERM.
_DRAIN_SECONDS = 10.0


class RetrievalServer:
    """A server that has its port and, sooner or later, a version to answer from.

    Attributes:
      port: the port it listens on.
    """

    def __init__(self, server: grpc.Server, watcher: Any, health: "HealthServicer", port: int) -> None:
        self._server = server
        self._watcher = watcher
        self._health = health
        self.port = port

    def stop(self, drain_seconds: float = _DRAIN_SECONDS) -> None:
        """Takes no new request, lets those in flight finish, and returns when all is over."""
        self._health.enter_graceful_shutdown()
        self._watcher.stop()
        self._server.stop(drain_seconds).wait()


def start(push_dir: str | os.PathLike[str], port: int, **settings: Any) -> RetrievalServer:
    """Starts a server and returns; it answers UNAVAILABLE until a version is loaded.

    Args:
      push_dir: the directory of versions; may not be there yet.
      port: 0 takes any that is free.
      **settings: other fields of `ServerOptions`.

    Raises:
      TandemError: an option is wrong, the port is in use, or the push directory is a file.
    """
    return _start(ServerOptions(push_dir, port, **settings))


def serve(options: ServerOptions) -> None:
    """Serves until SIGTERM or SIGINT, then drains and returns; logs to standard error.

    Raises:
      TandemError: the port is in use, or the push directory is a file.
    """
    _log_to_stderr()
    stopping = threading.Event()
    for name in (signal.SIGTERM, signal.SIGINT):
        signal.signal(name, lambda *_: stopping.set())
    server = _start(options)
    while not stopping.wait(1.0):
        pass
    logger.info("stopping: requests in flight finish")
    server.stop()
    logger.info("stopped")


def _start(options: ServerOptions) -> RetrievalServer:
    model = _model(options)
    path = Path(model.base_path)
    if path.exists() and not path.is_dir():
        raise TandemError(
            f"push directory {str(path)!r} is a file, expected a directory of versions: name another."
        )
    server, port = make_server(options)

    import tensorflow_text  # noqa: F401  imported here so that it is frozen, too

    from serving.answers import Answers
    from serving.ready_bundle import load_and_warm_up
    from serving.version_watcher import VersionWatcher

    gc.freeze()  # what is imported stays: collecting a replaced version need not look through it
    gate = RequestGate(options.max_in_flight, options.workers)
    watcher = VersionWatcher(
        path,
        lambda directory: load_and_warm_up(directory, options.limits),
        options.poll_seconds,
        model.choice,
    )
    health = add_services(server, Answers(model.name, watcher, options.limits, gate))
    watcher.when_ready = lambda: report_health(health, serving=True)
    server.start()
    watcher.start()
    logger.info("listening on %s:%d (gRPC, model %r)", options.host, port, model.name)
    return RetrievalServer(server, watcher, health, port)


def _model(options: ServerOptions) -> ServedModel:
    if not options.model_config_file:
        return ServedModel(options.model_name or MODEL_NAME, os.fspath(options.push_dir), NEWEST)
    model = read_model_config(options.model_config_file)
    push_dir = os.fspath(options.push_dir) or model.base_path
    if not push_dir:
        raise TandemError(
            f"{options.model_config_file} has no base_path, expected the push directory: add it, or name one"
            " with --push-dir."
        )
    return model._replace(base_path=push_dir)


def _log_to_stderr() -> None:
    tandem = logging.getLogger("tandem")
    if not tandem.handlers:
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
        tandem.addHandler(handler)
        tandem.setLevel(logging.INFO)
        tandem.propagate = False
