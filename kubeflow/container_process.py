"""A container's command as a process of this machine."""

import json
import os
import shutil
import subprocess
import sys
import zlib
from pathlib import Path
from typing import Any, NamedTuple

from kubeflow.placeholders import fill
from transform.errors import TandemError

# A step does not go on, and perhaps push, when the run that started it is killed. A program of its own says so to the
# kernel, since a function of this one would be called after a fork, which gRPC's threads may not survive.
_END_WITH_PARENT = """import ctypes, os, signal, sys
_PR_SET_PDEATHSIG = 1  # of linux/prctl.h
ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
os.execv(sys.argv[1], sys.argv[2:])
"""
_CHECKOUT = str(Path(__file__).parents[1])


class Outputs(NamedTuple):
    """What a step left behind.

    Attributes:
      artifacts: output -> `RuntimeArtifact` as a mapping.
      parameters: output -> value.
    """

    artifacts: dict[str, dict[str, Any]]
    parameters: dict[str, Any]


def run_container(container: dict[str, Any], executor_input: dict[str, Any], directory: str) -> int:
    """Runs command and arguments once, in `directory`; what they print goes to `directory`/log.txt.

    The image is this process's own environment: its Python comes first on the path, and Tandem can be imported.

    Args:
      container: `PipelineContainerSpec` as a mapping.
      executor_input: `ExecutorInput` as a mapping; its output directories are made.
      directory: made here.

    Returns:
      The exit status.

    Raises:
      TandemError: the command does not exist.
    """
    words = fill([*container.get("command", ()), *container.get("args", ())], executor_input)
    outputs = executor_input["outputs"]
    for found in outputs["artifacts"].values():
        os.makedirs(os.path.dirname(found["artifacts"][0]["uri"]), exist_ok=True)
    os.makedirs(os.path.join(directory, "parameters"), exist_ok=True)
    environment = dict(os.environ)
    environment["PATH"] = os.pathsep.join([os.path.dirname(sys.executable), os.environ.get("PATH", "")])
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, [_CHECKOUT, os.environ.get("PYTHONPATH")]))
    environment |= {variable["name"]: variable["value"] for variable in container.get("env", ())}
    command = shutil.which(words[0], path=environment["PATH"]) if words else None
    if command is None:
        raise TandemError(
            f"command {words[:1]} cannot be started (there is no such program); expected a command of this machine."
        )
    with open(os.path.join(directory, "log.txt"), "wb") as log:
        return subprocess.run(
            [sys.executable, "-S", "-c", _END_WITH_PARENT, command, *words],
            cwd=directory,
            env=environment,
            stdout=log,
            stderr=subprocess.STDOUT,
            check=False,
        ).returncode


def read_outputs(executor_input: dict[str, Any]) -> Outputs:
    """Outputs as the launcher collects them: what was planned, with what the output file says put over it.

    Raises:
      TandemError: an output parameter was not written.
    """
    outputs = executor_input["outputs"]
    reported: dict[str, Any] = {}
    if os.path.isfile(outputs["outputFile"]):
        with open(outputs["outputFile"], encoding="utf-8") as file:
            reported = json.load(file)
    artifacts = {}
    for key, found in outputs["artifacts"].items():
        planned = found["artifacts"][0]
        said = reported.get("artifacts", {}).get(key, {}).get("artifacts", [{}])[0]
        metadata = {"display_name": key} | planned["metadata"] | said.get("metadata", {})
        uri = said.get("uri") or planned["uri"]
        # The metadata store names artifacts by number.
        artifacts[key] = {**planned, "name": str(zlib.crc32(uri.encode())), "uri": uri, "metadata": metadata}
    parameters = dict(reported.get("parameterValues", {}))
    for key, planned in outputs["parameters"].items():
        if key in parameters:
            continue
        try:
            with open(planned["outputFile"], encoding="utf-8") as file:
                parameters[key] = file.read()
        except FileNotFoundError:
            raise TandemError(f"output parameter {key!r} was not written; expected it in a file.") from None
    return Outputs(artifacts, parameters)


def last_line(directory: str) -> str:
    """The last line that says something in an attempt's log; Tandem's own errors come first."""
    with open(os.path.join(directory, "log.txt"), encoding="utf-8", errors="replace") as log:
        lines = [line.strip() for line in log if line.strip()]
    own = [line for line in lines if line.startswith("tandem: ")]
    return (own or lines or ["no message"])[-1].removeprefix("tandem: ")
