"""Catalogue changes as clients see them: over gRPC, REST and the command line, through crashes and swaps."""

import json
import shutil
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf import json_format, struct_pb2
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from pipeline.cli import main
from serving import server as servers
from serving.bundle import publish
from serving.catalogue_client import CatalogueClient
from serving.catalogue_log import LOG
from serving.channel import PLAIN, Security, open_channel
from serving.client import RetrievalClient, wait_until_available
from tests.serving.conftest import Shop, wait_for
from tests.serving.running_process import RunningProcess
from tests.serving.test_monitoring import figures
from transform.errors import TandemError

QUERY_TOKEN, ADMIN_TOKEN = "query-0123456789abcdef", "admin-0123456789abcdef"
MUG = {"item_id": "new", "title": "red mug red mug", "price": 4.5}


@pytest.fixture(scope="module")
def serving(shop: Shop, tmp_path_factory: pytest.TempPathFactory) -> Iterator[servers.RetrievalServer]:
    push_dir = tmp_path_factory.mktemp("shop") / "push"
    publish(shop.bundle_dir, push_dir, 1)
    options = {"poll_seconds": 0.05, "cache_mb": 1, "rest_port": 0, "metrics_port": 0, "model_name": "shop"}
    server = servers.start(push_dir, 0, **options)
    wait_until_available(address_of(server), model_name="shop")
    yield server
    server.stop()


def address_of(server: servers.RetrievalServer) -> str:
    return f"127.0.0.1:{server.port}"


def found(address: str, model_name: str = "retrieval", **options: Any) -> list[str]:
    with RetrievalClient(address, model_name) as client:
        return client.search("red mug", k=20, **options).item_ids


def apply(address: str, body: dict[str, Any], security: Security = PLAIN) -> Any:
    """As any client does it, with nothing of ours."""
    with open_channel(address, security) as channel:
        call = channel.unary_unary(
            "/tandem.Catalog/Apply", struct_pb2.Struct.SerializeToString, struct_pb2.Struct.FromString
        )
        return json_format.MessageToDict(call(json_format.ParseDict(body, struct_pb2.Struct()), timeout=20))


def post(server: servers.RetrievalServer, path: str, body: Any) -> tuple[int, Any]:
    request = urllib.request.Request(f"http://127.0.0.1:{server.rest_port}{path}", json.dumps(body).encode())
    try:
        with urllib.request.urlopen(request, timeout=20) as response:
            return response.status, json.load(response)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def test_a_change_is_in_every_answer_at_once_whether_asked_before_or_not(serving, shop: Shop) -> None:
    address = address_of(serving)
    best = found(address, "shop")[0]
    assert found(address, "shop")[0] == best  # from the cache
    assert serving._monitoring._cache.hits == 1
    assert apply(address, {"upsert": [MUG], "delete": [best, "who"]}) == {
        "upserted": 1,
        "deleted": 2,
        "not_found": ["who"],
        "versions": [1],
    }
    for exact in (False, True):
        ids = found(address, "shop", exact=exact)
        assert "new" in ids and best not in ids and len(ids) == 20
    seen = figures(serving.metrics_port)
    counts = {"upserted_items": 1, "deleted_items": 2, "changes_total": 1, "lag_seconds": 0}
    assert {name: seen[f"tandem_catalogue_{name}",] for name in counts} == counts
    assert seen["tandem_catalogue_side_items", "shop", "1"] == 1
    assert seen["tandem_catalogue_log_bytes",] > 100 and seen["tandem_catalogue_last_change_seconds",] > 0


