"""The graph as a pipeline file: what each step gets, and the whole file against one that was looked at."""

import json
from pathlib import Path

import pytest
import yaml

from kubeflow.beam_workers import check_beam_workers
from kubeflow.compile import SCHEMA_FILE, compile_pipeline, write_pipeline
from kubeflow.compiled_file import in_order, read_spec
from kubeflow.settings import load_cluster
from pipeline.settings import load_settings
from transform.errors import TandemError

ROOT = Path(__file__).parents[2]
GOLDEN = Path(__file__).parent / "golden" / "pipeline.yaml"
CLUSTER = ROOT / "kubeflow" / "profiles" / "cluster.yaml"
PROFILE = ROOT / "pipeline" / "profiles" / "production.yaml"


@pytest.fixture(scope="module")
def compiled():
    return compile_pipeline(load_settings(PROFILE), load_cluster(CLUSTER))


@pytest.fixture(scope="module")
def spec(compiled):
    return compiled.spec


def container(spec, step):
    return spec["deploymentSpec"]["executors"][f"{step}_executor"]["container"]


def steps(spec):
    return spec["components"]["tfx-dag"]["dag"]["tasks"]


def test_file_is_the_one_that_was_looked_at(compiled, tmp_path):
    write_pipeline(compiled, tmp_path / "pipeline.yaml")
    assert (tmp_path / "pipeline.yaml").read_text() == GOLDEN.read_text(), (
        "the compiled pipeline has changed: if it should have, run 'make kubeflow-golden' and read the difference"
    )


def test_file_has_every_component_of_the_graph_in_a_working_order(spec):
    from pipeline.graph import create_pipeline

    graph = create_pipeline(load_settings(PROFILE), schema_file="schema.pbtxt")
    order = in_order(spec["components"]["tfx-dag"]["dag"])
    assert sorted(order) == sorted(component.id for component in graph.components)
    for component in graph.components:
        assert all(order.index(up.id) < order.index(component.id) for up in component.upstream_nodes)


def test_kubeflows_own_sdk_reads_both_documents(compiled, tmp_path):
    from kfp import components
    from kfp.client.client import _extract_pipeline_yaml

    write_pipeline(compiled, tmp_path / "pipeline.yaml")
    documents = _extract_pipeline_yaml(str(tmp_path / "pipeline.yaml"))
    assert documents.pipeline_spec.default_pipeline_root == "minio://mlpipeline/tandem"
    volumes = documents.platform_spec.platforms["kubernetes"].deployment_spec.executors
    assert set(volumes) == set(compiled.spec["deploymentSpec"]["executors"])
    inputs = components.load_component_from_file(str(tmp_path / "pipeline.yaml")).component_spec.inputs
    assert {name: (one.type, one.default, one.optional) for name, one in inputs.items()} == {
        "span": ("Integer", -1, True),
        "push_dir": ("String", "/mnt/tandem/push", True),
    }


def test_every_step_starts_tandem_in_its_image(spec):
    for executor in spec["deploymentSpec"]["executors"].values():
        assert executor["container"]["command"] == ["python", "-m", "kubeflow.run_step"]
        assert {"name": "TF_USE_LEGACY_KERAS", "value": "1"} in executor["container"]["env"]
    assert container(spec, "Pusher")["image"] == "tandem:0.1.0"
    assert container(spec, "Trainer")["image"] == "tandem:0.1.0-gpu"


def test_trainer_gets_its_gpu_and_sizes(spec):
    assert container(spec, "Trainer")["resources"] == {
        "cpuRequest": 4,
        "cpuLimit": 8,
        "memoryRequest": 16,
        "memoryLimit": 32,
        "accelerator": {"type": "nvidia.com/gpu", "count": "1"},
    }
    assert "accelerator" not in container(spec, "Pusher")["resources"]


def test_retries_are_those_of_the_cluster_file(spec):
    assert steps(spec)["Trainer"]["retryPolicy"]["maxRetryCount"] == 2
    assert "retryPolicy" not in steps(spec)["Pusher"]


def test_steps_that_look_outside_their_artifacts_are_never_cached(spec):
    cached = {name for name, task in steps(spec).items() if task["cachingOptions"].get("enableCache")}
    assert {"PreviousPush", "InteractionGen", "Pusher"} & cached == set()
    assert {"Transform", "Trainer", "CatalogIndexer"} <= cached


def test_span_and_push_directory_are_parameters_of_every_step_that_has_them(spec):
    root = spec["root"]["inputDefinitions"]["parameters"]
    assert root["span"] == {"parameterType": "NUMBER_INTEGER", "defaultValue": -1, "isOptional": True}
    assert root["push_dir"]["defaultValue"] == "/mnt/tandem/push"
    passed = spec["root"]["dag"]["tasks"]["tfx-dag"]["inputs"]["parameters"]
    assert passed == {name: {"componentInputParameter": name} for name in ("span", "push_dir")}
    for name, task in steps(spec).items():
        for parameter, source in task.get("inputs", {}).get("parameters", {}).items():
            if parameter in root:
                assert source == {"componentInputParameter": parameter}, name


def test_exit_step_runs_after_the_others_however_they_end(spec):
    task = spec["root"]["dag"]["tasks"]["ReportOutcome"]
    assert task["triggerPolicy"]["strategy"] == "ALL_UPSTREAM_TASKS_COMPLETED"
    assert task["inputs"]["parameters"]["final_status"] == {"taskFinalStatus": {"producerTask": "tfx-dag"}}


