"""What the cluster settings say of each step, put into a compiled pipeline."""

import difflib
from collections.abc import Iterator
from typing import Any

from kubeflow.settings import ClusterSettings, Step
from kubeflow.training_job import hand_over
from transform.errors import TandemError

ENVIRONMENT = {"TF_USE_LEGACY_KERAS": "1", "KERAS_BACKEND": "tensorflow"}
# A step with one of these reads or writes a directory beside its artifacts: the same inputs may mean something else there
# tomorrow.
_LOOKS_OUTSIDE = ("push_dir", "data", "span", "input_fingerprint", "log_dir")


def deploy(spec: dict[str, Any], cluster: ClusterSettings) -> None:
    """Gives every container its image, resources and environment, every task its retries and caching; in place.

    Raises:
      TandemError: `cluster.steps` has a name that no task has.
    """
    tasks = dict(_tasks(spec))
    for name in cluster.steps:
        if name not in tasks:
            close = difflib.get_close_matches(name, tasks, n=1)
            hint = f"did you mean {close[0]!r}?" if close else f"expected one of {', '.join(sorted(tasks))}."
            raise TandemError(f"cluster settings: steps.{name} is no step of the pipeline; {hint}")
    for name, task in tasks.items():
        step = cluster.container(name)
        component = spec["components"][task["componentRef"]["name"]]
        parameters = component.get("inputDefinitions", {}).get("parameters", {})
        exits = "triggerPolicy" in task
        cached = step.cache and not exits and not any(outside in parameters for outside in _LOOKS_OUTSIDE)
        task["cachingOptions"] = {"enableCache": True} if cached else {}
        if step.retries:
            task["retryPolicy"] = {
                "maxRetryCount": step.retries,
                "backoffDuration": f"{step.backoff_seconds}s",
                "backoffFactor": 2.0,
                "backoffMaxDuration": "3600s",
            }
        container = spec["deploymentSpec"]["executors"][component["executorLabel"]]["container"]
        container["image"] = step.image or cluster.image
        container["resources"] = _resources(step)
        container["env"] = [{"name": key, "value": value} for key, value in ENVIRONMENT.items()]
        if name == "Trainer" and cluster.workers > 1:
            hand_over(task, cluster)


def kubernetes_of(spec: dict[str, Any], cluster: ClusterSettings) -> dict[str, Any]:
    """`PlatformSpec` as a mapping: the volumes and secrets of every container, under its executor's name."""
    executors = {}
    for name, task in _tasks(spec):
        label = spec["components"][task["componentRef"]["name"]]["executorLabel"]
        step = cluster.container(name)
        given: dict[str, Any] = {}
        if step.volumes:
            given["pvcMount"] = [
                {"constant": volume.claim, "mountPath": volume.mount} for volume in step.volumes
            ]
        files = [secret for secret in step.secrets if secret.mount]
        if files:
            given["secretAsVolume"] = [
                {"secretName": secret.name, "mountPath": secret.mount} for secret in files
            ]
        variables = [secret for secret in step.secrets if secret.env]
        if variables:
            given["secretAsEnv"] = [
                {"secretName": secret.name, "keyToEnv": [{"secretKey": secret.key, "envVar": secret.env}]}
                for secret in variables
            ]
        executors[label] = given
    return {"platforms": {"kubernetes": {"deploymentSpec": {"executors": executors}}}}


def _resources(step: Step) -> dict[str, Any]:
    resources: dict[str, Any] = {
        "cpuRequest": step.cpu_request,
        "cpuLimit": step.cpu_limit,
        "memoryRequest": step.memory_request_gb,
        "memoryLimit": step.memory_limit_gb,
    }
    if step.gpus:
        resources["accelerator"] = {"type": step.gpu_type, "count": str(step.gpus)}
    return resources


def _tasks(spec: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every task that has a container, with those inside components."""
    dags = [spec["root"], *spec["components"].values()]
    for dag in dags:
        for name, task in dag.get("dag", {}).get("tasks", {}).items():
            if "executorLabel" in spec["components"][task["componentRef"]["name"]]:
                yield name, task
