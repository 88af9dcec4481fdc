"""What a run did, read back from ML Metadata: component, seconds, what came out."""

import json
import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

from ml_metadata.proto import metadata_store_pb2
from tfx.orchestration import metadata

from pipeline import evaluator, example_validator, gate_report, previous_push, pusher
from serving.metrics import METRICS

Uris = dict[str, str]
mlmd: Any = metadata_store_pb2
Execution: TypeAlias = Any  # metadata_store_pb2.Execution


class Row(NamedTuple):
    """One component of a run."""

    component: str
    seconds: float
    cached: bool
    outcome: str


def run_report(metadata_path: str, run_id: str) -> list[Row]:
    """Lists the executions of a run in order.

    Args:
      metadata_path: the SQLite file.
      run_id: name of the `pipeline_run` context.
    """
    rows = []
    for node, execution, uris in _executions(metadata_path, run_id):
        cached = execution.last_known_state == mlmd.Execution.CACHED
        milliseconds = execution.last_update_time_since_epoch - execution.create_time_since_epoch
        rows.append(Row(node, milliseconds / 1000, cached, _outcome(node, uris)))
    return rows


def output_uris(metadata_path: str, run_id: str) -> dict[str, Uris]:
    """Component -> output name -> artifact directory, of a run."""
    return {node: uris for node, _, uris in _executions(metadata_path, run_id)}


def _executions(metadata_path: str, run_id: str) -> list[tuple[str, Execution, Uris]]:
    config = metadata.sqlite_metadata_connection_config(metadata_path)
    with metadata.Metadata(config) as handle:
        store = handle.store
        context = store.get_context_by_type_and_name("pipeline_run", run_id)
        executions = store.get_executions_by_context(context.id) if context else []
        return [
            (_node_of(store, execution), execution, _uris_of(store, execution))
            for execution in sorted(executions, key=lambda e: e.id)
        ]


def _node_of(store: Any, execution: Execution) -> str:
    contexts = store.get_contexts_by_execution(execution.id)
    return next(c.name.rsplit(".", 1)[-1] for c in contexts if c.type == "node")


def _uris_of(store: Any, execution: Execution) -> Uris:
    events = [e for e in store.get_events_by_execution_ids([execution.id]) if e.type == mlmd.Event.OUTPUT]
    uri_of = {a.id: a.uri for a in store.get_artifacts_by_id([e.artifact_id for e in events])}
    return {e.path.steps[0].key: uri_of[e.artifact_id] for e in events}


def _outcome(node: str, uris: Uris) -> str:
    describe = _OUTCOMES.get(node)
    return describe(uris) if describe and uris else ""


def _load(*parts: str) -> dict:
    with open(os.path.join(*parts), encoding="utf-8") as file:
        return json.load(file)


def _previous_push(uris: Uris) -> str:
    version = _load(uris["push"], previous_push.RECORD)["version"]
    return f"starts from version {version}" if version else "no push yet: bootstrap"


def _interactions(uris: Uris) -> str:
    meta = _load(uris["examples"], "interactions.json")
    counts = meta["counts"]
    return (
        f"spans {meta['span_first']}-{meta['span_last']}: {counts['train_targets']:,} targets in"
        f" {counts['train_rows']:,} requests, {counts['eval_rows']:,} held-out rows, {counts['items']:,} items,"
        f" {sum(counts['rejected'].values()):,} rows rejected"
    )


def _transform(uris: Uris) -> str:
    assets = Path(uris["transform_graph"], "transform_fn", "assets")
    files = sorted(path for path in assets.iterdir() if path.name != "item_id_counts")
    return "vocabularies: " + ", ".join(f"{path.name} {path.read_bytes().count(10):,}" for path in files)


def _trainer(uris: Uris) -> str:
    summary = _load(uris["model"], "training_summary.json")
    start = "warm start" if summary["warm_start"] else "from scratch"
    return (
        f"{start}, {summary['steps']:,} steps, {summary['pairs_per_second']:,.0f} pairs/s,"
        f" loss {summary['loss']:.3f}, {summary['precision']}"
    )


def _bundle(uris: Uris) -> str:
    manifest = _load(uris["bundle"], "Format-Serving", "assets.extra", "manifest.json")
    return f"{manifest['item_count']:,} items x {manifest['dimension']}"


def _evaluation(uris: Uris) -> str:
    overall = evaluator.slice_metrics(uris["evaluation"]).get("view:all", {})
    return ", ".join(f"{name} {overall[name]:.4f}" for name in METRICS if name in overall)


def _gates(uris: Uris) -> str:
    report = gate_report.read_report(uris["blessing"])
    outcomes = Counter(judgement.outcome for judgement in report.judgements)
    return "bars: " + ", ".join(f"{number} {outcome}" for outcome, number in outcomes.items())


def _index(uris: Uris) -> str:
    report = _load(uris["blessing"], "index.json")
    return f"ScaNN recall@{report['k']} {report['recall']:.4f} against exact, p99 {report['p99_ms']:.2f} ms"


def _pushed(uris: Uris) -> str:
    report = _load(uris["pushed"], pusher.REPORT)
    return (
        "REFUSED: " + "; ".join(report["refused"])
        if report["refused"]
        else f"version {report['version']} pushed"
    )


_OUTCOMES: dict[str, Callable[[Uris], str]] = {
    "PreviousPush": _previous_push,
    "InteractionGen": _interactions,
    "StrictExampleValidator": lambda uris: example_validator.outcome(uris["anomalies"]),
    "Transform": _transform,
    "Trainer": _trainer,
    "CatalogIndexer": _bundle,
    "Evaluator": _evaluation,
    "Gatekeeper": _gates,
    "IndexValidator": _index,
    "Pusher": _pushed,
}
