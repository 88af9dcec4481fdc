"""The graph of `tandem run` as a file for Kubeflow Pipelines (pipeline spec 2.1)."""

import os
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from kubeflow.beam_workers import check_beam_workers
from kubeflow.deployment import deploy, kubernetes_of
from kubeflow.run_step import CARRIED_FILE
from kubeflow.runtime_parameters import expose
from kubeflow.settings import ClusterSettings
from pipeline.settings import Settings
from transform.errors import TandemError

COMMAND = ("python", "-m", "kubeflow.run_step")
SCHEMA_FILE = "curated_schema.pbtxt"  # in the step's working directory
RUNTIME_PARAMETERS = ("span", "push_dir")


class CompiledPipeline(NamedTuple):
    """The two documents of a pipeline file.

    Attributes:
      spec: `PipelineSpec` as a mapping: tasks, components, containers.
      platform: `PlatformSpec` as a mapping: the volumes and secrets that Kubernetes gives each container.
    """

    spec: dict[str, Any]
    platform: dict[str, Any]


def compile_pipeline(settings: Settings, cluster: ClusterSettings) -> CompiledPipeline:
    """Compiles what `pipeline.graph.create_pipeline` makes, with an exit step after it.

    Args:
      settings: the profile; the paths of `cluster` are put over its own.
      cluster: what each step gets.

    Raises:
      TandemError: `cluster.steps` names no component of the graph, or the profile's Beam workers would be outside the
        steps.
    """
    check_beam_workers(settings.beam_args)
    from tfx.orchestration.kubeflow.decorators import FinalStatusStr
    from tfx.orchestration.kubeflow.v2.kubeflow_v2_dag_runner import (
        KubeflowV2DagRunner,
        KubeflowV2DagRunnerConfig,
    )

    from kubeflow.exit_step import ReportOutcome
    from pipeline.graph import create_pipeline

    settings = on_cluster(settings, cluster)
    runner = KubeflowV2DagRunner(
        KubeflowV2DagRunnerConfig(
            default_image=cluster.image, default_commands=list(COMMAND), use_pipeline_spec_2_1=True
        )
    )
    runner.set_exit_handler(ReportOutcome(final_status=FinalStatusStr()))
    pipeline = create_pipeline(settings, schema_file=SCHEMA_FILE)
    spec = runner.run(pipeline, write_out=False)["pipelineSpec"]
    if cluster.pipeline_root:
        spec["defaultPipelineRoot"] = cluster.pipeline_root
    _carry_schema(spec, settings)
    expose(spec, RUNTIME_PARAMETERS)
    deploy(spec, cluster)
    _check(spec)
    return CompiledPipeline(spec, kubernetes_of(spec, cluster))


def on_cluster(settings: Settings, cluster: ClusterSettings) -> Settings:
    """The profile with the cluster's paths in place of its own."""
    paths = settings.paths.model_copy(
        update={"push_dir": cluster.paths.push_dir, "pipeline_root": cluster.paths.runs}
    )
    return settings.model_copy(
        update={
            "paths": paths,
            "data": settings.data.model_copy(update={"dataset": cluster.paths.dataset}),
            "encoder": settings.encoder.model_copy(update={"preset": cluster.paths.encoder}),
        }
    )


def write_pipeline(compiled: CompiledPipeline, file: str | Path) -> None:
    """Writes both documents as YAML; the file is there whole or not at all.

    Raises:
      TandemError: the file's name does not end in .yaml, or it cannot be written.
    """
    path = Path(file)
    if path.suffix not in (".yaml", ".yml"):
        raise TandemError(f"pipeline file {str(path)!r} has to end in .yaml: that is what Kubeflow reads.")
    text = yaml.dump_all(list(compiled), Dumper=_Dumper, sort_keys=True, width=110)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f".{path.name}.{os.getpid()}")
        partial.write_text(text, encoding="utf-8")
        partial.replace(path)
    except OSError as error:
        raise TandemError(
            f"pipeline file {str(path)!r} cannot be written ({error.strerror}); expected a writable directory."
        ) from error


def _carry_schema(spec: dict[str, Any], settings: Settings) -> None:
    """Puts the curated schema into the arguments of the step that imports it, so that no shared file has to be there."""
    from google.protobuf import text_format

    from transform.schema import curated_schema

    text = text_format.MessageToString(curated_schema(settings.features, settings.bad_days))
    for component in spec["components"].values():
        if "schema_file" in component.get("inputDefinitions", {}).get("parameters", {}):
            container = spec["deploymentSpec"]["executors"][component["executorLabel"]]["container"]
            container["args"] += [CARRIED_FILE, SCHEMA_FILE, text]


def _check(spec: dict[str, Any]) -> None:
    """Reads the result as the messages that Kubeflow reads it as: an unknown field or type raises."""
    from google.protobuf import json_format
    from kfp.pipeline_spec import pipeline_spec_pb2

    json_format.ParseDict(spec, pipeline_spec_pb2.PipelineSpec())
    json_format.ParseDict(spec["deploymentSpec"], pipeline_spec_pb2.PipelineDeploymentConfig())


class _Dumper(yaml.SafeDumper):
    """Shows text of several lines as such, so that a change in it is a change of its lines."""


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.Node:
    style = "|" if "\n" in text else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _text)
_Dumper.ignore_aliases = lambda self, data: True  # type: ignore[assignment,method-assign]
