"""Asks a server for its health as an orchestrator's probe does: exit status 0 where it is SERVING, 1 where not.

Kubernetes' own gRPC probe does not speak TLS, this one does: `python -m serving.check_health --port 8500 --ca ca.crt`.
"""

import argparse
import sys
from collections.abc import Sequence

from serving.channel import Security, open_channel
from transform.errors import TandemError


def check_health(address: str, security: Security, seconds: float) -> str:
    """Calls `grpc.health.v1.Health/Check` once.

    Args:
      address: host:port; with TLS, the server's certificate must name the host.
      security: how the server is known; health asks for no token.
      seconds: how long an answer may take.

    Returns:
      "SERVING", "NOT_SERVING", or the name of the gRPC status where there was no answer.

    Raises:
      TandemError: a file cannot be read.
    """
    import grpc
    from grpc_health.v1 import health_pb2, health_pb2_grpc

    with open_channel(address, security) as channel:
        try:
            answer = health_pb2_grpc.HealthStub(channel).Check(
                health_pb2.HealthCheckRequest(), timeout=seconds
            )
        except grpc.RpcError as error:
            return str(error.code().name)
    return str(health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status))


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints what `check_health` found; the process's own words by default."""
    parser = argparse.ArgumentParser(prog="check_health", description=__doc__)
    parser.add_argument("--port", type=int, required=True, help="gRPC port of the server")
    parser.add_argument("--host", default="127.0.0.1", help="a name or address in its certificate")
    parser.add_argument("--ca", default="", metavar="PEM", help="roots of its certificate (default: no TLS)")
    parser.add_argument("--seconds", type=float, default=4.0, help="how long an answer may take (default: 4)")
    options = parser.parse_args(arguments)
    try:
        found = check_health(f"{options.host}:{options.port}", Security(ca_file=options.ca), options.seconds)
    except TandemError as error:
        found = str(error)
    print(found)
    return 0 if found == "SERVING" else 1


if __name__ == "__main__":
    sys.exit(main())
