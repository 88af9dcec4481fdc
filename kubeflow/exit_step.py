"""ReportOutcome: the exit step, which says how the run ended whether it succeeded or not."""

import json
import logging
from typing import Any

from tfx.dsl.component.experimental.annotations import Parameter
from tfx.orchestration.kubeflow.decorators import exit_handler

# What backends call success: Kubeflow Pipelines on a cluster of one's own, and Vertex AI.
SUCCESS = ("COMPLETE", "SUCCEEDED", "CACHED")


def outcome(final_status: str) -> str:
    """One line about a run.

    Args:
      final_status: `PipelineTaskFinalStatus` as JSON: `state`, `pipelineJobResourceName`, `error.message`.

    Returns:
      "run tandem-x7f2 succeeded", or "run tandem-x7f2 ended as FAILED: Trainer failed".
    """
    status: dict[str, Any] = json.loads(final_status)
    run = status.get("pipelineJobResourceName", "").split("/")[-1] or "of unknown name"
    state = status.get("state", "") or "STATE_UNSPECIFIED"
    if state in SUCCESS:
        return f"run {run} succeeded"
    reason = status.get("error", {}).get("message") or "the step in red in the run's graph has the reason"
    return f"run {run} ended as {state}: {reason}"


@exit_handler
def ReportOutcome(final_status: Parameter[str]) -> None:
    """Logs how the run ended: an error line that alerts can match on, or an information line.

    Args:
      final_status: `PipelineTaskFinalStatus` as JSON, given by Kubeflow.
    """
    line = outcome(final_status)
    logging.getLogger("tandem.kubeflow").log(
        logging.INFO if line.endswith("succeeded") else logging.ERROR, line
    )
