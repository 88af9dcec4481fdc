"""The placeholders of a container's command: what Kubeflow's launcher puts in their place."""

import json
import re
from typing import Any

from kubeflow.artifact_paths import local_path
from transform.errors import TandemError

_PLACEHOLDER = re.compile(r"\{\{\$.*?\}\}", re.DOTALL)


def fill(words: list[str], executor_input: dict[str, Any]) -> list[str]:
    """Puts values in the place of placeholders.

    ["--in={{$.inputs.parameters['span']}}", "{{$}}"] -> ["--in=2", '{"inputs": ...}']

    Args:
      words: command or arguments.
      executor_input: `ExecutorInput` as a mapping.

    Raises:
      TandemError: a placeholder is unknown, or names an input or output that the step does not have.
    """
    values = _values(executor_input)

    def value(match: re.Match[str]) -> str:
        if match[0] not in values:
            known = ", ".join(sorted(values))
            raise TandemError(
                f"placeholder {match[0]} has no value in this step; expected one of {known}: compile the pipeline again."
            )
        return values[match[0]]

    return [_PLACEHOLDER.sub(value, word) for word in words]


def _values(executor_input: dict[str, Any]) -> dict[str, str]:
    values = {"{{$}}": json.dumps(executor_input)}
    for name, value in executor_input["inputs"].get("parameterValues", {}).items():
        values[f"{{{{$.inputs.parameters['{name}']}}}}"] = (
            value if isinstance(value, str) else json.dumps(value)
        )
    for side in ("inputs", "outputs"):
        for name, found in executor_input[side].get("artifacts", {}).items():
            uri = found["artifacts"][0]["uri"]
            values[f"{{{{$.{side}.artifacts['{name}'].uri}}}}"] = uri
            values[f"{{{{$.{side}.artifacts['{name}'].path}}}}"] = local_path(uri)
    for name, parameter in executor_input["outputs"].get("parameters", {}).items():
        values[f"{{{{$.outputs.parameters['{name}'].output_file}}}}"] = parameter["outputFile"]
    values["{{$.outputs.output_file}}"] = executor_input["outputs"]["outputFile"]
    return values
