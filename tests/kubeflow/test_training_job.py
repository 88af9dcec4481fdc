"""The Trainer step where several workers train: compiled, and in its talk with a cluster over HTTP."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

from kubeflow.deployment import deploy, kubernetes_of
from kubeflow.settings import load_cluster
from kubeflow.tf_job import tf_job
from kubeflow.training_job import RUN_FN, run_fn, train_on_workers
from tests.kubeflow.tfjob_api import TFJobApi
from towers.settings import EncoderSettings, ModelSettings, TrainingSettings
from towers.worker import read_job
from transform.errors import TandemError
from transform.settings import FeatureSettings

ROOT = Path(__file__).parents[2]
SUCCEEDED = {"type": "Succeeded", "status": "True"}


@pytest.fixture
def cluster():
    settings = load_cluster(ROOT / "kubeflow/profiles/cluster.yaml")
    return settings.model_copy(update={"workers": 4})


def compiled():
    return next(yaml.safe_load_all((ROOT / "tests/kubeflow/golden/pipeline.yaml").read_text()))


def trainer(spec):
    task = next(
        dag["dag"]["tasks"]["Trainer"]
        for dag in (spec["root"], *spec["components"].values())
        if "Trainer" in dag.get("dag", {}).get("tasks", {})
    )
    component = spec["components"][task["componentRef"]["name"]]
    container = spec["deploymentSpec"]["executors"][component["executorLabel"]]["container"]
    values = {
        name: given["runtimeValue"]["constant"]
        for name, given in task["inputs"]["parameters"].items()
        if "runtimeValue" in given
    }
    return container, values


def test_with_workers_the_compiled_trainer_starts_them_and_needs_no_gpu(cluster):
    spec = compiled()
    deploy(spec, cluster)
    container, values = trainer(spec)
    config = json.loads(values["custom_config"])
    assert values["run_fn"] == RUN_FN == f"{run_fn.__module__}.{run_fn.__name__}"
    assert json.loads(config["tf_job"]) == tf_job(cluster)
    assert config["staging"] == "/mnt/tandem/runs/training"
    assert container["image"] == "tandem:0.1.0" and "accelerator" not in container["resources"]
    assert kubernetes_of(spec, cluster)


def test_without_workers_it_trains_itself(cluster):
    spec = compiled()
    deploy(spec, cluster.model_copy(update={"workers": 1}))
    container, values = trainer(spec)
    assert values["run_fn"] == "towers.trainer.run_fn" and "tf_job" not in values["custom_config"]
    assert container["resources"]["accelerator"]["count"] == "1"


@pytest.fixture
def step(tmp_path, cluster):
    """A Trainer step's arguments; its inputs are where only its own container sees them."""
    own = tmp_path / "container"
    for split in ("train", "eval", "items", "histories"):
        (own / f"examples/Split-{split}").mkdir(parents=True)
        (own / f"examples/Split-{split}/part.gz").write_text(split)
    (own / "graph").mkdir()
    (own / "graph/vocabulary").write_text("graph")
    state = own / "previous/assets.extra/training_state"
    state.mkdir(parents=True)
    (state / "state.json").write_text("{}")
    config = {
        "features": FeatureSettings(cooccurrence_items=10).model_dump_json(),
        "encoder": EncoderSettings(preset="/mnt/tandem/encoder").model_dump_json(),
        "model": ModelSettings().model_dump_json(),
        "training": TrainingSettings(steps=7).model_dump_json(),
        "tf_job": json.dumps(tf_job(cluster)),
        "staging": str(tmp_path / "shared/training"),
    }
    return SimpleNamespace(
        custom_config=config,
        train_files=[str(own / "examples/Split-train/*")],
        eval_files=[str(own / "examples/Split-eval/*")],
        transform_output=str(own / "graph"),
        base_model=str(own / "previous"),
        serving_model_dir=str(own / "model/Format-Serving"),
        model_run_dir=str(own / "model_run"),
    )


