"""Outputs of earlier runs, found by what went into them."""

import hashlib
import json
import os
from typing import Any

from kubeflow.container_process import Outputs


class StepCache:
    """Remembers the outputs of steps in a directory, one file a step and input."""

    def __init__(self, directory: str) -> None:
        """Uses `directory`, which is made when something is put into it."""
        self._directory = directory

    def get(self, key: str) -> Outputs | None:
        """Outputs that were put under the key; None where there are none, or their files have gone since."""
        try:
            with open(self._file(key), encoding="utf-8") as file:
                outputs = Outputs(**json.load(file))
        except FileNotFoundError:
            return None
        there = all(os.path.exists(artifact["uri"]) for artifact in outputs.artifacts.values())
        return outputs if there else None

    def put(self, key: str, outputs: Outputs) -> None:
        """Remembers the outputs of a step that succeeded."""
        os.makedirs(self._directory, exist_ok=True)
        partial = f"{self._file(key)}.{os.getpid()}"
        with open(partial, "w", encoding="utf-8") as file:
            json.dump(outputs._asdict(), file)
        os.replace(partial, self._file(key))

    def _file(self, key: str) -> str:
        return os.path.join(self._directory, f"{key}.json")


def cache_key(
    container: dict[str, Any],
    component: dict[str, Any],
    parameters: dict[str, Any],
    artifacts: dict[str, Any],
) -> str:
    """What must be the same for outputs to be used again: image, command, arguments, inputs and declared outputs.

    An artifact stands for its content by its URI: every attempt writes to a directory of its own.
    """
    known = {
        "container": {key: container.get(key) for key in ("image", "command", "args")},
        "parameters": parameters,
        "artifacts": {key: artifact["uri"] for key, artifact in artifacts.items()},
        "outputs": component.get("outputDefinitions", {}),
    }
    return hashlib.sha256(json.dumps(known, sort_keys=True).encode()).hexdigest()
