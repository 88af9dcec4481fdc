"""A compiled pipeline file, read and put into the order of its steps."""

from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Any

import yaml

from transform.errors import TandemError


def read_spec(file: str | Path) -> dict[str, Any]:
    """Reads the pipeline spec, the first document of a pipeline file.

    Returns:
      `PipelineSpec` as a mapping, with at least `pipelineInfo`, `root`, `components` and `deploymentSpec`.

    Raises:
      TandemError: the file is missing or no pipeline spec of schema 2.1.
    """
    path = Path(file)
    if not path.is_file():
        raise TandemError(
            f"pipeline file {str(path)!r} does not exist; make it with 'tandem kubeflow compile --out {path}'."
        )
    try:
        spec: Any = next(iter(yaml.safe_load_all(path.read_text(encoding="utf-8"))), None)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise TandemError(
            f"pipeline file {str(path)!r} is not valid YAML: {' '.join(str(error).split())}"
        ) from error
    wanted = ("pipelineInfo", "root", "components", "deploymentSpec")
    missing = [key for key in wanted if not isinstance(spec, dict) or key not in spec]
    if missing:
        raise TandemError(
            f"pipeline file {str(path)!r} has no {', '.join(missing)}; expected what 'tandem kubeflow compile' writes."
        )
    return {**spec}


def in_order(dag: dict[str, Any]) -> list[str]:
    """Names of a graph's tasks, each after those whose outputs it takes and those it has to wait for.

    Among tasks that are ready at the same time, by name.

    Args:
      dag: `DagSpec` as a mapping.

    Raises:
      TandemError: a task waits for one that is not there, or tasks wait for each other.
    """
    tasks = dag["tasks"]
    sorter = TopologicalSorter({name: upstream(task) for name, task in tasks.items()})
    for name, task in tasks.items():
        for other in upstream(task) - set(tasks):
            raise TandemError(
                f"step {name!r} waits for {other!r}, which is not in the pipeline; expected one of"
                f" {', '.join(sorted(tasks))}: compile the pipeline again."
            )
    try:
        sorter.prepare()
    except CycleError as error:
        circle = " -> ".join(error.args[1])
        raise TandemError(
            f"steps wait for each other: {circle}; expected no circle in the pipeline."
        ) from None
    order: list[str] = []
    while sorter.is_active():
        ready = sorted(sorter.get_ready())
        order += ready
        sorter.done(*ready)
    return order


def upstream(task: dict[str, Any]) -> set[str]:
    """Names of the tasks that a task waits for."""
    inputs = task.get("inputs", {})
    producers = {
        source[kind]["producerTask"]
        for source in [*inputs.get("artifacts", {}).values(), *inputs.get("parameters", {}).values()]
        for kind in ("taskOutputArtifact", "taskOutputParameter", "taskFinalStatus")
        if kind in source
    }
    return producers | set(task.get("dependentTasks", ()))