def training(job):
    """What the pods do: they see what is on the shared volume alone, and leave a model there."""
    containers = [
        replica["template"]["spec"]["containers"][0] for replica in job["spec"]["tfReplicaSpecs"].values()
    ]
    (job_file,) = {container["args"][0] for container in containers}
    read = read_job(job_file)
    assert read.training.steps == 7
    shared = Path(job_file).parent
    for pattern, text in zip(
        (*read.train_files, *read.eval_files, *read.item_files, *read.history_files),
        ("train", "eval", "items", "histories"),
        strict=True,
    ):
        (found,) = Path(pattern).parent.glob(Path(pattern).name)
        assert found.read_text() == text and found.is_relative_to(shared)
    assert (Path(read.transform_graph) / "vocabulary").is_relative_to(shared)
    assert (Path(read.previous_state) / "state.json").exists() and Path(read.checkpoint_dir).is_relative_to(
        shared
    )
    for place, name in (
        (read.serving_dir, "saved_model.pb"),
        (read.state_dir, "state.json"),
        (read.log_dir, "events"),
    ):
        Path(place).mkdir(parents=True)
        (Path(place) / name).write_text("trained")
    (Path(read.state_dir).parent / "training_summary.json").write_text("{}")
    return SUCCEEDED


@pytest.fixture
def api():
    started = []

    def start(on_job=training):
        started.append(TFJobApi(on_job))
        return started[-1]

    yield start
    for one in started:
        one.stop()
        assert one.problems == []


def test_the_step_hands_over_its_inputs_and_fetches_the_model(step, api, tmp_path):
    server = api()
    train_on_workers(step, server.client, "shop", poll_seconds=0.01)
    model = Path(step.serving_model_dir).parent
    files = sorted(str(path.relative_to(model)) for path in model.rglob("*") if path.is_file())
    assert files == ["Format-Serving/saved_model.pb", "training_state/state.json", "training_summary.json"]
    assert (Path(step.model_run_dir) / "events").read_text() == "trained"
    assert list((tmp_path / "shared/training").iterdir()) == []
    assert len(server.jobs) == 1


def test_a_job_that_fails_is_named_and_a_further_attempt_has_its_checkpoints(step, api, tmp_path):
    def fail(job):
        checkpoint = Path(
            read_job(
                job["spec"]["tfReplicaSpecs"]["Chief"]["template"]["spec"]["containers"][0]["args"][0]
            ).checkpoint_dir
        )
        checkpoint.mkdir()
        (checkpoint / "step-50").write_text("kept")
        return {"type": "Failed", "status": "True", "message": "chief exited with 2"}

    server = api(fail)
    with pytest.raises(TandemError, match="failed: chief exited with 2; see `kubectl logs -n shop"):
        train_on_workers(step, server.client, "shop", poll_seconds=0.01)
    (stage,) = (tmp_path / "shared/training").iterdir()
    assert (stage / "checkpoints/step-50").read_text() == "kept"

    def go_on(job):
        assert (stage / "checkpoints/step-50").read_text() == "kept"
        return training(job)

    server.on_job, server.asked = go_on, 0
    train_on_workers(step, server.client, "shop", poll_seconds=0.01)
    assert sorted(server.jobs) == [stage.name, f"{stage.name}-2"]


def test_a_step_that_is_tried_again_takes_up_the_job_that_runs(step, api):
    server = api()
    answer = server.answer
    server.answer = lambda method, path, body: (400, {}) if method == "GET" else answer(method, path, body)
    with pytest.raises(TandemError, match="refuses the training job: 400"):
        train_on_workers(step, server.client, "shop", poll_seconds=0.01)
    server.answer = answer
    train_on_workers(step, server.client, "shop", poll_seconds=0.01)
    assert len(server.jobs) == 1


def test_a_control_plane_that_is_away_for_a_while_does_no_harm(step, api):
    server = api()
    server.on_job = lambda job: (server.errors.extend([503, 500, 429]), training(job))[1]
    train_on_workers(step, server.client, "shop", poll_seconds=0.01)
    assert Path(step.serving_model_dir).exists()


@pytest.mark.parametrize(
    ("status", "hint"),
    [(403, "access.yaml"), (404, "training operator"), (401, "service account"), (422, "422")],
)
def test_what_the_cluster_refuses_is_one_line_that_says_what_to_do(step, api, status, hint):
    server = api()
    server.errors = [status]
    with pytest.raises(TandemError, match=hint):
        train_on_workers(step, server.client, "shop", poll_seconds=0.01)
    assert server.jobs == {}


def test_outside_of_a_cluster_it_says_so(step):
    with pytest.raises(TandemError, match="no pod of it .* set workers to 1"):
        run_fn(step)
