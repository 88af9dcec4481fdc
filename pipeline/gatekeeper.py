"""Gatekeeper: blesses or refuses a candidate by the declared gates, against the previous push on the same requests."""

import os

from pydantic import TypeAdapter
from tfx.dsl.component.experimental.annotations import InputArtifact, OutputArtifact, Parameter
from tfx.dsl.component.experimental.decorators import component
from tfx.types import artifact_utils, standard_artifacts
from tfx.utils import path_utils

from pipeline.gate_report import GateReport, view_means, write_report
from pipeline.gates import judge, refusals
from pipeline.held_out import read_requests, read_slices, score_requests
from pipeline.settings import Gate


@component
def Gatekeeper(
    bundle: InputArtifact[standard_artifacts.Model],
    previous_push: InputArtifact[standard_artifacts.Model],
    examples: InputArtifact[standard_artifacts.Examples],
    blessing: OutputArtifact[standard_artifacts.ModelBlessing],
    gates: Parameter[str],
) -> None:
    """Scores every held-out request with both bundles, once, and holds the scores against the gates.

    Args:
      bundle: what CatalogIndexer wrote.
      previous_push: the bundle it must not fall behind, or a record that there is none (bootstrap).
      examples: raw; split eval is what both are judged on.
      blessing: custom property `blessed` (0 or 1); `<uri>/gates.json` is a `GateReport`, `<uri>/gates.txt` its table.
      gates: a list of `Gate` as JSON.
    """
    requests = read_requests(artifact_utils.get_split_uri([examples], "eval"))
    slices = read_slices(requests)
    candidate = score_requests(path_utils.serving_model_path(bundle.uri), requests)
    previous_dir = path_utils.serving_model_dir(previous_push.uri)
    previous = score_requests(previous_dir, requests) if os.path.isdir(previous_dir) else None
    judgements = judge(TypeAdapter(list[Gate]).validate_json(gates), slices, candidate, previous)
    report = GateReport(
        first_run=previous is None,
        refusals=refusals(judgements),
        judgements=judgements,
        views=view_means(slices, candidate, previous),
    )
    write_report(blessing.uri, report)
    blessing.set_int_custom_property("blessed", int(not report.refusals))
