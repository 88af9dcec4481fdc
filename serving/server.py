"""The retrieval server: TensorFlow Serving's API over the versions of a push directory."""

import gc
import logging
import os
import signal
import sys
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from serving.access import Access, read_tokens
from serving.answer_cache import AnswerCache
from serving.background import AT_ONCE, GIVING_WAY, Pace
from serving.batching import Batcher
from serving.batching_file import read_batching_parameters
from serving.bfloat16 import multiplies_bfloat16
from serving.catalogue_log import CatalogueLog
from serving.catalogue_metrics import CatalogueMetrics
from serving.engine_process import EngineProcess
from serving.grpc_access import GrpcAccess
from serving.grpc_server import GrpcServer
from serving.http_server import HttpServer
from serving.live_catalogue import LiveCatalogue
from serving.loaded_bundle import LoadedBundle
from serving.model_config import ServedModel, read_model_config
from serving.monitoring import Monitoring, metrics_handler
from serving.observed import Observed, Observer
from serving.prediction_log import PredictionLogger
from serving.ready_bundle import load_and_warm_up
from serving.request_gate import RequestGate
from serving.request_log import RequestLog
from serving.server_options import ServerOptions
from serving.settings import MODEL_NAME
from serving.tls import Tls, read_tls
from serving.version_choice import NEWEST
from serving.version_watcher import VersionWatcher
from transform.errors import TandemError

logger = logging.getLogger("tandem.serving")

# Requests in flight get this long to finish after SIGTERM.
_DRAIN_SECONDS = 10.0
# How long a thread that waits for the interpreter lock leaves it to another. Python's own 5 ms are what a batch that is
# computed would wait for the event loop, several times; much less wakes up as often, which is dear.
_SWITCH_SECONDS = 0.001
# The same while a version is loaded, which a request waits for a dozen times; one thread takes all requests in, so at 0.1 ms
# they pile up.
_LOADING_SWITCH_SECONDS = 0.00001


class RetrievalServer:
    """A server that has its ports and, sooner or later, a version to answer from.

    Attributes:
      port: the gRPC port it listens on.
      rest_port: the port of the REST API; none where it was not asked for.
      metrics_port: the port of the metrics; none where they were not asked for.
    """

    def __init__(self, options: ServerOptions) -> None:
        """Binds the ports.

        Raises:
          TandemError: a file cannot be used, a port is in use, or the push directory is a file.
        """
        model = _model(options)
        path = Path(model.base_path)
        if path.exists() and not path.is_dir():
            raise TandemError(
                f"push directory {str(path)!r} is a file, expected a directory of versions: name another."
            )
        batcher = None
        if options.batching_parameters_file:
            batcher = Batcher(read_batching_parameters(options.batching_parameters_file))
        cache = AnswerCache(options.cache_mb << 20) if options.cache_mb else None
        # Requests that wait to be batched do not compute: the batcher says how many calls there are at once.
        workers = options.max_in_flight if batcher else options.workers
        self._batcher = batcher
        self._gate = gate = RequestGate(options.max_in_flight, workers)
        log = CatalogueLog(options.catalog_dir or f"{os.path.abspath(path)}-catalog")
        self._catalogue = catalogue = LiveCatalogue(log, options.limits)
        self._limits = options.limits
        self._bfloat16 = options.precision == "bfloat16" or (
            options.precision == "auto" and multiplies_bfloat16()
        )
        self._watcher = VersionWatcher(path, self._load, options.poll_seconds, model.choice)
        self._monitoring = Monitoring(model.name, self._watcher, gate, batcher, cache)
        self._monitoring.registry.register(CatalogueMetrics(model.name, catalogue, self._watcher))
        observers = [self._monitoring.observe]
        if options.request_log:
            request_log = RequestLog(options.request_log, model.name, options.log_inputs)
            self._monitoring.registry.register(request_log)
            observers.append(request_log.observe)
        self._prediction_log: PredictionLogger | None = None
        if options.prediction_log:
            self._prediction_log = PredictionLogger(options.prediction_log, options.prediction_log_rate)
            self._monitoring.registry.register(self._prediction_log)
            observers.append(self._prediction_log.observe)
        observe = _all(observers)
        access = Access(read_tokens(options.tokens) if options.tokens else None)
        tls = read_tls(options.tls_cert, options.tls_key, options.tls_client_ca) if options.tls_cert else None
        self._server = GrpcServer(options, GrpcAccess(access, observe), tls.credentials if tls else None)
        self.port = self._server.port
        self._rest = _listen("--rest-port", options.host, options.rest_port, tls)
        self.rest_port = self._rest.port if self._rest else None
        self._metrics = _listen("--metrics-port", options.host, options.metrics_port, tls)
        self.metrics_port = self._metrics.port if self._metrics else None

        import tensorflow_text  # noqa: F401  imported here so that it is frozen, too

        from serving.answers import Answers
        from serving.rest_server import rest_handler

        gc.freeze()  # what is imported stays: collecting a replaced version need not look through it
        answers = Answers(model.name, self._watcher, options.limits, gate, observe, batcher, cache, catalogue)
        self._server.add_services(answers)
        self._rest_handler = rest_handler(answers, access, options.max_message_mb << 20)
        self._watcher.when_ready = lambda: self._server.report_health(serving=True)
        precision = "bfloat16" if self._bfloat16 else "float32"
        logger.info(
            "listening on %s:%d (gRPC, model %r; encoders in %s)",
            options.host,
            self.port,
            model.name,
            precision,
        )
        for http, what in ((self._rest, "REST"), (self._metrics, "metrics")):
            if http:
                logger.info("listening on %s:%d (%s)", options.host, http.port, what)

    def start(self) -> None:
        """Begins to answer: UNAVAILABLE until a version is loaded."""
        self._server.start()
        if self._rest:
            self._rest.start(self._rest_handler)
        if self._metrics:
            self._metrics.start(metrics_handler(self._monitoring.registry))
        if self._batcher:
            self._batcher.start()
        self._catalogue.start()
        self._watcher.start()

    def stop(self, drain_seconds: float = _DRAIN_SECONDS) -> None:
        """Takes no new request, lets those in flight finish, and returns when all is over."""
        stopping = self._server.stop(drain_seconds)
        self._watcher.stop()
        self._catalogue.stop()
        for http in (self._rest, self._metrics):
            if http:
                http.stop(drain_seconds)
        stopping.result()
        if self._batcher:
            self._batcher.stop()
        if self._prediction_log:
            self._prediction_log.stop()

    def _load(self, directory: Path) -> LoadedBundle:
        """Loads a version beside the one that answers, which it must not hold up."""
        pace = GIVING_WAY if self._watcher.current else AT_ONCE
        before = sys.getswitchinterval()
        sys.setswitchinterval(_LOADING_SWITCH_SECONDS)
        try:
            bundle = load_and_warm_up(directory, self._limits, pace, self._load_engine)
            return self._catalogue.attach(bundle)
        finally:
            sys.setswitchinterval(before)

    def _load_engine(self, directory: Path, pace: Pace) -> EngineProcess:
        return EngineProcess(directory, pace, self._bfloat16)


