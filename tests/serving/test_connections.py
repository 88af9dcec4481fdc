"""Clients that are slow, half open or silent hold up nobody and are let go of; no request reaches the file system."""

import http.client
import socket
import struct
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import grpc
import pytest
from tensorflow_serving.apis import model_management_pb2, model_service_pb2_grpc

from serving import server as servers
from serving.bundle import publish
from serving.client import RetrievalClient, wait_until_available
from tests.serving.conftest import Shop
from transform.errors import TandemError

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + struct.pack(">HBBBL", 0, 0, 4, 0, 0)  # and empty SETTINGS
HALF_A_HEAD = b"POST /v1/models/retrieval:predict HTTP/1.1\r\nHost: x\r\nContent-Le"
HALF_A_BODY = b'POST /v1/models/retrieval:predict HTTP/1.1\r\nContent-Length: 100\r\n\r\n{"inputs"'


@pytest.fixture
def impatient(push_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[servers.RetrievalServer]:
    """A server that waits for tenths of seconds where it would wait for tens of seconds."""
    monkeypatch.setattr("serving.grpc_server._KEEPALIVE_MS", 300)
    monkeypatch.setattr("serving.grpc_server._KEEPALIVE_ANSWER_MS", 300)
    monkeypatch.setattr("serving.http_server.Handler.timeout", 0.3)
    server = servers.start(push_dir, 0, poll_seconds=0.05, rest_port=0, max_streams=5)
    wait_until_available(f"127.0.0.1:{server.port}")
    yield server
    server.stop()


def closed_by_the_server(connection: socket.socket) -> bool:
    """Reads to the end; a server that holds on to a connection makes this fail."""
    connection.settimeout(30)
    try:
        while connection.recv(4096):
            pass
    except ConnectionResetError:
        pass
    return True


@pytest.mark.parametrize(
    ("port", "sent"),
    [
        (lambda server: server.port, b""),  # never begins to speak
        (lambda server: server.port, PREFACE),  # speaks HTTP/2, and never answers a ping
        (lambda server: server.port, b"GET / HTTP/1.1\r\n\r\n"),  # speaks something else
        (lambda server: server.rest_port, b""),
        (lambda server: server.rest_port, HALF_A_HEAD),
        (lambda server: server.rest_port, HALF_A_BODY),
    ],
)
def test_silent_connections_are_let_go_of_while_others_are_answered(
    impatient: servers.RetrievalServer, port: Callable[[servers.RetrievalServer], int], sent: bytes
) -> None:
    with ExitStack() as stack:
        silent = [
            stack.enter_context(socket.create_connection(("127.0.0.1", port(impatient)), timeout=30))
            for _ in range(20)
        ]
        for connection in silent:
            connection.sendall(sent)
        with RetrievalClient(f"127.0.0.1:{impatient.port}") as client:
            assert client.search("red mug").version == 1
        assert all(closed_by_the_server(connection) for connection in silent)


def test_concurrent_streams_are_limited_to_what_was_said(impatient: servers.RetrievalServer) -> None:
    with socket.create_connection(("127.0.0.1", impatient.port), timeout=30) as connection:
        connection.sendall(PREFACE)
        stream = connection.makefile("rb")
        high, low, kind, _, _ = struct.unpack(">HBBBL", stream.read(9))
        assert kind == 4  # SETTINGS
        settings = dict(struct.iter_unpack(">HL", stream.read(high << 8 | low)))
    assert settings[3] == 5  # MAX_CONCURRENT_STREAMS


def test_no_request_reaches_the_file_system(
    impatient: servers.RetrievalServer, shop: Shop, tmp_path: Path
) -> None:
    elsewhere = tmp_path / "elsewhere"
    publish(shop.bundle_dir, elsewhere, 9)
    address = f"127.0.0.1:{impatient.port}"
    request = model_management_pb2.ReloadConfigRequest()
    request.config.model_config_list.config.add(name="retrieval", base_path=str(elsewhere))
    with grpc.insecure_channel(address) as channel:
        stub = model_service_pb2_grpc.ModelServiceStub(channel)
        assert stub.HandleReloadConfigRequest(request, timeout=30).status.error_code == 0
        request.config.model_config_list.config[0].logging_config.log_collector_config.filename_prefix = str(
            tmp_path / "log"
        )
        with pytest.raises(grpc.RpcError, match="logging_config is not offered"):
            stub.HandleReloadConfigRequest(request, timeout=30)
    assert set(impatient._watcher.loaded) == {1}
    with (
        RetrievalClient(address, f"../{elsewhere.name}") as client,
        pytest.raises(TandemError, match="NOT_FOUND"),
    ):
        client.search("mug")
    rest = http.client.HTTPConnection("127.0.0.1", impatient.rest_port, timeout=30)
    for path in ("/v1/models/../../push/1/saved_model.pb", "/push/1/saved_model.pb", "//etc/hosts"):
        rest.request("GET", path)
        reply = rest.getresponse()
        assert (reply.status, b"error" in reply.read()) == (404, True)
    rest.close()
