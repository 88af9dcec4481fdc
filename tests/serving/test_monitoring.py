"""What an operator sees of a running server: metrics and the request log."""

import http.client
import json
import logging
import resource
import shutil
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from serving import server as servers
from serving.bundle import publish
from serving.client import RetrievalClient, wait_until_available
from serving.observed import Observed
from serving.request_log import RequestLog
from serving.server_options import ServerOptions
from tests.serving.conftest import Shop, wait_for
from transform.errors import TandemError

LATENCY = ":tensorflow:serving:request_latency"


def scrape(port: int, path: str = "/metrics") -> tuple[int, str]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request("GET", path)
    response = connection.getresponse()
    text = response.read().decode()
    connection.close()
    return response.status, text


def figures(port: int) -> dict[tuple, float]:
    """(name, label values in the order of their names) -> value."""
    return {
        (sample.name, *(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(scrape(port)[1])
        for sample in family.samples
    }


def test_metrics_and_request_log_tell_what_happened_but_not_what_was_asked(
    shop: Shop, other_shop: Shop, push_dir: Path, tmp_path: Path
) -> None:
    log, full_log = tmp_path / "requests.jsonl", tmp_path / "inputs.jsonl"
    server = servers.start(push_dir, 0, poll_seconds=0.05, metrics_port=0, request_log=str(log))
    address = f"127.0.0.1:{server.port}"
    wait_until_available(address)
    with RetrievalClient(address) as client:
        for _ in range(3):
            client.search("red mug", history=["sku-3"])
        with pytest.raises(TandemError):
            client.search("red mug", colour="teal")
        seen = figures(server.metrics_port)
        assert seen[":tensorflow:serving:request_count", "retrieval", "OK"] == 3
        assert seen[":tensorflow:serving:request_count", "retrieval", "INVALID_ARGUMENT"] == 1
        assert seen[f"{LATENCY}_count", "Predict", "GRPC", "retrieval"] == 3
        # Three answers in microseconds: each took more than 10 us, none an hour.
        assert seen[f"{LATENCY}_bucket", "Predict", "GRPC", "10.0", "retrieval"] == 0
        assert 30 < seen[f"{LATENCY}_sum", "Predict", "GRPC", "retrieval"] < 3 * 3.6e9
        assert (
            seen["tandem_served_version", "retrieval"] == seen["tandem_loaded_version", "retrieval", "1"] == 1
        )
        assert seen["tandem_index_items", "retrieval"] == 60
        assert seen["tandem_requests_in_flight",] == seen["tandem_swaps_total",] == 0

        broken = publish(other_shop.bundle_dir, tmp_path / "other", 3)
        (broken / "saved_model.pb").write_bytes(b"no graph")
        shutil.move(broken, push_dir / "3")
        publish(other_shop.bundle_dir, push_dir, 2)
        wait_for(lambda: figures(server.metrics_port)["tandem_served_version", "retrieval"] == 2)
        seen = figures(server.metrics_port)
        assert (seen["tandem_swaps_total",], seen["tandem_refused_bundles_total",]) == (1, 1)
        assert ("tandem_restarted_processes_total",) in seen
        assert client.search("red mug").version == 2
        text = log.read_text()
        log.rename(tmp_path / "requests.1")  # as log rotation does
        client.search("red mug")
        assert json.loads(log.read_text())["version"] == 2
    assert scrape(server.metrics_port, "/monitoring/prometheus/metrics")[0] == 200
    assert scrape(server.metrics_port, "/")[0] == 404
    server.stop()
    with pytest.raises(OSError, match="refused"):
        scrape(server.metrics_port)

    lines = [line for line in map(json.loads, text.splitlines()) if line["method"] == "Predict"]
    assert [line["status"] for line in lines] == ["OK"] * 3 + ["INVALID_ARGUMENT", "OK"]
    assert [line.get("version") for line in lines] == [1, 1, 1, None, 2]
    assert lines[0].keys() == {
        *("time", "method", "entrypoint", "status", "milliseconds"),
        *("model", "version", "signature", "rows"),
    }
    for private in ("red mug", "sku-3", "colour", "teal"):
        assert private not in text

    server = servers.start(push_dir, 0, poll_seconds=0.05, request_log=str(full_log), log_inputs=True)
    address = f"127.0.0.1:{server.port}"
    wait_until_available(address)
    with RetrievalClient(address) as client:
        client.search("red mug", history=["sku-3"])
        with pytest.raises(TandemError):
            client.search("red mug", colour="teal")
    server.stop()
    answered, refused = (
        line for line in map(json.loads, full_log.read_text().splitlines()) if line["method"] == "Predict"
    )
    assert answered["inputs"] == {
        "query": ["red mug"],
        "history_item_ids": [["sku-3"]],
        "history_event_types": [[""]],
        "history_ages": [[None]],
    }
    assert "input 'colour' is unknown" in refused["message"]


def test_request_log_that_cannot_be_written_any_more_costs_lines_and_no_answer(
    push_dir: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "tandem.serving")
    folder = tmp_path / "logs"
    folder.mkdir()
    server = servers.start(push_dir, 0, metrics_port=0, request_log=str(folder / "requests.jsonl"))
    wait_until_available(f"127.0.0.1:{server.port}")
    with RetrievalClient(f"127.0.0.1:{server.port}") as client:
        folder.rename(tmp_path / "away")  # a volume that is gone
        for _ in range(3):
            assert client.search("red mug").version == 1
        assert figures(server.metrics_port)["tandem_request_log_lost_total",] == 3
        folder.mkdir()
        assert client.search("red mug").version == 1
    server.stop()
    assert lines_of(folder / "requests.jsonl") == 1
    said = [record.message for record in caplog.records if record.message.startswith("request log: ")]
    assert ["cannot be written" in said[0], "can be written again" in said[1]] == [True, True]
    assert len(said) == 2


def test_full_disk_costs_lines_of_the_request_log_that_are_counted(tmp_path: Path) -> None:
    log = RequestLog(str(tmp_path / "log"), "retrieval")
    seen = Observed("GetModelStatus", "GRPC", "OK", 0.01)
    log.observe(seen)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, ((tmp_path / "log").stat().st_size, limits[1]))
    try:
        log.observe(seen)
        log.observe(seen)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert log.lost == 2
    log.observe(seen)
    assert (log.lost, json.loads((tmp_path / "log").read_text().splitlines()[0])["status"]) == (2, "OK")


def lines_of(path: Path) -> int:
    return len(list(map(json.loads, path.read_text().splitlines())))


def test_log_that_cannot_be_written_and_taken_metrics_port_are_one_clear_line(
    address: str, push_dir: Path, tmp_path: Path
) -> None:
    with pytest.raises(TandemError, match="cannot be written .*expected a file for requests"):
        servers.start(push_dir, 0, request_log=str(tmp_path / "gone" / "log"))
    with pytest.raises(TandemError, match=f"{address} cannot be listened on.*--metrics-port"):
        servers.start(push_dir, 0, metrics_port=int(address.split(":")[1]))
    with pytest.raises(TandemError, match="--log-inputs is given without --request-log"):
        ServerOptions(push_dir, 0, log_inputs=True)