def test_rest_takes_the_same_change(serving) -> None:
    path, mug = "/v1/models/shop:catalog", MUG | {"item_id": "rest"}
    assert post(serving, path, {"upsert": [mug]}) == (
        200,
        {"upserted": 1, "deleted": 0, "not_found": [], "versions": [1]},
    )
    assert "rest" in found(address_of(serving), "shop")
    status, answer = post(serving, path, {"upsert": [mug | {"colour": "red"}]})
    assert status == 400 and "column 'colour' is unknown" in answer["error"]
    assert post(serving, path, [1])[0] == 400
    assert post(serving, "/v1/models/other:catalog", {"delete": ["a"]})[0] == 404
    status, answer = post(serving, "/v1/models/shop/versions/1:catalog", {"delete": ["rest"]})
    assert status == 400 and "for every version" in answer["error"]
    assert "rest" in found(address_of(serving), "shop")


def test_refusals_over_grpc_have_their_codes(serving) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        apply(address_of(serving), {"upsert": [{"item_id": "a", "titel": "mug"}]})
    assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert "upsert[0]: column 'titel' is unknown" in caught.value.details()
    with grpc.insecure_channel(address_of(serving)) as channel:
        with pytest.raises(grpc.RpcError) as caught:
            channel.unary_unary("/tandem.Catalog/Apply")(b"\xff\xff", timeout=20)
        assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT
        asked = iter([reflection_pb2.ServerReflectionRequest(file_containing_symbol="tandem.Catalog")])
        stub = reflection_pb2_grpc.ServerReflectionStub(channel)
        described = next(stub.ServerReflectionInfo(asked, timeout=20))
        assert b"google.protobuf.Struct" in described.file_descriptor_response.file_descriptor_proto[0]


def test_only_an_admin_may_change_the_catalogue(push_dir: Path, tmp_path: Path) -> None:
    (tmp_path / "tokens").write_text(f"query {QUERY_TOKEN}\nadmin {ADMIN_TOKEN}\n")
    server = servers.start(push_dir, 0, poll_seconds=0.05, rest_port=0, tokens=str(tmp_path / "tokens"))
    address = address_of(server)
    wait_until_available(address, security=Security(QUERY_TOKEN))
    for token, code in ((QUERY_TOKEN, "PERMISSION_DENIED"), ("", "UNAUTHENTICATED")):
        with pytest.raises(grpc.RpcError) as caught:
            apply(address, {"delete": ["sku-1"]}, Security(token))
        assert caught.value.code().name == code
    assert post(server, "/v1/models/retrieval:catalog", {"delete": ["sku-1"]})[0] == 401
    assert not (push_dir.parent / "push-catalog").exists()
    (tmp_path / "token").write_text(f"{ADMIN_TOKEN}\n")
    assert (
        main(["catalog", "delete", "sku-1", "--server", address, "--token-file", str(tmp_path / "token")])
        == 0
    )
    with RetrievalClient(address, security=Security(QUERY_TOKEN)) as client:
        assert client.items(["sku-1"])[0].title == ""
    server.stop()


def test_killed_server_comes_back_with_every_change_and_so_does_the_next_version(
    push_dir: Path, shop: Shop, other_shop: Shop, caplog: pytest.LogCaptureFixture
) -> None:
    acknowledged: list[str] = []
    with RunningProcess(push_dir) as running:
        wait_until_available(running.address)
        best = found(running.address)[:2]
        apply(running.address, {"upsert": [MUG], "delete": best})

        def write() -> None:
            with CatalogueClient(running.address) as client:
                while True:
                    client.apply(upsert=[{"item_id": f"late-{len(acknowledged)}", "title": "red mug"}])
                    acknowledged.append(f"late-{len(acknowledged)}")

        def write_until_killed() -> None:
            with pytest.raises(TandemError):
                write()

        writer = threading.Thread(target=write_until_killed)
        writer.start()
        wait_for(lambda: len(acknowledged) >= 5)
        running.process.kill()  # SIGKILL, in the middle of a change
        writer.join()
    log = push_dir.parent / "push-catalog" / LOG
    with open(log, "ab") as file:
        file.write(log.read_bytes()[:50])  # and a line that it tore
    publish(other_shop.bundle_dir, push_dir, 2)
    server = servers.start(push_dir, 0, poll_seconds=0.05)
    address = address_of(server)
    assert "a torn last line of 50 bytes was cut off" in caplog.text
    wait_until_available(address, version=2)
    with RetrievalClient(address) as client:
        titles = [info.title for info in client.items(["new", *acknowledged, *best])]
    assert titles == ["red mug red mug", *["red mug"] * len(acknowledged), "", ""]
    assert not set(best) & set(found(address))
    publish(shop.bundle_dir, push_dir, 3)  # a version that holds what was deleted
    wait_until_available(address, version=3)
    assert not set(best) & set(found(address))
    assert "new" in found(address)
    server.stop()


