"""What a task is given: its parameters and artifacts, looked up where its spec says, as `ExecutorInput`."""

import json
import os
from typing import Any

from transform.errors import TandemError

Artifact = dict[str, Any]  # `RuntimeArtifact`: name, uri, metadata, and for an output its type


class Scope:
    """What the tasks of one graph can refer to.

    Attributes:
      parameters: of the graph itself.
      artifacts: task -> output -> artifact, filled as tasks end.
      outputs: task -> output parameter -> value, filled as tasks end.
      status: task -> `PipelineTaskFinalStatus` as a mapping, filled as tasks end.
    """

    def __init__(self, parameters: dict[str, Any]) -> None:
        self.parameters = parameters
        self.artifacts: dict[str, dict[str, Artifact]] = {}
        self.outputs: dict[str, dict[str, Any]] = {}
        self.status: dict[str, dict[str, Any]] = {}


def parameters_of(name: str, task: dict[str, Any], component: dict[str, Any], scope: Scope) -> dict[str, Any]:
    """Values of a task's parameters, of the types that its component declares.

    Raises:
      TandemError: a parameter has neither value nor default, or a value is of another type.
    """
    declared = component.get("inputDefinitions", {}).get("parameters", {})
    values: dict[str, Any] = {}
    for key, source in task.get("inputs", {}).get("parameters", {}).items():
        if "runtimeValue" in source:
            values[key] = source["runtimeValue"]["constant"]
        elif "componentInputParameter" in source:
            values[key] = scope.parameters[source["componentInputParameter"]]
        elif "taskFinalStatus" in source:
            values[key] = scope.status[source["taskFinalStatus"]["producerTask"]]
        else:
            output = source["taskOutputParameter"]
            values[key] = scope.outputs[output["producerTask"]][output["outputParameterKey"]]
    for key, spec in declared.items():
        if key not in values and "defaultValue" in spec:
            values[key] = spec["defaultValue"]
        if key not in values and not spec.get("isOptional"):
            raise TandemError(
                f"step {name!r} has no value for its parameter {key!r}; expected one in the file."
            )
        if key in values:
            values[key] = typed(f"{name}.{key}", values[key], spec["parameterType"])
    return values


def typed(what: str, value: Any, kind: str) -> Any:
    """A value as a parameter's type has it: whole numbers as int, anything where text is asked for as JSON.

    Args:
      what: named in the error.
      value: from the file, or the words of a command line.
      kind: `ParameterType`, such as NUMBER_INTEGER.

    Raises:
      TandemError: it cannot be had so.
    """
    if kind == "STRING":
        return value if isinstance(value, str) else json.dumps(value)
    try:
        found = json.loads(value) if isinstance(value, str) else value
        if kind == "NUMBER_INTEGER" and not isinstance(found, bool) and float(found).is_integer():
            return int(found)
        if kind == "NUMBER_DOUBLE" and not isinstance(found, bool):
            return float(found)
        if isinstance(found, {"BOOLEAN": bool, "LIST": list, "STRUCT": dict}.get(kind, ())):
            return found
    except (ValueError, TypeError):
        pass
    raise TandemError(f"parameter {what} received {value!r}, expected a value of type {kind}.")


def artifacts_of(task: dict[str, Any], scope: Scope) -> dict[str, Artifact]:
    """Input artifacts as the open-source backend gives them: name, uri and metadata, but no type."""
    found = {}
    for key, source in task.get("inputs", {}).get("artifacts", {}).items():
        output = source["taskOutputArtifact"]
        artifact = scope.artifacts[output["producerTask"]][output["outputArtifactKey"]]
        found[key] = {field: artifact[field] for field in ("name", "uri", "metadata")}
    return found


def executor_input(
    name: str,
    component: dict[str, Any],
    parameters: dict[str, Any],
    artifacts: dict[str, Artifact],
    directory: str,
) -> dict[str, Any]:
    """`ExecutorInput` as a mapping.

    Args:
      name: of the task.
      component: `ComponentSpec`.
      parameters: values by name.
      artifacts: input artifacts by name.
      directory: of this attempt: output artifacts, output parameters and the output file go below it.
    """
    declared = component.get("outputDefinitions", {})
    outputs = {
        key: {
            "name": f"{name}.{key}",
            "type": spec["artifactType"],
            "uri": os.path.join(directory, key),
            "metadata": spec.get("metadata", {}),
        }
        for key, spec in declared.get("artifacts", {}).items()
    }
    return {
        "inputs": {
            "parameterValues": parameters,
            "artifacts": {key: {"artifacts": [artifact]} for key, artifact in artifacts.items()},
        },
        "outputs": {
            "parameters": {
                key: {"outputFile": os.path.join(directory, "parameters", key)}
                for key in declared.get("parameters", {})
            },
            "artifacts": {key: {"artifacts": [artifact]} for key, artifact in outputs.items()},
            "outputFile": os.path.join(directory, "executor_output.json"),
        },
    }