def test_paths_are_the_clusters(spec):
    data = json.loads(
        steps(spec)["InteractionGen"]["inputs"]["parameters"]["data"]["runtimeValue"]["constant"]
    )
    assert data["dataset"] == "/mnt/tandem/dataset"
    trainer = steps(spec)["Trainer"]["inputs"]["parameters"]["custom_config"]["runtimeValue"]["constant"]
    assert json.loads(json.loads(trainer)["encoder"])["preset"] == "/mnt/tandem/encoder"
    assert str(ROOT) not in json.dumps(spec)


def test_curated_schema_travels_with_the_step_that_imports_it(spec):
    args = container(spec, "ImportSchemaGen")["args"]
    at = args.index("--carried_file")
    assert args[at + 1] == SCHEMA_FILE
    assert 'name: "item_id"' in args[at + 2]
    given = steps(spec)["ImportSchemaGen"]["inputs"]["parameters"]["schema_file"]
    assert given == {"runtimeValue": {"constant": SCHEMA_FILE}}


def test_volumes_and_secrets_reach_every_container_as_kubernetes_has_them(tmp_path):
    tree = yaml.safe_load(CLUSTER.read_text())
    tree["steps"] = {
        "Pusher": {
            "secrets": [
                {"name": "token", "key": "value", "env": "TOKEN"},
                {"name": "certs", "mount": "/etc/certs"},
            ]
        }
    }
    (tmp_path / "cluster.yaml").write_text(yaml.safe_dump(tree))
    compiled = compile_pipeline(load_settings(PROFILE), load_cluster(tmp_path / "cluster.yaml"))
    given = compiled.platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    assert set(given) == set(compiled.spec["deploymentSpec"]["executors"])
    mount = [{"constant": "tandem", "mountPath": "/mnt/tandem"}]
    assert given["Trainer_executor"] == {"pvcMount": mount}
    assert given["Pusher_executor"] == {
        "pvcMount": mount,
        "secretAsVolume": [{"secretName": "certs", "mountPath": "/etc/certs"}],
        "secretAsEnv": [
            {"secretName": "token", "keyToEnv": [{"secretKey": "value", "envVar": "TOKEN"}]},
        ],
    }


def test_caching_and_retries_of_one_step_are_set_by_its_name(tmp_path):
    tree = yaml.safe_load(CLUSTER.read_text())
    tree["steps"] = {
        "Trainer": {"cache": False, "retries": 1, "backoff_seconds": 5},
        "Pusher": {"cache": True},
    }
    (tmp_path / "cluster.yaml").write_text(yaml.safe_dump(tree))
    tasks = steps(compile_pipeline(load_settings(PROFILE), load_cluster(tmp_path / "cluster.yaml")).spec)
    assert tasks["Trainer"]["cachingOptions"] == {}
    assert tasks["Trainer"]["retryPolicy"] == {
        "maxRetryCount": 1,
        "backoffDuration": "5s",
        "backoffFactor": 2,
        "backoffMaxDuration": "3600s",
    }
    assert tasks["CatalogIndexer"]["cachingOptions"] == {"enableCache": True}
    assert tasks["Pusher"]["cachingOptions"] == {}, "it looks at the push directory, whatever the file says"


def test_step_that_the_graph_does_not_have(tmp_path):
    tree = yaml.safe_load(CLUSTER.read_text())
    tree["steps"] = {"Trianer": {"gpus": 1}}
    (tmp_path / "cluster.yaml").write_text(yaml.safe_dump(tree))
    with pytest.raises(
        TandemError, match="steps.Trianer is no step of the pipeline; did you mean 'Trainer'?"
    ):
        compile_pipeline(load_settings(PROFILE), load_cluster(tmp_path / "cluster.yaml"))


def test_file_of_another_kind_is_refused_and_nothing_written(compiled, tmp_path):
    with pytest.raises(TandemError, match="has to end in .yaml"):
        write_pipeline(compiled, tmp_path / "pipeline.json")
    assert list(tmp_path.iterdir()) == []


def test_file_is_read_back_as_it_was_written(compiled, tmp_path):
    write_pipeline(compiled, tmp_path / "deep" / "pipeline.yaml")
    assert read_spec(tmp_path / "deep" / "pipeline.yaml") == compiled.spec


def test_file_that_cannot_be_written(compiled, tmp_path):
    (tmp_path / "taken").write_text("a file")
    with pytest.raises(TandemError, match="cannot be written"):
        write_pipeline(compiled, tmp_path / "taken" / "pipeline.yaml")


@pytest.mark.parametrize(
    ("profile", "runner"),
    [("flink", "FlinkRunner"), ("spark", "SparkRunner"), ("dataflow", "DataflowRunner")],
)
def test_beam_workers_that_would_not_see_a_step_s_artifacts_are_refused(profile, runner):
    settings = load_settings(PROFILE.with_name(f"{profile}.yaml"))
    with pytest.raises(TandemError, match=rf"^beam_args name {runner}, .* Leave beam_args out"):
        compile_pipeline(settings, load_cluster(CLUSTER))


@pytest.mark.parametrize(
    ("words", "refused"),
    [
        ([], False),
        (
            ["--runner=DirectRunner", "--direct_num_workers=2", "--direct_running_mode=multi_processing"],
            False,
        ),
        (["--runner=apache_beam.runners.direct.direct_runner.DirectRunner"], False),
        (["--runner=PortableRunner", "--job_endpoint=jobs:8099", "--environment_type=LOOPBACK"], False),
        (["--runner=PortableRunner", "--job_endpoint=jobs:8099", "--environment_type=EXTERNAL"], True),
        (["--runner=PortableRunner", "--job_endpoint=jobs:8099"], True),
        (["--runner", "FlinkRunner"], True),
    ],
)
def test_workers_are_told_by_what_beam_makes_of_the_options(words, refused):
    if not refused:
        check_beam_workers(words)
        return
    with pytest.raises(TandemError, match="apart from a step's container"):
        check_beam_workers(words)