def start(push_dir: str | os.PathLike[str], port: int, **settings: Any) -> RetrievalServer:
    """Starts a server and returns; it answers UNAVAILABLE until a version is loaded.

    Args:
      push_dir: the directory of versions; may not be there yet.
      port: 0 takes any that is free.
      **settings: other fields of `ServerOptions`.

    Raises:
      TandemError: an option is wrong, a port is in use, or the push directory is a file.
    """
    server = RetrievalServer(ServerOptions(push_dir, port, **settings))
    server.start()
    return server


def serve(options: ServerOptions) -> None:
    """Serves until SIGTERM or SIGINT, then drains and returns; logs to standard error.

    Raises:
      TandemError: a file cannot be used, a port is in use, or the push directory is a file.
    """
    _log_to_stderr()
    # Versions compute in processes of their own: the first must not take all of an accelerator's memory.
    os.environ.setdefault("TF_FORCE_GPU_ALLOW_GROWTH", "true")
    _compute_one_core_a_request()
    sys.setswitchinterval(_SWITCH_SECONDS)
    stopping = threading.Event()
    for name in (signal.SIGTERM, signal.SIGINT):
        signal.signal(name, lambda *_: stopping.set())
    server = RetrievalServer(options)
    server.start()
    while not stopping.wait(1.0):
        pass
    logger.info("stopping: requests in flight finish")
    server.stop()
    logger.info("stopped")


def _compute_one_core_a_request() -> None:
    """Has TensorFlow use one core an operation: the cores are kept busy by batches beside each other.

    Splitting an encoder's small products between cores costs more processor time than it saves.
    """
    import tensorflow as tf

    try:
        tf.config.threading.set_intra_op_parallelism_threads(1)
    except RuntimeError:  # a process that has computed already
        logger.debug("TensorFlow splits operations between cores: it has computed before it was to serve")


def _listen(flag: str, host: str, port: int | None, tls: Tls | None) -> HttpServer | None:
    if port is None:
        return None
    return HttpServer((host, port), flag, tls.context if tls else None)


def _all(observers: Iterable[Observer]) -> Observer:
    def observe(observed: Observed) -> None:
        for observer in observers:
            observer(observed)

    return observe


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
