"""Only who may ask gets an answer: TLS, mutual TLS, tokens and their roles, and what is open without them."""

import http.client
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from prometheus_client.parser import text_string_to_metric_families
from tensorflow_serving.apis import model_management_pb2, model_service_pb2_grpc, prediction_service_pb2_grpc

from serving import server as servers
from serving.access import Access, Grant, Role, read_tokens
from serving.bundle import publish
from serving.channel import Security, open_channel
from serving.client import RetrievalClient, wait_until_available
from serving.request_inputs import RequestError
from serving.server_options import ServerOptions
from serving.tls import read_tls
from tests.serving.certificates import Authority, Pem
from tests.serving.conftest import Shop, request_of
from transform.errors import TandemError

QUERY_TOKEN, ADMIN_TOKEN = "query-0123456789abcdef", "admin-0123456789abcdef"
EXPIRED_TOKEN, LASTING_TOKEN = "expired-0123456789abcdef", "lasting-0123456789abcdef"


class Secured(NamedTuple):
    """A server with TLS, mutual TLS and tokens.

    Attributes:
      allowed: what a client with the query role needs.
      stranger: a certificate and key that another root has signed.
    """

    address: str
    metrics_port: int
    authority: Authority
    server_pem: Pem
    allowed: Security
    stranger: Pem


