"""PreviousPush: finds the push that this run starts from and keeps a verified copy of it as an artifact."""

import json
import os
import shutil
from typing import Any

from tfx.dsl.component.experimental.annotations import OutputArtifact, Parameter
from tfx.dsl.component.experimental.decorators import component
from tfx.types import standard_artifacts
from tfx.utils import path_utils

from pipeline.due import cannot_go_on
from serving import bundle as bundles
from serving.write_bundle import BASELINE
from transform.baseline import read_baseline
from transform.span_counts import to_json

RECORD = "previous_push.json"


@component
def PreviousPush(
    push: OutputArtifact[standard_artifacts.Model],
    push_dir: Parameter[str],
    version: Parameter[int] = -1,
) -> None:
    """Copies the previous push into `push`, or writes the record of a bootstrap.

    The copy makes the artifact complete in itself: a rollback or a clean-up of the push directory in the
    middle of a run changes nothing.

    Args:
      push: `<uri>/Format-Serving` is the bundle (absent at bootstrap); `<uri>/previous_push.json` holds
        version, spans, the counts of spans, and trained_until.
      push_dir: the directory of versions.
      version: the version to start from; 0 means none (bootstrap), -1 the newest when the component runs.

    Raises:
      TandemError: the previous push, or the training state in it, is missing or damaged.
    """
    if version == -1:
        version = bundles.newest_version(push_dir)
    record: dict[str, Any] = {"version": None, "trained_until": None, "spans": [], "span_counts": {}}
    if version:
        source = os.path.join(push_dir, str(version))
        manifest = _verified(source)
        copy = path_utils.serving_model_dir(push.uri)
        shutil.copytree(source, copy, dirs_exist_ok=True)
        record = {
            "version": version,
            "trained_until": manifest.trained_until,
            "spans": list(manifest.spans),
            "span_counts": to_json(read_baseline(os.path.join(copy, BASELINE)).spans),
        }
    push.set_int_custom_property("version", version)
    os.makedirs(push.uri, exist_ok=True)
    with open(os.path.join(push.uri, RECORD), "w", encoding="utf-8") as file:
        json.dump(record, file)


def _verified(source: str) -> bundles.Manifest:
    try:
        manifest = bundles.verify_bundle(source)
    except bundles.BundleError as error:
        raise cannot_go_on(str(error)) from error
    if manifest.training_state is None:
        raise cannot_go_on(f"{source} holds no training state")
    return manifest
