"""`tandem skew`: logged requests against training, from a server's log to the exit status."""

import collections

import grpc
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st
from tensorflow_serving.apis import prediction_log_pb2, prediction_service_pb2_grpc

from pipeline.cli import main
from pipeline.logged_requests import Logged, rows_of
from pipeline.skew import SkewReport, compare_logs, skew_table, skews
from serving import server as servers
from serving.bundle import publish
from serving.client import wait_until_available
from serving.write_bundle import BASELINE
from tests.pipeline.logged_shop import (
    answered,
    asked,
    batches,
    draw,
    make_bundle,
    statistics_in_memory,
    stored,
    write_log,
)
from tests.serving.conftest import make_shop
from transform.bad_day_settings import BadDaySettings
from transform.errors import TandemError
from transform.request_baseline import read_request_baseline
from transform.request_statistics import row_of
from transform.request_values import Compared, built_in, request_values

VERSION = 7
COMPARED = {
    **{
        name: Compared(kind="number" if edges else "category", threshold=0.1, edges=edges or ())
        for name, edges in built_in().items()
    },
    "segment": Compared(kind="category", threshold=0.1),
    "basket": Compared(kind="number", threshold=0.1, edges=(0.5, 1.0, 2.0)),
}


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    return make_shop(tmp_path_factory.mktemp("shop"))


@pytest.fixture(scope="module")
def bundle(shop, tmp_path_factory):
    return make_bundle(shop, tmp_path_factory.mktemp("trained"), BadDaySettings())


@pytest.fixture(scope="module")
def push_dir(bundle, tmp_path_factory):
    push_dir = tmp_path_factory.mktemp("push")
    publish(bundle, push_dir, VERSION)
    return push_dir


@pytest.fixture(scope="module")
def trained(bundle):
    return read_request_baseline(bundle / BASELINE)


@given(seed=st.integers(0, 2**32 - 1), moved=st.booleans())
def test_a_stored_request_and_the_same_request_logged_have_the_same_labels(seed, moved):
    random = np.random.default_rng(seed)
    requests = [draw(random, words=2 * moved, seconds=moved) for _ in range(3)]
    log = prediction_log_pb2.PredictionLog()
    log.predict_log.request.CopyFrom(asked(requests))
    names = frozenset(log.predict_log.request.inputs)
    for request, row in zip(requests, rows_of(log, names), strict=True):
        trained = request_values(row_of(stored(*request)), COMPARED)
        assert request_values(row, COMPARED) == trained
        assert trained["history.length"] != [""] and len(trained["segment"]) == 1


def test_requests_like_those_of_training_name_no_feature(push_dir, tmp_path, capsys):
    """Through a running server: the log is its own."""
    logs = tmp_path / "logs"
    server = servers.start(push_dir, 0, prediction_log=str(logs), prediction_log_rate=1.0)
    address = f"127.0.0.1:{server.port}"
    wait_until_available(address)
    with grpc.insecure_channel(address) as channel:
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        for request in batches(2, 600):
            stub.Predict(request, timeout=60)
    server.stop()
    assert main(["skew", "--push-dir", str(push_dir), "--logs", str(logs)]) == 0
    said = capsys.readouterr().out
    assert f"600 requests of version {VERSION} are like those it was trained on" in said
    assert "MOVED" not in said and "left out" not in said
    assert all(name in said for name in COMPARED)


def test_a_feature_that_moved_is_named_with_the_exit_status_of_skew(push_dir, tmp_path, capsys):
    write_log(tmp_path, batches(3, 1000, segments=(0.1, 0.3, 0.5, 0.1)), VERSION)
    assert main(["skew", "--push-dir", str(push_dir), "--logs", str(tmp_path)]) == 1
    said = capsys.readouterr().out
    assert f"1,000 requests of version {VERSION}: segment moved away from training" in said
    (line,) = [line for line in said.splitlines() if "MOVED" in line]
    assert line.startswith("segment") and "single 4" in line


@pytest.mark.parametrize(
    ("moved", "names", "value"),
    [
        ({}, set(), None),
        ({"segments": (0.25, 0.25, 0.1, 0.4)}, {"segment"}, ""),
        ({"basket": 100.0}, {"basket"}, ">="),
        ({"words": 3}, {"query.words", "query.characters"}, "4 to <5"),
        ({"seconds": True}, {"history.age_days"}, ">=256"),
    ],
)
def test_what_moved_is_named_and_nothing_else(trained, moved, names, value):
    random = np.random.default_rng(3)
    requests = [draw(random, **moved) for _ in range(1000)]
    served = statistics_in_memory(requests, trained.comparison)
    found = skews(trained.comparison, trained.statistics, served)
    assert {feature.name for feature in found if feature.moved} == names
    assert {feature.name for feature in found} == {*COMPARED}
    for feature in found:
        if feature.name not in names:  # not near the bar either: chance alone
            assert feature.distance < 0.6 * feature.threshold
    if names:
        first = found[0]
        assert first.name in names
        assert any(change.value.startswith(value) for change in first.changes)
        assert first.changes[0].served != first.changes[0].trained


