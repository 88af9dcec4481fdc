"""IndexValidator: loads the bundle in a fresh process, as a server does, and measures its index against exact search."""

import json
import os
import subprocess
import sys

from tfx.dsl.component.experimental.annotations import InputArtifact, OutputArtifact, Parameter
from tfx.dsl.component.experimental.decorators import component
from tfx.types import artifact_utils, standard_artifacts
from tfx.utils import path_utils

from transform.errors import TandemError

REPORT = "index.json"


@component
def IndexValidator(
    bundle: InputArtifact[standard_artifacts.Model],
    examples: InputArtifact[standard_artifacts.Examples],
    blessing: OutputArtifact[standard_artifacts.InfraBlessing],
    index: Parameter[str],
) -> None:
    """Blesses a bundle whose index keeps its recall and latency on held-out requests.

    Args:
      bundle: what CatalogIndexer wrote.
      examples: raw; rows of split eval are asked as queries.
      blessing: `<uri>/index.json` is the report; custom properties `blessed` (0 or 1) and `reason`.
      index: `IndexSettings` as JSON, with the bars.

    Raises:
      TandemError: the process that loads the bundle died.
    """
    os.makedirs(blessing.uri, exist_ok=True)
    report_file = os.path.join(blessing.uri, REPORT)
    command = [sys.executable, "-m", "serving.validate", path_utils.serving_model_path(bundle.uri)]
    command += ["--out", report_file, "--index", index]
    command += ["--examples", artifact_utils.get_split_uri([examples], "eval")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise TandemError(
            f"the process that loads the bundle ended with exit status {done.returncode}, expected a bundle that serves:"
            f" {' '.join(done.stderr.strip().splitlines()[-1:])}"
        )
    with open(report_file, encoding="utf-8") as file:
        problems = json.load(file)["problems"]
    blessing.set_int_custom_property("blessed", int(not problems))
    blessing.set_string_custom_property("reason", "; ".join(problems))
