"""What the gates found about a candidate: kept as JSON and as a table, and shown after a run."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from pydantic import BaseModel, ConfigDict, Field
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from pipeline.gates import Judgement, Scores
from pipeline.held_out import Slices

REPORT = "gates.json"
TABLE = "gates.txt"
_WIDTH = 180  # characters of the kept table: a line a bar


class ViewMeans(BaseModel):
    """Means over the held-out requests of one view."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    rows: int = Field(description="Requests in the view.")
    candidate: dict[str, float] = Field(description="Metric -> mean.")
    previous: dict[str, float] | None = Field(description="The previous push's, on the same requests.")


class GateReport(BaseModel):
    """Everything that decided over a candidate."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    first_run: bool = Field(description="Whether there was no previous push to compare with.")
    refusals: list[str] = Field(description="Why it may not be pushed; none: it may.")
    judgements: list[Judgement] = Field(description="One a bar, in the order of the profile.")
    views: dict[str, ViewMeans] = Field(description="View -> means, for every view that has rows.")


def view_means(slices: Slices, candidate: Scores, previous: Scores | None) -> dict[str, ViewMeans]:
    """Means by view, of the views that have rows."""
    means = {}
    for view in np.unique(slices.view):
        rows = slices.view == view
        means[str(view)] = ViewMeans(
            rows=int(rows.sum()),
            candidate=_means(candidate, rows),
            previous=None if previous is None else _means(previous, rows),
        )
    return means


def _means(scores: Scores, rows: np.ndarray) -> dict[str, float]:
    return {metric: float(values[rows].astype(np.float64).mean()) for metric, values in scores.items()}


def write_report(directory: str, report: GateReport) -> None:
    """Writes gates.json and gates.txt into a directory, which is made if need be."""
    root = Path(directory)
    root.mkdir(parents=True, exist_ok=True)
    (root / REPORT).write_text(report.model_dump_json(indent=2) + "\n", encoding="utf-8")
    with open(root / TABLE, "w", encoding="utf-8") as file:
        console = Console(file=file, width=_WIDTH)
        console.print(gates_table(report.judgements))
        for line in report.refusals:
            console.print(f"refused: {line}", markup=False, soft_wrap=True)


def read_report(directory: str) -> GateReport:
    """Reads what `write_report` wrote."""
    return GateReport.model_validate_json(Path(directory, REPORT).read_bytes())


def gates_table(judgements: Sequence[Judgement]) -> Table:
    """One line a bar: metric and slice, rows, candidate, previous, change, interval, lowest that is let through, verdict."""
    title = "gates (change against the previous push on the same requests)"
    table = Table(title=title, box=SIMPLE_HEAD, padding=0)  # fits a terminal of 80 characters
    table.add_column("gate", min_width=len("recall_at_100"))
    for column in ("rows", "candidate", "previous", "change", "interval", "at least"):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("verdict", no_wrap=True)
    for one in judgements:
        interval = f"{_share(one.low)}..{_share(one.high)}" if one.low is not None else "-"
        bar = f"{one.limit:.4f}" if one.bar == "at_least" else f"{-one.limit:+.1%}"
        where = ", ".join(part.split(":")[1] for part in reversed(one.slice.split(",")))
        table.add_row(
            f"{one.metric} on {where}",
            f"{one.rows:,}",
            _mean(one.candidate),
            _mean(one.previous),
            _share(one.change),
            interval,
            bar,
            one.outcome.upper() if one.outcome == "refused" else one.outcome,
        )
    return table


def _mean(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:+.1%}"