def test_damaged_log_is_one_clear_line_and_no_server(push_dir: Path) -> None:
    folder = push_dir.parent / "push-catalog"
    folder.mkdir()
    (folder / LOG).write_text("what is this\n")
    with pytest.raises(
        TandemError, match=r"changes.log is damaged: line 1 .*restore it from a copy, or move it away"
    ):
        servers.start(push_dir, 0)


def test_servers_of_one_push_directory_show_each_others_changes(push_dir: Path) -> None:
    one, other = (servers.start(push_dir, 0, poll_seconds=0.05, metrics_port=0) for _ in range(2))
    for server in (one, other):
        wait_until_available(address_of(server))
    apply(address_of(one), {"upsert": [MUG], "delete": ["sku-1"]})
    wait_for(lambda: "new" in found(address_of(other)))
    assert apply(address_of(other), {"delete": ["new", "sku-1"]})["not_found"] == ["sku-1"]
    wait_for(lambda: "new" not in found(address_of(one)))
    shutil.rmtree(f"{push_dir}-catalog")
    with pytest.raises(grpc.RpcError) as caught:
        apply(address_of(one), {"delete": ["sku-2"]})
    assert caught.value.code() == grpc.StatusCode.FAILED_PRECONDITION and "has gone" in caught.value.details()
    wait_for(lambda: figures(one.metrics_port)["tandem_catalogue_lag_seconds",] > 0)
    assert "sku-1" not in found(address_of(one))  # what is known stays
    one.stop(), other.stop()


def test_commands_change_the_catalogue_of_a_running_server(serving, tmp_path: Path, capsys) -> None:
    server = ["--server", address_of(serving), "--model-name", "shop"]
    (tmp_path / "items.csv").write_text(
        "item_id,title,price,colour\nnew,red mug red mug,4.5,red\n17,blue lamp,,\n"
    )
    assert main(["catalog", "upsert", str(tmp_path / "items.csv"), *server]) == 0
    said = capsys.readouterr().out
    assert (
        "left out: colour" in said and "2 items upserted in" in said and "in the answers of version 1" in said
    )
    with RetrievalClient(address_of(serving), "shop") as client:
        assert [info.title for info in client.items(["new", "17"])] == ["red mug red mug", "blue lamp"]
    assert main(["catalog", "delete", "new", "who", *server]) == 0
    said = capsys.readouterr().out
    assert "2 items deleted" in said and "not in the catalogue, and kept out from now on: who" in said
    assert "new" not in found(address_of(serving), "shop")
    (tmp_path / "items.jsonl").write_text(
        "".join(f'{{"item_id": "many-{n}", "title": "vase"}}\n' for n in range(300))
    )
    assert main(["catalog", "upsert", str(tmp_path / "items.jsonl"), *server]) == 0
    assert "300 items upserted" in capsys.readouterr().out  # in more than one change
    (tmp_path / "wrong.csv").write_text("item_id,titel\nnew,red mug\n")
    assert main(["catalog", "upsert", str(tmp_path / "wrong.csv"), *server]) == 2
    assert "has no column 'title'" in capsys.readouterr().err
    assert main(["catalog", "delete", "new", "--token-file", str(tmp_path / "gone"), *server]) == 2
    assert "gone cannot be read" in capsys.readouterr().err
