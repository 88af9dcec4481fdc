"""The TFJob that trains with several workers: made from the cluster settings, started, and waited for."""

import copy
import time
from importlib import resources
from typing import Any

import yaml

from kubeflow.settings import ClusterSettings
from transform.errors import TandemError

_KIND = ("kubeflow.org", "v1")
_PLURAL = "tfjobs"
_PATIENCE = 20  # polls in a row that may fail: a control plane that is being replaced is back by then
_SECONDS = 30  # for one answer


def tf_job(cluster: ClusterSettings) -> dict[str, Any]:
    """Returns the manifest of kubeflow/training/tfjob.yaml with what the cluster settings say of Trainer."""
    text = resources.files("kubeflow").joinpath("training/tfjob.yaml").read_text(encoding="utf-8")
    job = yaml.safe_load(text)
    step = cluster.step("Trainer")
    replicas = job["spec"]["tfReplicaSpecs"] = copy.deepcopy(job["spec"]["tfReplicaSpecs"])
    replicas["Worker"] = copy.deepcopy(replicas["Chief"]) | {"replicas": cluster.workers - 1}
    for replica in replicas.values():
        pod = replica["template"]["spec"]
        (container,) = pod["containers"]
        container["image"] = step.image or cluster.image
        gpus = {step.gpu_type: str(step.gpus)} if step.gpus else {}
        container["resources"] = {
            "requests": {"cpu": f"{step.cpu_request:g}", "memory": f"{step.memory_request_gb:g}G"},
            "limits": {"cpu": f"{step.cpu_limit:g}", "memory": f"{step.memory_limit_gb:g}G", **gpus},
        }
        mounts: list[dict[str, Any]] = []
        volumes: list[dict[str, Any]] = []
        for volume in step.volumes:
            mounts.append({"name": volume.claim, "mountPath": volume.mount})
            volumes.append({"name": volume.claim, "persistentVolumeClaim": {"claimName": volume.claim}})
        for secret in step.secrets:
            if secret.mount:
                mounts.append({"name": f"secret-{secret.name}", "mountPath": secret.mount, "readOnly": True})
                volumes.append({"name": f"secret-{secret.name}", "secret": {"secretName": secret.name}})
            else:
                key = {"secretKeyRef": {"name": secret.name, "key": secret.key}}
                container["env"].append({"name": secret.env, "valueFrom": key})
        container["volumeMounts"] = mounts
        pod["volumes"] = [one for n, one in enumerate(volumes) if one not in volumes[:n]]
    return job


def named(job: dict[str, Any], name: str, job_file: str) -> dict[str, Any]:
    """The manifest for one training: its name, and the file that its pods read."""
    job = copy.deepcopy(job)
    job["metadata"]["name"] = name
    for replica in job["spec"]["tfReplicaSpecs"].values():
        replica["template"]["spec"]["containers"][0]["args"] = [job_file]
    return job


def run_to_end(api: Any, namespace: str, job: dict[str, Any], poll_seconds: float = 10.0) -> None:
    """Starts a job, or takes up the one of this name that is there, and waits for its end.

    A job that failed before stays for its logs; the next attempt gets a number.

    Args:
      api: `kubernetes.client.CustomObjectsApi`.
      namespace: where.
      job: manifest.
      poll_seconds: between two looks.

    Raises:
      TandemError: the cluster refuses it, cannot be reached any more, or the job failed.
    """
    from kubernetes.client.exceptions import ApiException

    name, attempt = job["metadata"]["name"], 1
    while True:
        try:
            api.create_namespaced_custom_object(*_KIND, namespace, _PLURAL, job, _request_timeout=_SECONDS)
            break
        except ApiException as error:
            if error.status != 409:
                raise _refused(error, namespace) from None
        if _end(_look(api, namespace, job["metadata"]["name"], poll_seconds))[0] != "Failed":
            break
        attempt += 1
        job["metadata"]["name"] = f"{name}-{attempt}"
    name = job["metadata"]["name"]
    while True:
        end, message = _end(_look(api, namespace, name, poll_seconds))
        if end == "Succeeded":
            return
        if end == "Failed":
            raise TandemError(
                f"training job {name} failed: {message or 'no reason given'}; see `kubectl logs -n {namespace} -l"
                f" training.kubeflow.org/job-name={name}`. A further attempt goes on from its last checkpoint."
            )
        time.sleep(poll_seconds)


def _look(api: Any, namespace: str, name: str, poll_seconds: float) -> dict[str, Any]:
    """The job as it is; passes over what is likely to be over soon."""
    from kubernetes.client.exceptions import ApiException
    from urllib3.exceptions import HTTPError

    for further in range(_PATIENCE, 0, -1):
        try:
            found: dict[str, Any] = api.get_namespaced_custom_object(
                *_KIND, namespace, _PLURAL, name, _request_timeout=_SECONDS
            )
            return found
        except (ApiException, HTTPError) as error:
            if isinstance(error, ApiException) and error.status < 500 and error.status != 429:
                raise _refused(error, namespace) from None
            if further == 1:
                raise TandemError(
                    f"training job {name}: the cluster does not answer ({str(error).splitlines()[0]}), expected its"
                    " status; retry the step, it takes the job up where it is."
                ) from None
        time.sleep(poll_seconds)
    raise AssertionError


def _end(found: dict[str, Any]) -> tuple[str, str]:
    """Succeeded or Failed, "" while it runs; and what the operator says."""
    for condition in found.get("status", {}).get("conditions", ()):
        if condition["type"] in ("Succeeded", "Failed") and condition["status"] == "True":
            return condition["type"], condition.get("message", "")
    return "", ""


def _refused(error: Any, namespace: str) -> TandemError:
    hint = {
        401: "give the step's service account a token",
        403: f"`kubectl apply -n {namespace} -f kubeflow/training/access.yaml`",
        404: "install Kubeflow's training operator, or set workers to 1",
    }.get(error.status, "see what it says")
    return TandemError(
        f"the cluster refuses the training job: {error.status} {error.reason}, expected a TFJob in {namespace};"
        f" {hint}."
    )
