"""The probe: what it says of a server with TLS that serves, does not serve yet, is another's, or is not there."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import grpc
import pytest
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from serving.check_health import main
from tests.serving.certificates import Authority

STATES = health_pb2.HealthCheckResponse


class Probed(NamedTuple):
    """A server with a certificate of the authority, and nothing but health."""

    port: int
    health: health.HealthServicer
    authority: Authority


@pytest.fixture
def probed(tmp_path: Path) -> Iterator[Probed]:
    authority = Authority(tmp_path, "root")
    pem = authority.issue("server")
    pair = (Path(pem.key).read_bytes(), Path(pem.cert).read_bytes())
    server = grpc.server(ThreadPoolExecutor(2))
    servicer = health.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    port = server.add_secure_port("127.0.0.1:0", grpc.ssl_server_credentials([pair]))
    server.start()
    yield Probed(port, servicer, authority)
    server.stop(None)


def ask(port: int, ca: str = "", seconds: float = 10) -> int:
    return main([f"--port={port}", f"--ca={ca}", f"--seconds={seconds}"])


def test_a_server_is_ready_once_it_serves(probed: Probed, capsys: pytest.CaptureFixture[str]) -> None:
    probed.health.set("", STATES.NOT_SERVING)
    assert ask(probed.port, probed.authority.root) == 1
    probed.health.set("", STATES.SERVING)
    assert ask(probed.port, probed.authority.root) == 0
    assert capsys.readouterr().out.splitlines() == ["NOT_SERVING", "SERVING"]


def test_a_certificate_of_another_root_is_not_ready(probed: Probed, tmp_path: Path) -> None:
    assert ask(probed.port, Authority(tmp_path, "other").root, seconds=3) == 1


def test_without_tls_a_tls_port_is_not_ready(probed: Probed) -> None:
    assert ask(probed.port, seconds=3) == 1


def test_a_root_that_cannot_be_read_is_not_ready_and_named(
    probed: Probed, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ask(probed.port, "gone.crt") == 1
    assert "gone.crt cannot be read" in capsys.readouterr().out


def test_no_server_is_not_ready(probed: Probed, capsys: pytest.CaptureFixture[str]) -> None:
    with grpc.insecure_channel("127.0.0.1:1"):
        assert ask(1, probed.authority.root, seconds=3) == 1
    assert capsys.readouterr().out.strip() in ("UNAVAILABLE", "DEADLINE_EXCEEDED")
