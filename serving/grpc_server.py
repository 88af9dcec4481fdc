"""A gRPC server with the port it listens on: TensorFlow Serving's services, health and reflection."""

from concurrent import futures
from typing import TYPE_CHECKING

import grpc

from serving.grpc_access import GrpcAccess
from serving.server_options import ServerOptions
from transform.errors import TandemError

if TYPE_CHECKING:
    from grpc_health.v1.health import HealthServicer

    from serving.answers import Answers

# Beyond the requests in flight: threads that answer health and status, and refuse what is one too many.
_SPARE_THREADS = 8
# Calls that may be known beyond that; gRPC itself refuses one more, which keeps the memory bounded.
_SPARE_CALLS = 256
# A client that says nothing is asked after so long whether it is there, and its connection closed without an answer in time;
# one that connects and never begins to speak gRPC has that time, too.
_KEEPALIVE_MS = 60_000
_KEEPALIVE_ANSWER_MS = 20_000


def make_server(
    options: ServerOptions, access: GrpcAccess, credentials: grpc.ServerCredentials | None
) -> tuple[grpc.Server, int]:
    """A server that has its port and answers nothing yet.

    Args:
      options: where it listens, and its limits.
      access: sees every call first.
      credentials: for TLS.

    Returns:
      The server and its port.

    Raises:
      TandemError: the port is in use.
    """
    size = options.max_message_mb << 20
    server = grpc.server(
        futures.ThreadPoolExecutor(options.max_in_flight + _SPARE_THREADS, thread_name_prefix="request"),
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
    return server, _bind(server, options, credentials)


def add_services(server: grpc.Server, answers: "Answers") -> "HealthServicer":
    """Adds every service.

    Returns:
      The health service, NOT_SERVING until `report_health` says otherwise.
    """
    from grpc_health.v1 import health, health_pb2, health_pb2_grpc
    from grpc_reflection.v1alpha import reflection
    from tensorflow_serving.apis import (
        model_service_pb2,
        model_service_pb2_grpc,
        prediction_service_pb2,
        prediction_service_pb2_grpc,
    )

    from serving.catalogue_service import add_catalogue_service
    from serving.servicers import ModelServicer, PredictionServicer

    prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(PredictionServicer(answers), server)
    model_service_pb2_grpc.add_ModelServiceServicer_to_server(ModelServicer(answers), server)
    catalogue = add_catalogue_service(server, answers)
    health_servicer = health.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(health_servicer, server)
    described = (prediction_service_pb2, model_service_pb2, health_pb2)
    services = [name.full_name for file in described for name in file.DESCRIPTOR.services_by_name.values()]
    reflection.enable_server_reflection([*services, catalogue, reflection.SERVICE_NAME], server)
    report_health(health_servicer, serving=False)
    return health_servicer


def report_health(servicer: "HealthServicer", serving: bool) -> None:
    """Tells `grpc.health.v1` clients, those that watch too, whether the server has a version to answer from."""
    from grpc_health.v1 import health_pb2
    from tensorflow_serving.apis import prediction_service_pb2

    states = health_pb2.HealthCheckResponse
    state = states.SERVING if serving else states.NOT_SERVING
    (prediction,) = prediction_service_pb2.DESCRIPTOR.services_by_name.values()
    for service in ("", prediction.full_name):
        servicer.set(service, state)


def _bind(server: grpc.Server, options: ServerOptions, credentials: grpc.ServerCredentials | None) -> int:
    host = f"[{options.host}]" if ":" in options.host else options.host
    address = f"{host}:{options.port}"
    try:
        if credentials is None:
            bound = int(server.add_insecure_port(address))
        else:
            bound = int(server.add_secure_port(address, credentials))
    except RuntimeError:
        bound = 0
    if not bound:
        raise TandemError(
            f"{address} cannot be listened on, expected a free port of this machine: stop what uses it or"
            " name another with --port."
        )
    return bound
