"""The Trainer step where several workers train: puts its inputs where they see them, starts them, fetches the model."""

import hashlib
import json
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kubeflow.settings import ClusterSettings
from kubeflow.tf_job import named, run_to_end, tf_job
from transform.errors import TandemError
from transform.runtime import check_environment

if TYPE_CHECKING:
    from towers.job import Job

RUN_FN = "kubeflow.training_job.run_fn"
_JOB_FILE = "job.json"
_NAMESPACE_FILE = "/var/run/secrets/kubernetes.io/serviceaccount/namespace"


def hand_over(task: dict[str, Any], cluster: ClusterSettings) -> None:
    """Makes the Trainer task of a compiled pipeline start workers instead of training itself; in place."""
    parameters = task["inputs"]["parameters"]
    parameters["run_fn"]["runtimeValue"]["constant"] = RUN_FN
    value = parameters["custom_config"]["runtimeValue"]
    config = json.loads(value["constant"])
    config["tf_job"] = json.dumps(tf_job(cluster))
    config["staging"] = os.path.join(cluster.paths.runs, "training")
    value["constant"] = json.dumps(config)


def run_fn(fn_args: Any) -> None:
    """What TFX's Trainer calls in the step's container.

    Args:
      fn_args: `tfx.components.FnArgs`, as `towers.trainer.run_fn` takes them, with custom_config tf_job and staging.

    Raises:
      TandemError: bad settings, no cluster, or the job failed.
    """
    check_environment()
    from kubernetes import client, config

    try:
        config.load_incluster_config()
        namespace = Path(_NAMESPACE_FILE).read_text(encoding="utf-8").strip()
    except (config.ConfigException, OSError) as error:
        raise TandemError(
            f"workers train on Kubernetes, and this is no pod of it ({error});"
            " set workers to 1 in the cluster file to train here."
        ) from None
    train_on_workers(fn_args, client.CustomObjectsApi(), namespace)


def train_on_workers(fn_args: Any, api: Any, namespace: str, poll_seconds: float = 10.0) -> None:
    """Trains by a TFJob.

    What the step's container alone sees (copies of artifacts) is copied to the shared volume, and the model back from it.
    A step that is tried again finds the same job, by where its model goes.

    Args:
      fn_args: see `run_fn`.
      api: `kubernetes.client.CustomObjectsApi`.
      namespace: of the job.
      poll_seconds: between two looks at the job.

    Raises:
      TandemError: the job could not be started, or failed; what it wrote stays for the next attempt.
    """
    from towers.job import parse_job
    from towers.worker import write_job

    job = parse_job(fn_args)
    name = f"tandem-{hashlib.sha256(job.serving_dir.encode()).hexdigest()[:16]}"
    stage = Path(fn_args.custom_config["staging"]) / name
    if not (stage / _JOB_FILE).exists():
        shutil.rmtree(stage, ignore_errors=True)
        write_job(stage / _JOB_FILE, _staged(job, stage))
    manifest = named(json.loads(fn_args.custom_config["tf_job"]), name, str(stage / _JOB_FILE))
    run_to_end(api, namespace, manifest, poll_seconds)
    shutil.copytree(stage / "model", os.path.dirname(job.serving_dir.rstrip("/")), dirs_exist_ok=True)
    if job.log_dir:
        shutil.copytree(stage / "logs", job.log_dir, dirs_exist_ok=True)
    shutil.rmtree(stage)


def _staged(job: "Job", stage: Path) -> "Job":
    """Copies what the job reads below `stage`, and places there what it writes."""

    def copied(directory: str, name: str) -> str:
        shutil.copytree(directory, stage / "inputs" / name)
        return str(stage / "inputs" / name)

    def files(patterns: list[str], name: str) -> list[str]:
        return [
            os.path.join(copied(os.path.dirname(pattern), f"{name}-{n}"), os.path.basename(pattern))
            for n, pattern in enumerate(patterns)
        ]

    return job._replace(
        train_files=files(job.train_files, "train"),
        eval_files=files(job.eval_files, "eval"),
        item_files=files(job.item_files, "items"),
        history_files=files(list(job.history_files), "histories"),
        transform_graph=copied(job.transform_graph, "transform_graph"),
        previous_state=copied(job.previous_state, "previous_state") if job.previous_state else None,
        serving_dir=str(stage / "model" / os.path.basename(job.serving_dir.rstrip("/"))),
        state_dir=str(stage / "model" / os.path.basename(job.state_dir)),
        log_dir=str(stage / "logs") if job.log_dir else None,
        checkpoint_dir=str(stage / "checkpoints"),
    )
