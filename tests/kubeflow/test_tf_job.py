"""The TFJob that trains with several workers: the manifest, and what the cluster file puts into it."""

import copy
import json
from pathlib import Path

import pytest
import yaml

from kubeflow.settings import load_cluster
from kubeflow.tf_job import tf_job
from tests.kubeflow.kubernetes_schema import as_sent, deserialised, model_of, problems
from tests.kubeflow.tfjob_api import job_problems
from towers.worker import main

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "kubeflow" / "training"


def written() -> dict:
    return yaml.safe_load((FOLDER / "tfjob.yaml").read_text())


@pytest.fixture
def cluster():
    settings = load_cluster(ROOT / "kubeflow/profiles/cluster.yaml")
    return settings.model_copy(update={"workers": 4})


def test_the_manifest_is_what_the_operator_knows():
    job = written()
    assert job_problems(job) == []
    for replica in job["spec"]["tfReplicaSpecs"].values():
        assert as_sent(deserialised(replica["template"], "V1PodTemplateSpec")) == replica["template"]
        (container,) = replica["template"]["spec"]["containers"]
        mounts = {mount["mountPath"] for mount in container["volumeMounts"]}
        assert any(container["args"][0].startswith(f"{mount}/") for mount in mounts)


@pytest.mark.parametrize(
    ("path", "value", "problem"),
    [
        (("spec", "runPolicy", "backofLimit"), 3, "spec.runPolicy.backofLimit"),
        (("spec", "cleanPodPolicy"), "All", "spec.cleanPodPolicy"),  # where it stood before v1's runPolicy
        (("spec", "tfReplicaSpecs", "Worker", "restartPolicy"), "onFailure", "Worker.restartPolicy"),
        (
            ("spec", "tfReplicaSpecs", "Worker", "template", "spec", "volums"),
            [],
            "V1PodSpec has no such field",
        ),
        (("spec", "tfReplicaSpecs", "Worker", "template", "spec", "containers"), [], "called tensorflow"),
    ],
)
def test_what_the_operator_would_refuse_is_found(path, value, problem):
    job = copy.deepcopy(written())
    node = job
    for name in path[:-1]:
        node = node[name]
    node[path[-1]] = value
    assert any(problem in one for one in job_problems(json.loads(json.dumps(job))))


def test_the_workers_command_is_there_and_reads_a_job(tmp_path, capsys):
    (container,) = written()["spec"]["tfReplicaSpecs"]["Worker"]["template"]["spec"]["containers"]
    assert container["command"] == ["python", "-m", main.__module__]
    assert main([str(tmp_path / "job.json")]) == 2
    assert "no training job" in capsys.readouterr().err


@pytest.mark.parametrize(
    "document", yaml.safe_load_all((FOLDER / "access.yaml").read_text()), ids=lambda d: d["kind"]
)
def test_access_is_what_the_kubernetes_api_knows_and_all_that_is_asked_for(document):
    kind = document["apiVersion"].split("/")[1].capitalize() + document["kind"]
    assert model_of(document) == kind
    if kind == "V1RoleBinding":  # the client has its subjects under another name
        assert document["roleRef"]["name"] == "tandem-training"
        document = document | {"subjects": []}
    assert problems(document, kind, kind) == []
    if kind == "V1Role":
        (rule,) = document["rules"]
        assert (rule["resources"], sorted(rule["verbs"])) == (["tfjobs"], ["create", "get"])


def test_the_cluster_file_says_what_workers_get(cluster):
    job = tf_job(cluster)
    assert job_problems(job) == []
    replicas = job["spec"]["tfReplicaSpecs"]
    assert {kind: replica["replicas"] for kind, replica in replicas.items()} == {"Chief": 1, "Worker": 3}
    for replica in replicas.values():
        pod = replica["template"]["spec"]
        (container,) = pod["containers"]
        assert container["image"] == "tandem:0.1.0-gpu"
        assert container["resources"] == {
            "requests": {"cpu": "4", "memory": "16G"},
            "limits": {"cpu": "8", "memory": "32G", "nvidia.com/gpu": "1"},
        }
        assert container["volumeMounts"] == [{"name": "tandem", "mountPath": "/mnt/tandem"}]
        assert pod["volumes"] == [{"name": "tandem", "persistentVolumeClaim": {"claimName": "tandem"}}]


def test_secrets_reach_the_workers(cluster):
    secrets = [{"name": "bucket", "mount": "/secrets/bucket"}, {"name": "key", "key": "id", "env": "KEY_ID"}]
    steps = {"Trainer": cluster.steps["Trainer"] | {"secrets": secrets}}
    job = tf_job(cluster.model_copy(update={"steps": steps}))
    assert job_problems(job) == []
    pod = job["spec"]["tfReplicaSpecs"]["Worker"]["template"]["spec"]
    assert {"name": "secret-bucket", "secret": {"secretName": "bucket"}} in pod["volumes"]
    reference = {"secretKeyRef": {"name": "key", "key": "id"}}
    assert {"name": "KEY_ID", "valueFrom": reference} in pod["containers"][0]["env"]