def test_shares_and_distance_are_those_that_can_be_counted(trained):
    """L-infinity of a category worked out by hand from the labels."""
    random = np.random.default_rng(4)
    requests = [draw(random, segments=(0.1, 0.3, 0.5, 0.1)) for _ in range(500)]
    found = skews(trained.comparison, trained.statistics, statistics_in_memory(requests, trained.comparison))
    first = found[0]
    counts = collections.Counter(segment or "" for _, segment in requests)
    for change in first.changes:
        assert change.served == pytest.approx(counts[change.value] / 500)
    largest = first.changes[0]
    assert first.distance == pytest.approx(abs(largest.served - largest.trained))


def test_what_does_not_belong_is_left_out_and_counted(push_dir, tmp_path):
    logs = tmp_path / "logs"
    write_log(logs, batches(4, 600), VERSION)
    write_log(logs, batches(5, 50, basket=100.0), 6)
    write_log(logs, [asked([draw(np.random.default_rng(0))], "related")] * 3, VERSION)
    other = prediction_log_pb2.PredictionLog()
    other.session_run_log.request.feed.add(name="x")
    torn = prediction_log_pb2.PredictionLog()
    torn.predict_log.request.CopyFrom(batches(6, 25)[0])
    torn.predict_log.request.inputs["query"].tensor_shape.dim[0].size = 3
    torn.predict_log.response.model_spec.version.value = VERSION
    unlike = logs / "unlike.tfrecord"
    with tf.io.TFRecordWriter(str(unlike)) as writer:
        for record in (other.SerializeToString(), b"\xff\xff no message", torn.SerializeToString()):
            writer.write(record)
    damaged = logs / "damaged.tfrecord"
    with tf.io.TFRecordWriter(str(damaged)) as writer:
        for request in batches(7, 50):
            log = prediction_log_pb2.PredictionLog()
            seen = answered(request, VERSION)
            log.predict_log.request.CopyFrom(seen.request)
            log.predict_log.response.ParseFromString(seen.response)
            writer.write(log.SerializeToString())
    damaged.write_bytes(damaged.read_bytes()[:-5])  # the second of two records is torn
    (logs / ".unfinished-1.tfrecord").write_bytes(b"being written")
    report = compare_logs(str(push_dir), str(logs))
    assert (report.logged.rows, report.moved) == (625, [])
    assert "left out: records of signature 'related': 3" in report.summary().splitlines()
    assert report.logged.left_out == {
        "records that version 6 answered": 2,
        "records of signature 'related'": 3,
        "records that are not of Predict": 1,
        "records that are no PredictionLog": 1,
        "records whose tensors are damaged": 1,
        "files that are damaged (damaged.tfrecord after record 1)": 1,
    }


def refused(push_dir, logs, *words) -> str:
    with pytest.raises(TandemError) as caught:
        compare_logs(str(push_dir), str(logs), *words)
    line = str(caught.value)
    assert "\n" not in line
    return line


def test_nothing_to_compare_is_one_clear_line(push_dir, shop, tmp_path, capsys):
    empty = tmp_path / "empty"
    assert "holds no finished prediction log" in refused(push_dir, empty)
    assert main(["skew", "--push-dir", str(push_dir), "--logs", str(empty)]) == 2
    assert capsys.readouterr().err.startswith("tandem: ")
    assert "holds no version, expected" in refused(tmp_path / "nothing", empty)
    assert "holds no version 8" in refused(push_dir, empty, 8)
    write_log(tmp_path / "few", batches(8, 25), VERSION)
    write_log(tmp_path / "few", batches(8, 50), 6)
    few = refused(push_dir, tmp_path / "few")
    assert "holds 25 requests that version 7 answered; left out: records that version 6 answered: 2" in few
    assert "expected at least 500" in few
    publish(shop.bundle_dir, tmp_path / "old", 1)
    assert "pushed without statistics of its requests" in refused(tmp_path / "old", empty)


@pytest.mark.parametrize("name", ["requests.pb", "requests.json"])
def test_damaged_statistics_are_named(bundle, tmp_path, name):
    path = publish(bundle, tmp_path / "push", VERSION) / BASELINE / name
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    assert f"{name} is damaged" in refused(tmp_path / "push", tmp_path)
    path.unlink()
    assert f"{name} is missing" in refused(tmp_path / "push", tmp_path)


def test_a_value_cannot_command_the_terminal(trained):
    evil = "\x1b[2J[red]" + "x" * 100
    random = np.random.default_rng(9)
    requests = [(request, evil) for request, _ in (draw(random) for _ in range(500))]
    served = statistics_in_memory(requests, trained.comparison)
    report = SkewReport(VERSION, Logged(500, {}, served), skews(*trained, served))
    assert report.moved == ["segment"]
    cell = str(next(iter(skew_table(report).columns[-1].cells)))
    assert "\x1b" not in cell and "[2J[red]" in cell and "x" * 50 not in cell
