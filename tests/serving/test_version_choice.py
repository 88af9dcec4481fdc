"""Several versions at once, chosen by number or label, as TensorFlow Serving's own configuration says."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import grpc
import pytest
from google.protobuf import text_format
from tensorflow_serving.apis import (
    get_model_status_pb2,
    model_management_pb2,
    model_service_pb2_grpc,
    prediction_service_pb2_grpc,
)
from tensorflow_serving.config import model_server_config_pb2

from serving import server as servers
from serving.bundle import publish, read_manifest
from serving.client import wait_until_available
from serving.model_config import read_model_config
from serving.server_options import ServerOptions
from serving.version_choice import NEWEST, VersionChoice
from serving.version_watcher import State, VersionWatcher
from tests.serving.conftest import Shop, request_of
from transform.errors import TandemError


def config_text(policy: str, push_dir: object = "", labels: dict[str, int] | None = None) -> str:
    said = "".join(f'version_labels {{ key: "{k}" value: {v} }}\n' for k, v in (labels or {}).items())
    return f"""model_config_list {{ config {{
        name: "retrieval" base_path: "{push_dir}" model_platform: "tensorflow"
        model_version_policy {{ {policy} }}
        {said} }} }}"""


class Serving:
    """A server of versions 1, 2 and 3 of a push directory that its configuration names."""

    def __init__(self, push_dir: Path, channel: grpc.Channel) -> None:
        self.push_dir = push_dir
        self.predictions = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        self.models = model_service_pb2_grpc.ModelServiceStub(channel)

    def answered_by(self, version: int | None = None, label: str | None = None) -> int:
        request = request_of(query=["red mug"])
        if version is not None:
            request.model_spec.version.value = version
        if label is not None:
            request.model_spec.version_label = label
        return self.predictions.Predict(request, timeout=10).model_spec.version.value

    def refusal(self, **spec) -> str:
        with pytest.raises(grpc.RpcError) as caught:
            self.answered_by(**spec)
        assert caught.value.code() == grpc.StatusCode.NOT_FOUND
        return caught.value.details()

    def reload(self, text: str) -> int:
        config = text_format.Parse(text, model_server_config_pb2.ModelServerConfig())
        request = model_management_pb2.ReloadConfigRequest(config=config)
        return self.models.HandleReloadConfigRequest(request, timeout=60).status.error_code


@pytest.fixture(scope="module")
def serving(shop: Shop, other_shop: Shop, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    folder = tmp_path_factory.mktemp("choice")
    for version, made in ((1, shop), (2, other_shop), (3, shop)):
        publish(made.bundle_dir, folder / "push", version)
    config = folder / "models.config"
    config.write_text(
        config_text("specific { versions: 1 versions: 2 }", folder / "push", {"stable": 1, "canary": 2})
    )
    server = servers.start("", 0, poll_seconds=0.05, model_config_file=str(config))
    address = f"127.0.0.1:{server.port}"
    for version in (1, 2):
        wait_until_available(address, version=version)
    with grpc.insecure_channel(address) as channel:
        yield Serving(folder / "push", channel)
    server.stop()


def test_requests_choose_by_number_and_label_and_reload_changes_both(serving: Serving) -> None:
    assert serving.answered_by() == 2  # the newest that is loaded
    assert serving.answered_by(version=1) == serving.answered_by(label="stable") == 1
    assert serving.answered_by(label="canary") == 2
    assert serving.refusal(version=3) == (
        "version 3 of 'retrieval' is not loaded, expected 1 or 2, or none for the newest"
    )
    assert "label 'beta' of 'retrieval' is unknown, expected one of canary, stable" in serving.refusal(
        label="beta"
    )
    status = get_model_status_pb2.GetModelStatusRequest()
    status.model_spec.name, status.model_spec.version_label = "retrieval", "stable"
    (one,) = serving.models.GetModelStatus(status, timeout=10).model_version_status
    assert (one.version, one.state) == (1, State.AVAILABLE)

    # The canary has proved itself: it becomes the stable one, and the next one is tried.
    promoted = config_text("latest { num_versions: 2 }", serving.push_dir, {"stable": 2, "canary": 3})
    assert serving.reload(promoted) == 0
    assert serving.answered_by(label="stable") == 2
    assert serving.answered_by(label="canary") == serving.answered_by() == 3
    assert "version 1 of 'retrieval' is not loaded, expected 2 or 3" in serving.refusal(version=1)

    for wrong, code, reason in (
        (config_text("all {}", labels={"canary": 9}), "FAILED_PRECONDITION",
            "label 'canary' stands for version 9, expected one of those to be served (3, 2, 1)"),
        (config_text("latest {}", labels={"old": 1}), "FAILED_PRECONDITION", "(3): nothing was changed"),
        (config_text("all {}").replace('"retrieval"', '"ranking"'), "INVALID_ARGUMENT",
            "names model 'ranking', expected 'retrieval'"),
        ("custom_model_config {}", "INVALID_ARGUMENT", "lists 0 models, expected one"),
    ):  # fmt: skip
        with pytest.raises(grpc.RpcError) as caught:
            serving.reload(wrong)
        assert caught.value.code().name == code
        assert reason in caught.value.details()
    assert serving.answered_by(label="stable") == 2  # nothing was changed


class TestChoice:
    """Which versions are loaded; the bundles are taken for good without a look, to be quick."""

    @pytest.fixture
    def push_dir(self, shop: Shop, tmp_path: Path) -> Path:
        for version in (1, 2, 3, 4):
            publish(shop.bundle_dir, tmp_path / "push", version)
        return tmp_path / "push"

    def watcher(self, push_dir: Path, choice: VersionChoice, broken: tuple[int, ...] = ()) -> VersionWatcher:
        def load(path: Path) -> SimpleNamespace:
            if int(path.name) in broken:
                raise TandemError(f"{path} is broken")
            return SimpleNamespace(manifest=read_manifest(path))

        watcher = VersionWatcher(push_dir, load, choice=choice)
        watcher.poll()
        return watcher

    @pytest.mark.parametrize(
        ("choice", "broken", "loaded"),
        [
            (NEWEST, (), {4}),
            (VersionChoice(latest=2), (), {3, 4}),
            (VersionChoice(latest=2), (3,), {2, 4}),  # the newest two that load
            (VersionChoice(None, frozenset({1, 3, 9})), (), {1, 3}),
            (VersionChoice(None), (1,), {2, 3, 4}),
        ],
    )
    def test_policy_decides_what_is_loaded(self, push_dir: Path, choice, broken, loaded) -> None:
        assert set(self.watcher(push_dir, choice, broken).loaded) == loaded

    def test_new_version_joins_before_the_oldest_goes(self, shop: Shop, push_dir: Path) -> None:
        watcher = self.watcher(push_dir, VersionChoice(latest=2))
        publish(shop.bundle_dir, push_dir, 5)
        watcher.poll()
        assert set(watcher.loaded) == {4, 5}
        assert watcher.statuses()[3].state == State.END
        shutil.rmtree(push_dir / "5")
        watcher.poll()
        assert set(watcher.loaded) == {3, 4}
        assert watcher.swaps == 2  # to 5, and back to 4

    def test_label_whose_version_turns_out_not_to_load_is_told(self, push_dir: Path) -> None:
        watcher = self.watcher(push_dir, NEWEST, broken=(2,))
        with pytest.raises(TandemError, match="label 'old': .*2 is broken"):
            watcher.choose(VersionChoice(None, None, {"old": 2}))
        assert set(watcher.loaded) == {1, 3, 4}


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (
            "model_config_list { config { nome: 'x' } }",
            'no text of a ModelServerConfig .*no field named "nome"',
        ),
        ("model_config_list { }", "lists 0 models, expected one"),
        ("model_config_list { config { } }", "the model has no name"),
        (config_text("specific {}"), "specific without versions"),
        (config_text("specific { versions: 1 }", labels={"canary": 2}), "stands for version 2, expected one"),
        (config_text("all {}").replace('"tensorflow"', '"onnx"'), "model_platform is 'onnx'"),
    ],
)
def test_configuration_that_cannot_be_served_is_one_clear_line(
    text: str, reason: str, tmp_path: Path
) -> None:
    path = tmp_path / "models.config"
    path.write_text(text)
    with pytest.raises(TandemError, match=reason) as caught:
        read_model_config(str(path))
    assert "\n" not in str(caught.value)
    with pytest.raises(TandemError, match="gone cannot be read"):
        read_model_config(str(tmp_path / "gone"))


def test_push_directory_and_name_must_come_from_somewhere(tmp_path: Path) -> None:
    with pytest.raises(TandemError, match="no push directory is named"):
        ServerOptions("", 0)
    with pytest.raises(TandemError, match="leave out one of them"):
        ServerOptions("", 0, model_name="retrieval", model_config_file="models.config")
    path = tmp_path / "models.config"
    path.write_text(config_text("all {}"))
    with pytest.raises(TandemError, match="has no base_path"):
        servers.start("", 0, model_config_file=str(path))
