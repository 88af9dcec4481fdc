"""What a step's container starts: TFX's executor on local directories, with errors of one line.

    python -m kubeflow.run_step --executor_class_path C --json_serialized_invocation_args JSON
        --json_serialized_inputs_spec_args JSON [--carried_file PATH TEXT]

Further arguments are TFX's own and Beam's. `--carried_file` writes a file before the step runs: what a step needs beside
its artifacts travels in the pipeline file.
"""

import argparse
import json
import logging
import os
import sys
from collections.abc import Sequence
from typing import Any

from kubeflow.artifact_paths import localised, with_bucket_uris
from transform.errors import TandemError
from transform.runtime import prepare_environment

CARRIED_FILE = "--carried_file"
_INVOCATION = "--json_serialized_invocation_args"
_INPUTS_SPEC = "--json_serialized_inputs_spec_args"


def main(arguments: Sequence[str]) -> int:
    """Runs one executor.

    Args:
      arguments: the words after `python -m kubeflow.run_step`.

    Returns:
      0 done, 2 something the user can mend, in one line on stderr. Any other error is raised as it is.
    """
    prepare_environment()
    parser = argparse.ArgumentParser(prog="python -m kubeflow.run_step", allow_abbrev=False)
    parser.add_argument(CARRIED_FILE, nargs=2, action="append", default=[], metavar=("PATH", "TEXT"))
    parser.add_argument(_INVOCATION, required=True, metavar="JSON")
    parser.add_argument(_INPUTS_SPEC, required=True, metavar="JSON")
    parser.add_argument("--executor_class_path", required=True, metavar="CLASS")
    options, rest = parser.parse_known_args(arguments)
    for path, text in options.carried_file:
        os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
    given = _with_types(
        json.loads(options.json_serialized_invocation_args), options.json_serialized_inputs_spec_args
    )
    executor_input, uri_of = localised(given)
    rest += [_INPUTS_SPEC, options.json_serialized_inputs_spec_args]
    try:
        _run_executor(options.executor_class_path, json.dumps(executor_input), rest)
    except Exception as error:
        mendable = _tandem_error(error)
        if mendable is None:
            raise
        step = options.executor_class_path.split(".")[-1].removesuffix("_Executor")
        print(f"tandem: {step} stopped the run: {mendable}", file=sys.stderr)
        return 2
    output_file = executor_input["outputs"]["outputFile"]
    with open(output_file, encoding="utf-8") as file:
        executor_output = json.load(file)
    with open(output_file, "w", encoding="utf-8") as file:
        json.dump(with_bucket_uris(executor_output, uri_of), file)
    return 0


def _with_types(executor_input: dict[str, Any], inputs_spec: str) -> dict[str, Any]:
    """Kubeflow Pipelines, other than Vertex AI, leaves the type of an input artifact out, and TFX fails without it."""
    specs = json.loads(inputs_spec).get("artifacts", {})
    for name, found in executor_input.get("inputs", {}).get("artifacts", {}).items():
        for artifact in found.get("artifacts", []):
            if not artifact.get("type"):
                artifact["type"] = specs[name]["artifactType"]
    return executor_input


def _run_executor(executor: str, executor_input: str, rest: list[str]) -> None:
    from tfx.orchestration.kubeflow.v2.container import kubeflow_v2_run_executor as tfx_entry

    words = ["run_step", "--executor_class_path", executor, _INVOCATION, executor_input, *rest]
    tfx_entry.main(tfx_entry._parse_flags(words))


def _tandem_error(error: BaseException | None) -> str | None:
    """What the TandemError says that TFX and Beam have wrapped, None where there is none."""
    while error is not None:
        if isinstance(error, TandemError):
            return str(error).split(" [while running")[0]
        error = error.__cause__ or error.__context__
    return None


def _show_progress() -> None:
    """What Tandem's own loggers say goes to the container's log, beside TFX's lines."""
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(levelname)s %(name)s: %(message)s"))
    logger = logging.getLogger("tandem")
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False


if __name__ == "__main__":
    _show_progress()
    sys.exit(main(sys.argv[1:]))