@pytest.fixture(scope="module")
def secured(shop: Shop, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    folder = tmp_path_factory.mktemp("secured")
    authority = Authority(folder, "root")
    server_pem, client_pem = authority.issue("server"), authority.issue("client")
    tokens = folder / "tokens"
    tokens.write_text(
        f"# role token\nquery {QUERY_TOKEN}\n\nadmin {ADMIN_TOKEN}\n"
        f"query {EXPIRED_TOKEN} 2020-01-01\nquery {LASTING_TOKEN} 2999-01-01\n"
    )
    publish(shop.bundle_dir, folder / "push", 1)
    server = servers.start(
        folder / "push",
        0,
        poll_seconds=0.05,
        host="0.0.0.0",
        tls_cert=server_pem.cert,
        tls_key=server_pem.key,
        tls_client_ca=authority.root,
        tokens=str(tokens),
        metrics_port=0,
    )
    address = f"127.0.0.1:{server.port}"
    allowed = Security(QUERY_TOKEN, authority.root, client_pem.cert, client_pem.key)
    wait_until_available(address, security=allowed)
    stranger = Authority(folder, "other").issue("stranger")
    assert server.metrics_port
    yield Secured(address, server.metrics_port, authority, server_pem, allowed, stranger)
    server.stop()


def status_of(secured: Secured, security: Security) -> str:
    """Status of a Predict with these papers; OK where it is answered."""
    with open_channel(secured.address, security) as channel:
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        try:
            stub.Predict(request_of(query=["mug"]), timeout=10)
        except grpc.RpcError as error:
            return error.code().name
        return "OK"


def test_client_with_papers_and_token_is_answered(secured: Secured) -> None:
    with RetrievalClient(secured.address, security=secured.allowed) as client:
        assert client.search("red mug").version == 1


def test_wrong_or_missing_token_is_unauthenticated(secured: Secured) -> None:
    allowed = secured.allowed
    assert status_of(secured, allowed) == "OK"
    assert status_of(secured, allowed._replace(token=ADMIN_TOKEN)) == "OK"  # admin may query, too
    assert status_of(secured, allowed._replace(token="")) == "UNAUTHENTICATED"
    assert status_of(secured, allowed._replace(token=QUERY_TOKEN[:-1])) == "UNAUTHENTICATED"
    assert status_of(secured, allowed._replace(token=QUERY_TOKEN.upper())) == "UNAUTHENTICATED"
    with open_channel(secured.address, allowed._replace(token="")) as channel:
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        for metadata in (
            [("authorization", f"Basic {QUERY_TOKEN}")],
            [("authorization", "Bearer ")],
            [("authorization", f"Bearer {QUERY_TOKEN}")] * 2,
        ):
            with pytest.raises(grpc.RpcError) as caught:
                stub.Predict(request_of(query=["mug"]), timeout=10, metadata=metadata)
            assert caught.value.code() == grpc.StatusCode.UNAUTHENTICATED
            assert QUERY_TOKEN not in caught.value.details()


def test_expired_token_is_unauthenticated(secured: Secured) -> None:
    assert status_of(secured, secured.allowed._replace(token=LASTING_TOKEN)) == "OK"
    with (
        RetrievalClient(secured.address, security=secured.allowed._replace(token=EXPIRED_TOKEN)) as client,
        pytest.raises(TandemError, match="UNAUTHENTICATED: the token has expired"),
    ):
        client.search("mug")


def test_token_expires_at_its_second(monkeypatch: pytest.MonkeyPatch) -> None:
    access = Access({QUERY_TOKEN: Grant(Role.QUERY, until=1000.0)})
    call = ("/tensorflow.serving.PredictionService/Predict", f"Bearer {QUERY_TOKEN}")
    monkeypatch.setattr("serving.access.time.time", lambda: 999.9)
    access.check(*call)
    monkeypatch.setattr("serving.access.time.time", lambda: 1000.0)
    with pytest.raises(RequestError, match="the token has expired"):
        access.check(*call)


def test_only_an_admin_may_change_the_configuration(secured: Secured) -> None:
    request = model_management_pb2.ReloadConfigRequest()
    request.config.model_config_list.config.add(name="retrieval").version_labels["stable"] = 1
    refused = {QUERY_TOKEN: grpc.StatusCode.PERMISSION_DENIED, "": grpc.StatusCode.UNAUTHENTICATED}
    for token, code in refused.items():
        with open_channel(secured.address, secured.allowed._replace(token=token)) as channel:
            stub = model_service_pb2_grpc.ModelServiceStub(channel)
            with pytest.raises(grpc.RpcError) as caught:
                stub.HandleReloadConfigRequest(request, timeout=10)
            assert caught.value.code() == code
    with open_channel(secured.address, secured.allowed._replace(token=ADMIN_TOKEN)) as channel:
        stub = model_service_pb2_grpc.ModelServiceStub(channel)
        assert stub.HandleReloadConfigRequest(request, timeout=10).status.error_code == 0


def test_health_needs_no_token_but_reflection_does(secured: Secured) -> None:
    with open_channel(secured.address, secured.allowed._replace(token="")) as channel:
        health = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=10)
        assert health.status == health_pb2.HealthCheckResponse.SERVING
        asked = iter([reflection_pb2.ServerReflectionRequest(list_services="")])
        with pytest.raises(grpc.RpcError) as caught:
            next(reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo(asked, timeout=10))
        assert caught.value.code() == grpc.StatusCode.UNAUTHENTICATED


def test_plaintext_and_strangers_do_not_get_through(secured: Secured) -> None:
    with (
        RetrievalClient(secured.address, security=Security(QUERY_TOKEN)) as client,
        pytest.raises(TandemError, match="no server answers at .*speak TLS to it if, and only if, it does"),
    ):
        client.search("mug")
    without = secured.allowed._replace(cert_file="", key_file="")
    assert status_of(secured, without) == "UNAVAILABLE"
    stranger = secured.allowed._replace(cert_file=secured.stranger.cert, key_file=secured.stranger.key)
    assert status_of(secured, stranger) == "UNAVAILABLE"
    # And a client that trusts another root does not talk to this server.
    assert status_of(secured, secured.allowed._replace(ca_file=secured.stranger.cert)) == "UNAVAILABLE"
    assert status_of(secured, secured.allowed) == "OK"


