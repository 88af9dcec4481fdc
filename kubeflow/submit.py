"""A compiled pipeline on a cluster: its version, and a run of it."""

import hashlib
import json
from pathlib import Path
from typing import Any, NamedTuple

from kubeflow.compiled_file import read_spec
from kubeflow.run_compiled import run_parameters
from transform.errors import TandemError

_GOING_ON = ("PENDING", "RUNNING", "PAUSED", "RUNTIME_STATE_UNSPECIFIED")


class Version(NamedTuple):
    """A pipeline file as the cluster knows it.

    Attributes:
      name: of the pipeline, which is its experiment's too.
      pipeline_id: of the pipeline.
      version_id: of the version that holds this very file.
      version_name: the pipeline's name and a hash of the file.
      new: whether it was uploaded now.
    """

    name: str
    pipeline_id: str
    version_id: str
    version_name: str
    new: bool


class Submitted(NamedTuple):
    """A run on the cluster.

    Attributes:
      version: what it runs.
      run_id: of the run.
      new: False where the same run was under way already.
    """

    version: Version
    run_id: str
    new: bool


def upload(client: Any, file: str | Path, namespace: str | None = None) -> Version:
    """Makes sure that the cluster has this file as a version of its pipeline; a file that it has is not sent again.

    Args:
      client: a `kfp.Client`.
      file: what `tandem kubeflow compile` wrote.
      namespace: of the pipeline, where users have their own.

    Raises:
      TandemError: several pipelines of the cluster have this one's name.
    """
    import kfp_server_api

    name = read_spec(file)["pipelineInfo"]["name"]
    version_name = f"{name}-{hashlib.sha256(Path(file).read_bytes()).hexdigest()[:12]}"
    try:
        pipeline_id = client.get_pipeline_id(name)
    except ValueError as error:
        raise TandemError(
            f"the cluster has several pipelines named {name!r}; expected one: delete the others, or change the profile's name."
        ) from error
    if pipeline_id is None:
        body = kfp_server_api.V2beta1Pipeline(display_name=name, namespace=namespace)
        pipeline_id = client._pipelines_api.create_pipeline(body).pipeline_id
    same = client.list_pipeline_versions(pipeline_id, filter=named(version_name)).pipeline_versions or []
    if same:
        return Version(name, pipeline_id, same[0].pipeline_version_id, version_name, False)
    made = client.upload_pipeline_version(str(file), version_name, pipeline_id=pipeline_id)
    return Version(name, pipeline_id, made.pipeline_version_id, version_name, True)


def submit(
    client: Any, file: str | Path, parameters: dict[str, str] | None = None, namespace: str | None = None
) -> Submitted:
    """Starts a run of the file, unless the same run is under way.

    Args:
      client: a `kfp.Client`.
      file: what `tandem kubeflow compile` wrote.
      parameters: the pipeline's parameters as words of the command line; others keep their defaults.
      namespace: of the run, where users have their own.

    Raises:
      TandemError: a parameter is not one of the pipeline's, or of another type.
    """
    values = run_parameters(read_spec(file), parameters or {})
    version = upload(client, file, namespace)
    experiment = client.create_experiment(version.name, namespace=namespace).experiment_id
    words = " ".join(f"{key}={value}" for key, value in sorted(values.items()))
    run_name = f"{version.version_name} {words}".strip()
    for run in client.list_runs(experiment_id=experiment, page_size=100, filter=named(run_name)).runs or []:
        if (run.state or _GOING_ON[-1]) in _GOING_ON:
            return Submitted(version, run.run_id, False)
    made = client.run_pipeline(
        experiment, run_name, params=values, pipeline_id=version.pipeline_id, version_id=version.version_id
    )
    return Submitted(version, made.run_id, True)


def named(name: str) -> str:
    """The API's filter for things of a name."""
    return json.dumps({"predicates": [{"operation": "EQUALS", "key": "display_name", "stringValue": name}]})
