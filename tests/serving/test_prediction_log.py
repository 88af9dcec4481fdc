"""The prediction log: sampled, whole files, and a disk that refuses costs records that are counted, never requests."""

import logging
import os
import resource
import shutil
import signal
import stat
import time
from pathlib import Path

import pytest
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2, prediction_log_pb2

from serving import server as servers
from serving.client import RetrievalClient, wait_until_available
from serving.observed import Observed
from serving.prediction_log import PredictionLogger, Rotation
from serving.server_options import ServerOptions
from tests.serving.conftest import request_of, wait_for
from tests.serving.running_process import RunningProcess
from tests.serving.test_monitoring import figures
from transform.errors import TandemError


def logs_of(directory: Path) -> list[prediction_log_pb2.PredictionLog]:
    files = sorted(map(str, directory.glob("[!.]*.tfrecord")))
    return [
        prediction_log_pb2.PredictionLog.FromString(record)
        for record in tf.data.TFRecordDataset(files).as_numpy_iterator()
    ]


def texts_of(directory: Path) -> list[str]:
    return sorted(
        log.predict_log.request.inputs["query"].string_val[0].decode() for log in logs_of(directory)
    )


def answered(text: str) -> Observed:
    response = predict_pb2.PredictResponse()
    response.model_spec.version.value = 3
    return Observed("Predict", "GRPC", "OK", 0.01, request_of(query=[text]), response.SerializeToString())


def test_server_logs_answered_requests_with_their_version(push_dir: Path, tmp_path: Path) -> None:
    logs = tmp_path / "logs"
    server = servers.start(
        push_dir, 0, rest_port=0, metrics_port=0, prediction_log=str(logs), prediction_log_rate=1.0
    )
    address = f"127.0.0.1:{server.port}"
    wait_until_available(address)
    with RetrievalClient(address) as client:
        found = [client.search(text).item_ids for text in ("red mug", "blue lamp")]
        with pytest.raises(TandemError):
            client.search("refused", colour="teal")
    wait_for(lambda: figures(server.metrics_port)["tandem_prediction_log_records_total",] == 2)
    assert logs_of(logs) == []  # not before the file is whole
    server.stop()
    read = logs_of(logs)
    assert texts_of(logs) == ["blue lamp", "red mug"]
    for log, items in zip(read, found, strict=True):
        assert log.log_metadata.model_spec.version.value == 1
        assert log.log_metadata.sampling_config.sampling_rate == 1.0
        assert abs(log.log_metadata.timestamp_secs - time.time()) < 600
        answer = tf.make_ndarray(log.predict_log.response.outputs["item_ids"])[0]
        assert [item.decode() for item in answer[: len(items)]] == items
    (file,) = logs.iterdir()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_sample_has_the_declared_share(tmp_path: Path) -> None:
    logger = PredictionLogger(str(tmp_path), 0.25)
    for number in range(2000):
        logger.observe(answered(str(number)))
    logger.observe(Observed("Predict", "GRPC", "INVALID_ARGUMENT", 0.01, request_of(query=["x"])))
    logger.stop()
    # Binomial: 500 expected, standard deviation 19.4; six of them.
    assert abs(logger.written - 500) < 117
    assert len(logs_of(tmp_path)) == logger.written
    assert logger.lost == {"disk": 0, "queue": 0}


def test_files_are_finished_by_size_and_by_age(tmp_path: Path) -> None:
    by_size = PredictionLogger(str(tmp_path / "size"), 1.0, Rotation(size=1, seconds=3600))
    for number in range(3):
        by_size.observe(answered(f"n{number}"))
        wait_for(lambda number=number: len(logs_of(tmp_path / "size")) == number + 1)
    assert len(list((tmp_path / "size").iterdir())) == 3
    by_size.stop()
    by_age = PredictionLogger(str(tmp_path / "age"), 1.0, Rotation(seconds=0.2))
    by_age.observe(answered("old enough"))
    wait_for(lambda: texts_of(tmp_path / "age") == ["old enough"])
    by_age.stop()
    assert len(list((tmp_path / "age").iterdir())) == 1  # and no empty file after it