def test_metrics_speak_the_same_tls_and_count_who_was_refused(secured: Secured) -> None:
    assert status_of(secured, secured.allowed._replace(token="")) == "UNAUTHENTICATED"
    context = ssl.create_default_context(cafile=secured.authority.root)
    context.load_cert_chain(secured.allowed.cert_file, secured.allowed.key_file)
    connection = http.client.HTTPSConnection("127.0.0.1", secured.metrics_port, timeout=10, context=context)
    connection.request("GET", "/metrics")
    text = connection.getresponse().read().decode()
    connection.close()
    refused = {
        sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.labels.get("status") == "UNAUTHENTICATED"
    }
    assert refused and min(refused) >= 1
    plain = http.client.HTTPConnection("127.0.0.1", secured.metrics_port, timeout=10)
    plain.request("GET", "/metrics")
    with pytest.raises((http.client.HTTPException, OSError)):
        plain.getresponse()


def test_files_and_flags_that_do_not_fit_are_one_clear_line(secured: Secured, tmp_path: Path) -> None:
    pem, other = secured.server_pem, secured.stranger
    junk = tmp_path / "junk.pem"
    junk.write_text("no certificate")
    for arguments, reason in (
        ((str(tmp_path / "gone"), pem.key), "gone cannot be read .*--tls-cert"),
        ((pem.cert, other.key), r"are refused \(key values mismatch\)"),
        ((str(junk), pem.key), "are refused .*expected a PEM certificate and its own key"),
        ((pem.cert, pem.key, str(junk)), "junk.pem is refused .*--tls-client-ca"),
    ):
        with pytest.raises(TandemError, match=reason) as caught:
            read_tls(*arguments)
        assert "\n" not in str(caught.value)
    for options, reason in (
        ({"host": "0.0.0.0"}, "--host 0.0.0.0 can be reached by others, expected --tls-cert or --tokens"),
        ({"host": "shop.example"}, "can be reached by others"),
        ({"tls_cert": pem.cert}, "--tls-cert and --tls-key go together"),
        ({"tls_client_ca": pem.cert}, "--tls-client-ca is given without --tls-cert"),
    ):
        with pytest.raises(TandemError, match=reason):
            ServerOptions(tmp_path, 0, **options)
    for host in ("127.0.0.1", "localhost", "::1"):
        ServerOptions(tmp_path, 0, host=host)
    for allowed in ({"insecure": True}, {"tokens": "tokens"}, {"tls_cert": pem.cert, "tls_key": pem.key}):
        ServerOptions(tmp_path, 0, host="0.0.0.0", **allowed)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "holds no token"),
        ("# nothing\n", "holds no token"),
        (f"root {QUERY_TOKEN}", "line 1: expected 'query TOKEN' or 'admin TOKEN'"),
        (f"\nquery {QUERY_TOKEN} 2027-01-01 extra", "line 2: expected 'query TOKEN'"),
        (f"query {QUERY_TOKEN} tomorrow", "line 1: the third word is no date or time"),
        ("query short", "line 1: the token has 5 characters, expected at least 16"),
        (f"query {QUERY_TOKEN}\nadmin {QUERY_TOKEN}", "line 2: the token is there already"),
    ],
)
def test_wrong_tokens_file_names_the_line_but_not_the_token(text: str, reason: str, tmp_path: Path) -> None:
    path = tmp_path / "tokens"
    path.write_text(text)
    with pytest.raises(TandemError, match=reason) as caught:
        read_tokens(str(path))
    assert QUERY_TOKEN not in str(caught.value)


def test_tokens_file_is_read_with_its_roles(tmp_path: Path) -> None:
    path = tmp_path / "tokens"
    path.write_text(
        f"query {QUERY_TOKEN}\nadmin {ADMIN_TOKEN} 1970-01-02\nquery {LASTING_TOKEN} 1970-01-01T02:00:00+01:00"
    )
    assert read_tokens(str(path)) == {
        QUERY_TOKEN: Grant(Role.QUERY),
        ADMIN_TOKEN: Grant(Role.ADMIN, until=86400.0),
        LASTING_TOKEN: Grant(Role.QUERY, until=3600.0),
    }
    with pytest.raises(TandemError, match="gone cannot be read"):
        read_tokens(str(tmp_path / "gone"))
