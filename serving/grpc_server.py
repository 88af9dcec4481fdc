"""A gRPC server with the port it listens on: TensorFlow Serving's services, health and reflection."""

from concurrent import futures
from typing import TYPE_CHECKING

import grpc

from serving import grpc_loop
from serving.grpc_access import GrpcAccess
from serving.server_options import ServerOptions
from transform.errors import TandemError

if TYPE_CHECKING:
    from serving.answers import Answers

# Beyond the requests in flight: threads that answer status and metadata, and refuse what is one too many.
_SPARE_THREADS = 8
# Calls that may be known beyond that; gRPC itself refuses one more, which keeps the memory bounded.
_SPARE_CALLS = 256
# A client that says nothing is asked after so long whether it is there, and its connection closed without an answer in time;
# one that connects and never begins to speak gRPC has that time, too.
_KEEPALIVE_MS = 60_000
_KEEPALIVE_ANSWER_MS = 20_000


class GrpcServer:
    """Listens from its making on, and answers once it is started; its methods are for threads other than the loop's.

    Attributes:
      port: the port it listens on.
    """

    def __init__(
        self, options: ServerOptions, access: GrpcAccess, credentials: grpc.ServerCredentials | None
    ) -> None:
        """Binds the port.

        Args:
          options: where it listens, and its limits.
          access: sees every call first.
          credentials: for TLS.

        Raises:
          TandemError: the port is in use.
        """
        from grpc_health.v1 import health

        self._threads = futures.ThreadPoolExecutor(
            options.max_in_flight + _SPARE_THREADS, thread_name_prefix="request"
        )
        self._health = health.aio.HealthServicer()
        self._server, self.port = grpc_loop.run(_bound(options, access, credentials))

    def add_services(self, answers: "Answers") -> None:
        """Adds every service; health says NOT_SERVING until `report_health` says otherwise."""
        grpc_loop.run(self._add_services(answers))
        self.report_health(serving=False)

    def report_health(self, serving: bool) -> None:
        """Tells `grpc.health.v1` clients, those that watch too, whether there is a version to answer from."""
        grpc_loop.run(self._report_health(serving))

    def start(self) -> None:
        """Begins to answer."""
        grpc_loop.run(self._server.start())

    def stop(self, drain_seconds: float) -> "futures.Future[None]":
        """Takes no new request; what it returns is done when those in flight are answered, or after so long cut off."""
        grpc_loop.run(self._health.enter_graceful_shutdown())
        return grpc_loop.begin(self._stop(drain_seconds))

    async def _stop(self, drain_seconds: float) -> None:
        await self._server.stop(drain_seconds)
        self._threads.shutdown(wait=False)

    async def _add_services(self, answers: "Answers") -> None:
        from grpc_health.v1 import health_pb2, health_pb2_grpc
        from grpc_reflection.v1alpha import reflection
        from tensorflow_serving.apis import (
            model_service_pb2,
            model_service_pb2_grpc,
            prediction_service_pb2,
            prediction_service_pb2_grpc,
        )

        from serving.catalogue_service import add_catalogue_service
        from serving.servicers import ModelServicer, PredictionServicer

        server, threads = self._server, self._threads
        prediction = PredictionServicer(answers, threads)
        prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(prediction, server)
        model_service_pb2_grpc.add_ModelServiceServicer_to_server(ModelServicer(answers, threads), server)
        catalogue = add_catalogue_service(server, answers, threads)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, server)
        described = (prediction_service_pb2, model_service_pb2, health_pb2)
        services = [
            name.full_name for file in described for name in file.DESCRIPTOR.services_by_name.values()
        ]
        reflection.enable_server_reflection([*services, catalogue, reflection.SERVICE_NAME], server)

    async def _report_health(self, serving: bool) -> None:
        from grpc_health.v1 import health_pb2
        from tensorflow_serving.apis import prediction_service_pb2

        states = health_pb2.HealthCheckResponse
        state = states.SERVING if serving else states.NOT_SERVING
        (prediction,) = prediction_service_pb2.DESCRIPTOR.services_by_name.values()
        for service in ("", prediction.full_name):
            await self._health.set(service, state)


async def _bound(
    options: ServerOptions, access: GrpcAccess, credentials: grpc.ServerCredentials | None
) -> "tuple[grpc.aio.Server, int]":
    size = options.max_message_mb << 20
    server = grpc.aio.server(
        interceptors=[access],
        maximum_concurrent_rpcs=options.max_in_flight + _SPARE_CALLS,
        options=[
            ("grpc.so_reuseport", 0),
            ("grpc.max_receive_message_length", size),
            ("grpc.max_send_message_length", size),
            ("grpc.max_concurrent_streams", options.max_streams),
            ("grpc.keepalive_time_ms", _KEEPALIVE_MS),
            ("grpc.keepalive_timeout_ms", _KEEPALIVE_ANSWER_MS),
            ("grpc.keepalive_permit_without_calls", 1),
            ("grpc.http2.ping_timeout_ms", _KEEPALIVE_ANSWER_MS),
            ("grpc.server_handshake_timeout_ms", _KEEPALIVE_ANSWER_MS),
        ],
    )
    host = f"[{options.host}]" if ":" in options.host else options.host
    address = f"{host}:{options.port}"
    try:
        if credentials is None:
            port = int(server.add_insecure_port(address))
        else:
            port = int(server.add_secure_port(address, credentials))
    except RuntimeError:
        port = 0
    if not port:
        raise TandemError(
            f"{address} cannot be listened on, expected a free port of this machine: stop what uses it or"
            " name another with --port."
        )
    return server, port