def test_full_disk_costs_counted_records_and_no_whole_one(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "tandem.serving")
    logger = PredictionLogger(str(tmp_path), 1.0)
    logger.observe(answered("before"))
    wait_for(lambda: logger.written == 1)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    size = next(tmp_path.iterdir()).stat().st_size
    resource.setrlimit(resource.RLIMIT_FSIZE, (size + 10, limits[1]))  # ten bytes of the record still fit
    try:
        for number in range(5):
            logger.observe(answered(f"lost {number}"))
        wait_for(lambda: logger.lost["disk"] == 5)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    logger._retry_at = 0.0
    logger.observe(answered("after"))
    wait_for(lambda: logger.written == 2)
    logger.stop()
    assert texts_of(tmp_path) == ["after", "before"]
    said = [record.message for record in caplog.records if "prediction log" in record.message]
    assert len(said) == 2
    assert "cannot be written" in said[0] and "can be written again" in said[1]


def test_directory_that_goes_away_stops_no_answer(push_dir: Path, tmp_path: Path) -> None:
    logs = tmp_path / "logs"
    server = servers.start(push_dir, 0, metrics_port=0, prediction_log=str(logs), prediction_log_rate=1.0)
    wait_until_available(f"127.0.0.1:{server.port}")
    shutil.rmtree(logs)
    logs.write_text("a file now: nothing can be written below it")
    with RetrievalClient(f"127.0.0.1:{server.port}") as client:
        for _ in range(3):
            assert client.search("red mug").version == 1
    wait_for(lambda: figures(server.metrics_port)["tandem_prediction_log_lost_total", "disk"] == 3)
    server.stop()


def test_disk_that_is_too_slow_loses_records_rather_than_memory(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("serving.prediction_log._QUEUE_BYTES", 200)
    logger = PredictionLogger(str(tmp_path), 1.0)
    logger.observe(answered("x" * 1000))
    assert logger.lost["queue"] == 1
    logger.observe(answered("short"))
    logger.stop()
    assert texts_of(tmp_path) == ["short"]


def test_files_of_a_killed_server_are_kept_and_those_of_a_running_one_left_alone(
    push_dir: Path, tmp_path: Path
) -> None:
    running = PredictionLogger(str(tmp_path / "logs"), 1.0)
    running.observe(answered("running"))
    wait_for(lambda: running.written == 1)
    options = f"prediction_log={str(tmp_path / 'logs')!r}, prediction_log_rate=1.0"
    with RunningProcess(push_dir, options) as server:
        wait_until_available(server.address, 60)
        with RetrievalClient(server.address) as client:
            client.search("killed")
        wait_for(lambda: sum(p.stat().st_size > 0 for p in (tmp_path / "logs").glob(".*")) == 2)
        server.process.send_signal(signal.SIGKILL)
        server.process.wait()
    assert texts_of(tmp_path / "logs") == []
    PredictionLogger(str(tmp_path / "logs"), 1.0).stop()
    assert texts_of(tmp_path / "logs") == ["killed"]
    running.stop()
    assert texts_of(tmp_path / "logs") == ["killed", "running"]
    assert not [name for name in os.listdir(tmp_path / "logs") if name.startswith(".")]


def test_wrong_words_are_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(TandemError, match="cannot be written .*name another with --prediction-log"):
        PredictionLogger(str(tmp_path / "file" / "logs"), 1.0)
    for rate in (0, 1.5, float("nan")):
        with pytest.raises(
            TandemError, match="--prediction-log-rate is .*expected a share above 0 and up to 1"
        ):
            ServerOptions(tmp_path, 0, prediction_log="logs", prediction_log_rate=rate)
