"""Versions come, go and break while the server answers; no request pays for it."""

import logging
import shutil
import signal
import threading
import time
import weakref
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import grpc
import pytest

from serving import bundle as bundles
from serving import server as servers
from serving.background import AT_ONCE, GIVING_WAY, Pace
from serving.bundle import BundleError, publish, verify_bundle
from serving.client import RetrievalClient, SearchResult, wait_until_available
from serving.engine_process import EngineProcess
from serving.index import SCANN_DIR
from serving.index_build import build_index
from serving.loaded_bundle import load_bundle
from serving.settings import IndexSettings
from serving.version_watcher import State, VersionWatcher
from tests.serving.conftest import Shop, wait_for
from tests.serving.running_process import RunningProcess
from transform.errors import TandemError


@pytest.fixture
def serving(push_dir: Path) -> Iterator[servers.RetrievalServer]:
    server = servers.start(push_dir, 0, poll_seconds=0.05)
    wait_until_available(address_of(server))
    yield server
    server.stop()


def address_of(server: servers.RetrievalServer) -> str:
    return f"127.0.0.1:{server.port}"


def statuses(server: servers.RetrievalServer) -> dict:
    return server._watcher.statuses()


def flip_a_byte(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_only_a_version_beside_one_that_answers_gives_way(
    monkeypatch: pytest.MonkeyPatch, shop: Shop, push_dir: Path, precision: str
) -> None:
    paces: list[tuple[Pace, bool]] = []

    def loading(directory: Path, pace: Pace, bfloat16: bool) -> EngineProcess:
        paces.append((pace, bfloat16))
        return EngineProcess(directory, pace, bfloat16)

    monkeypatch.setattr(servers, "EngineProcess", loading)
    server = servers.start(push_dir, 0, poll_seconds=0.05, precision=precision)
    wait_until_available(address_of(server))
    publish(shop.bundle_dir, push_dir, 2)
    wait_for(lambda: 2 in server._watcher.loaded)
    server.stop()
    assert paces == [(AT_ONCE, precision == "bfloat16"), (GIVING_WAY, precision == "bfloat16")]


def test_new_version_takes_over_without_a_failed_request(
    serving, shop: Shop, other_shop: Shop, push_dir
) -> None:
    expected = {
        version: made.best(made.embed_queries(query=["red mug"])[0], 5)
        for version, made in ((1, shop), (2, other_shop))
    }
    assert expected[1] != expected[2]
    first = weakref.ref(serving._watcher.current)
    answers: list[SearchResult] = []
    stopped = threading.Event()

    def ask() -> None:
        with RetrievalClient(address_of(serving)) as client:
            while not stopped.is_set():
                answers.append(client.search("red mug", k=5))  # an error would end the thread and the growth

    askers = [threading.Thread(target=ask) for _ in range(3)]
    for asker in askers:
        asker.start()
    publish(other_shop.bundle_dir, push_dir, 2)
    wait_for(lambda: answers and answers[-1].version == 2)
    after = len(answers)
    wait_for(lambda: len(answers) > after + 20)
    assert all(asker.is_alive() for asker in askers)
    stopped.set()
    for asker in askers:
        asker.join()
    assert {answer.version for answer in answers} == {1, 2}
    for answer in answers:  # model and index of one version, never a mixture
        assert answer.item_ids == expected[answer.version]
    assert {version: status.state for version, status in statuses(serving).items()} == {
        1: State.END,
        2: State.AVAILABLE,
    }
    wait_for(lambda: first() is None)  # the memory of the old version is given back


def test_damaged_version_is_refused_once_and_the_old_one_serves_on(
    serving, shop: Shop, push_dir: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = publish(shop.bundle_dir, push_dir.parent / "other", 2)
    flip_a_byte(path / "variables" / "variables.data-00000-of-00001")
    caplog.set_level(logging.INFO, "tandem.serving")
    shutil.move(path, push_dir / "2")
    wait_for(lambda: statuses(serving).get(2) and statuses(serving)[2].state == State.END)
    time.sleep(0.3)  # several more looks
    refusals = [record.message for record in caplog.records if "refused" in record.message]
    assert len(refusals) == 1
    assert "version 1 stays" in refusals[0]
    assert "variables.data-00000-of-00001 is damaged" in refusals[0]
    assert statuses(serving)[2].error in refusals[0]
    with RetrievalClient(address_of(serving)) as client:
        assert client.search("red mug").version == 1


def test_parts_that_do_not_fit_are_refused(shop: Shop, tmp_path: Path) -> None:
    mixed = tmp_path / "mixed"
    shutil.copytree(shop.bundle_dir, mixed)
    shutil.rmtree(mixed / SCANN_DIR)
    build_index(shop.catalogue.vectors[:50], IndexSettings(k=20)).save(mixed / SCANN_DIR)
    bundles.seal(mixed, item_count=60, dimension=8, k=20)  # hashes are right; only the parts do not fit
    with pytest.raises(BundleError, match="the index holds 50 items, expected the manifest's 60"):
        load_bundle(mixed)
    (mixed / "saved_model.pb").write_bytes(b"no graph")
    bundles.seal(mixed, item_count=60, dimension=8, k=20)
    with pytest.raises(BundleError, match="cannot be loaded"):
        load_bundle(mixed)


def test_index_of_another_version_is_refused(shop: Shop, other_shop: Shop, tmp_path: Path) -> None:
    path = publish(shop.bundle_dir, tmp_path / "push", 2)
    shutil.rmtree(path / SCANN_DIR)
    shutil.copytree(Path(other_shop.bundle_dir) / SCANN_DIR, path / SCANN_DIR)
    with pytest.raises(BundleError, match=f"{SCANN_DIR}/.* is damaged"):
        load_bundle(path)


class TestWatcher:
    """Which version is current; the bundles are verified but, to be quick, not loaded."""

    @pytest.fixture
    def watcher(self, push_dir: Path) -> VersionWatcher:
        return VersionWatcher(push_dir, lambda path: SimpleNamespace(manifest=verify_bundle(path)))

    def test_newest_good_version_is_taken_when_the_newest_is_broken_from_the_start(
        self, watcher, shop: Shop, push_dir: Path
    ) -> None:
        publish(shop.bundle_dir, push_dir, 2)
        (publish(shop.bundle_dir, push_dir, 3) / SCANN_DIR / "dataset.npy").unlink()
        watcher.poll()
        assert watcher.current.manifest.version == 2
        assert "dataset.npy is missing" in watcher.statuses()[3].error
        assert watcher.statuses()[2].state == State.AVAILABLE
        publish(shop.bundle_dir, push_dir, 4)
        watcher.poll()
        assert watcher.current.manifest.version == 4

    def test_removed_version_gives_way_to_the_one_before(self, watcher, shop: Shop, push_dir: Path) -> None:
        publish(shop.bundle_dir, push_dir, 2)
        watcher.poll()
        assert watcher.current.manifest.version == 2
        shutil.rmtree(push_dir / "2")
        watcher.poll()
        assert watcher.current.manifest.version == 1
        shutil.rmtree(push_dir)  # nothing left: what is loaded serves on
        watcher.poll()
        assert watcher.current.manifest.version == 1

    def test_version_is_announced_only_when_it_is_ready(self, shop: Shop, push_dir: Path) -> None:
        seen = []

        def load(path: Path) -> SimpleNamespace:
            current = watcher.current.manifest.version if watcher.current else None
            seen.append((current, {v: s.state for v, s in watcher.statuses().items()}))
            return SimpleNamespace(manifest=verify_bundle(path))

        watcher = VersionWatcher(push_dir, load)
        watcher.poll()
        publish(shop.bundle_dir, push_dir, 2)
        watcher.poll()
        assert seen == [(None, {1: State.LOADING}), (1, {1: State.AVAILABLE, 2: State.LOADING})]

    def test_everything_broken_says_why(self, watcher, push_dir: Path) -> None:
        flip_a_byte(push_dir / "1" / "saved_model.pb")
        watcher.poll()
        assert watcher.current is None
        assert "saved_model.pb is damaged" in watcher.why_unavailable()


def test_server_without_a_version_says_so_and_waits(shop: Shop, tmp_path, caplog) -> None:
    caplog.set_level(logging.INFO, "tandem.serving")
    push_dir = tmp_path / "not" / "yet"
    server = servers.start(push_dir, 0, poll_seconds=0.05)
    with RetrievalClient(address_of(server)) as client:
        with pytest.raises(
            TandemError, match=f"UNAVAILABLE: no version is loaded yet: waiting for one in {push_dir}"
        ):
            client.search("mug")
        with pytest.raises(TandemError, match="no such version of 'retrieval' was seen"):
            wait_until_available(address_of(server), timeout_seconds=0.3)
        wait_for(lambda: "not there yet; waiting" in caplog.text)
        push_dir.mkdir(parents=True)
        (push_dir / "1").mkdir()  # half a copy: not a version
        wait_for(lambda: "no version yet; waiting" in caplog.text)
        publish(shop.bundle_dir, push_dir, 2)
        assert wait_until_available(address_of(server)) == 2
        assert client.search("red mug").version == 2
    server.stop()
    assert caplog.text.count("waiting") == 2


def test_request_in_flight_finishes_when_the_server_stops(serving, monkeypatch) -> None:
    bundle = serving._watcher.current
    run, began = bundle.run, threading.Event()

    def slow(signature, inputs):
        began.set()
        time.sleep(0.5)
        return run(signature, inputs)

    monkeypatch.setattr(bundle, "run", slow)
    answers = []
    with RetrievalClient(address_of(serving)) as client:
        asker = threading.Thread(target=lambda: answers.append(client.search("red mug")))
        asker.start()
        began.wait(10)
        serving.stop()
        asker.join()
        assert answers[0].version == 1
        with pytest.raises(TandemError, match="no server answers"):
            client.search("red mug")


def test_process_serves_until_sigterm_and_exits_with_0(push_dir: Path) -> None:
    with RunningProcess(push_dir) as running:
        assert wait_until_available(running.address) == 1
        with RetrievalClient(running.address) as client:
            assert client.search("red mug").version == 1
        running.process.send_signal(signal.SIGTERM)
        assert running.process.wait(timeout=30) == 0
    said = running.process.stderr.read()
    assert "stopped" in said
    assert "Exception" not in said
    with grpc.insecure_channel(running.address) as channel, pytest.raises(grpc.FutureTimeoutError):
        grpc.channel_ready_future(channel).result(timeout=0.5)


def test_who_loads_lets_a_replaced_version_go_one_look_later(shop: Shop, push_dir: Path) -> None:
    class Loaded:
        def __init__(self, path: Path) -> None:
            self.manifest = verify_bundle(path)

    watcher = VersionWatcher(push_dir, Loaded)  # type: ignore[arg-type]
    watcher.poll()
    replaced = weakref.ref(watcher.loaded[1])
    publish(shop.bundle_dir, push_dir, 2)
    watcher.poll()
    assert list(watcher.loaded) == [2] and replaced() is not None  # requests in flight end meanwhile
    watcher.poll()
    assert replaced() is None
