"""The lineage of a push directory: every candidate, what it came from, what it learnt, how it did, what became of it."""

import os
from datetime import datetime, timezone
from typing import NamedTuple

from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from pipeline import push_log
from serving.bundle import read_manifest, versions

_VIEWS = ("all", "unseen", "anchor")
_METRIC, _SHOWN = "recall_at_10", "R@10"


class Candidate(NamedTuple):
    """One candidate, pushed or refused.

    Attributes:
      time: when it was decided, ISO 8601, UTC.
      version: None where it was refused.
      parent: the version it was warm-started from, None for a first run.
      spans: spans whose events it was trained and evaluated on.
      examples: targets it was trained on; None where there is no line about it (a rollback).
      seconds: of its run; None where that is not known.
      metrics: view -> metric -> mean.
      refused: why, one line a reason.
      verdict: "served", "pushed", "taken out" (of the push directory since) or "refused".
    """

    time: str
    version: int | None
    parent: int | None
    spans: tuple[int, ...]
    examples: int | None
    seconds: float | None
    metrics: dict[str, dict[str, float]]
    refused: tuple[str, ...]
    verdict: str


class History(NamedTuple):
    """All candidates, oldest first.

    Attributes:
      candidates: from the log, and from the manifests of versions that it does not know.
      broken: numbers of the log's lines that could not be read.
    """

    candidates: list[Candidate]
    broken: list[int]


def history(push_dir: str) -> History:
    """Reads the log and the versions of a push directory.

    Raises:
      BundleError: the path is not a directory, or a version's manifest is damaged.
    """
    there = versions(push_dir)
    log = push_log.read(push_dir)
    logged = {entry.version for entry in log.entries}
    candidates = [_from_entry(entry, there) for entry in log.entries]
    candidates += [_from_manifest(push_dir, version, there) for version in there if version not in logged]
    return History(sorted(candidates, key=lambda one: one.time), log.broken)


def _from_entry(entry: push_log.Entry, there: list[int]) -> Candidate:
    verdict = "refused" if entry.refused else _verdict(entry.version, there)
    return Candidate(**entry.model_dump(), verdict=verdict)


def _from_manifest(push_dir: str, version: int, there: list[int]) -> Candidate:
    manifest = read_manifest(os.path.join(push_dir, str(version)))
    metrics = {
        name.removeprefix("view:"): {metric: value for metric, value in means.items() if value is not None}
        for name, means in manifest.metrics.items()
        if name.startswith("view:")
    }
    return Candidate(
        time=datetime.fromtimestamp(version, timezone.utc).isoformat(timespec="seconds"),
        version=version,
        parent=manifest.parent_version,
        spans=manifest.spans,
        examples=None,
        seconds=None,
        metrics=metrics,
        refused=(),
        verdict=_verdict(version, there),
    )


def _verdict(version: int | None, there: list[int]) -> str:
    if version not in there:
        return "taken out"
    return "served" if version == there[-1] else "pushed"


def history_table(lineage: History) -> RenderableType:
    """One line a candidate, then why some were refused, then what could not be read."""
    title = "candidates (metrics on the requests that were held out when each was judged)"
    table = Table(title=title, box=SIMPLE_HEAD, padding=0)  # fits a terminal of 80 characters
    for column in ("version", "parent", "spans"):
        table.add_column(column, no_wrap=True)
    for column in ("examples", "seconds", *(f"{_SHOWN} {view}" for view in _VIEWS)):
        table.add_column(column, justify="right", min_width=len(column.split()[-1]))
    table.add_column("verdict", no_wrap=True)
    notes = []
    for one in lineage.candidates:
        figures = (one.metrics.get(view, {}).get(_METRIC) for view in _VIEWS)
        spans = f"{min(one.spans)}-{max(one.spans)}" if one.spans else "-"
        table.add_row(
            str(one.version or "-"),
            str(one.parent or "-"),
            spans,
            "-" if one.examples is None else f"{one.examples:,}",
            "-" if one.seconds is None else f"{one.seconds:,.0f}",
            *("-" if figure is None else f"{figure:.4f}" for figure in figures),
            one.verdict,
        )
        notes += [f"refused {one.time}, spans {spans}: {reason}" for reason in one.refused]
    if lineage.broken:
        numbers = ", ".join(map(str, lineage.broken))
        notes.append(
            f"{push_log.LOG}: line {numbers} is torn (a run was killed while writing it) and left out"
        )
    return Group(table, *(Text(note) for note in notes))
