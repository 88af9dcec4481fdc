"""Holds a candidate's scores on held-out requests against the declared gates; docs/decisions.md has the rule."""

from collections.abc import Mapping, Sequence
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from pipeline.held_out import Slices
from pipeline.paired_bootstrap import paired_bootstrap
from pipeline.settings import Gate

Scores: TypeAlias = Mapping[str, NDArray[np.floating]]  # metric -> [N], one value a request
Outcome = Literal["cleared", "unsure", "refused", "first run", "no rows"]
_ROUNDING = 1e-9


class Judgement(BaseModel):
    """One bar of one gate, held against the candidate."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    metric: str = Field(description="What is averaged.")
    slice: str = Field(description='Over which requests, such as "user_group:new,view:anchor".')
    bar: Literal["at_least", "lose_at_most"] = Field(description="Which of the gate's bars.")
    limit: float = Field(description="The bar: a mean, or the share of the previous mean that may be lost.")
    rows: int = Field(description="Requests in the slice.")
    candidate: float | None = Field(default=None, description="The candidate's mean; none without rows.")
    previous: float | None = Field(default=None, description="The previous push's mean; none at a first run.")
    change: float | None = Field(
        default=None, description="Relative change of the mean; none where the previous mean is 0."
    )
    low: float | None = Field(default=None, description="Lower end of the change's interval.")
    high: float | None = Field(default=None, description="Upper end; none where it has no bound.")
    confidence: float = Field(description="Coverage of the interval.")
    outcome: Outcome = Field(description="cleared, unsure and refused were judged, the others could not be.")
    reason: str = Field(description="Why the bar stands where it does.")

    def sentence(self) -> str:
        """Which gate, on which slice, by how much; for a refusal."""
        found = f"{self.metric} on {self.slice} ({self.rows:,} rows): {self.candidate:.4f}"
        if self.bar == "at_least" or self.change is None or self.low is None or self.high is None:
            return f"{found}, the gate asks for at least {self.limit:.4f}"
        return (
            f"{found} after {self.previous:.4f} of the previous push, a change of {self.change:+.1%}"
            f" ({self.confidence:.0%} interval {self.low:+.1%} to {self.high:+.1%}),"
            f" the gate lets it lose {self.limit:.1%} at most"
        )


def judge(
    gates: Sequence[Gate], slices: Slices, candidate: Scores, previous: Scores | None
) -> list[Judgement]:
    """Holds every bar of every gate against the scores, in the order of the gates.

    Args:
      gates: the declared gates.
      slices: of N requests.
      candidate: metric -> float [N].
      previous: the same of the previous push on the same requests; None at a first run.
    """
    judgements = []
    for gate in gates:
        rows = _rows(gate, slices)
        now = candidate[gate.metric][rows].astype(np.float64)
        before = None if previous is None else previous[gate.metric][rows].astype(np.float64)
        if gate.at_least is not None:
            judgements.append(_judge_value(gate, gate.at_least, now, before))
        if gate.lose_at_most is not None:
            judgements.append(_judge_loss(gate, gate.lose_at_most, now, before))
    return judgements


def refusals(judgements: Sequence[Judgement]) -> list[str]:
    """Why the candidate may not be pushed, one line a reason; none where it may."""
    lines = [judgement.sentence() for judgement in judgements if judgement.outcome == "refused"]
    if not any(judgement.outcome in ("cleared", "unsure", "refused") for judgement in judgements):
        named = ", ".join(sorted({judgement.slice for judgement in judgements}))
        lines.append(
            f"no gate could be judged: there are no held-out rows, or no bar for a first run, in {named};"
            " declare a gate with at_least on view all"
        )
    return lines


def slice_name(gate: Gate) -> str:
    """The gate's slice, named as in the evaluation: "view:all", "user_group:new,view:all"."""
    keys = {"query_group": gate.query_group, "user_group": gate.user_group, "view": gate.view}
    return ",".join(f"{name}:{value}" for name, value in keys.items() if value)


def _rows(gate: Gate, slices: Slices) -> NDArray[np.bool_]:
    rows = slices.view == gate.view
    if gate.user_group is not None:
        rows &= slices.user_group == gate.user_group
    if gate.query_group is not None:
        rows &= slices.query_group == gate.query_group
    return rows


def _judge_value(
    gate: Gate, limit: float, now: NDArray[np.float64], before: NDArray[np.float64] | None
) -> Judgement:
    if not len(now):
        return _judgement(gate, "at_least", limit, now, before, "no rows")
    outcome: Outcome = "cleared" if now.mean() >= limit - _ROUNDING else "refused"
    return _judgement(gate, "at_least", limit, now, before, outcome)


def _judge_loss(
    gate: Gate, limit: float, now: NDArray[np.float64], before: NDArray[np.float64] | None
) -> Judgement:
    """Refused: the loss is above the bar, and chance does not explain it."""
    if not len(now):
        return _judgement(gate, "lose_at_most", limit, now, before, "no rows")
    if before is None:
        return _judgement(gate, "lose_at_most", limit, now, before, "first run")
    change = paired_bootstrap(now, before, confidence=gate.confidence)
    outcome: Outcome = "cleared"
    if change.mean < -limit - _ROUNDING:
        told = change.high < 0 and _enough(int((now != before).sum()), gate.confidence)
        outcome = "refused" if told else "unsure"
    judgement = _judgement(gate, "lose_at_most", limit, now, before, outcome)
    shown = {name: value for name, value in zip(("change", "low", "high"), change, strict=True)}
    return judgement.model_copy(update={k: v if np.isfinite(v) else None for k, v in shown.items()})


def _enough(changed: int, confidence: float) -> bool:
    """Whether so few requests can show a loss at all: n coins all fall on one side with a chance of 2 ** -n.

    A bootstrap of one request has an interval of no width, whatever it says.
    """
    return 2.0**-changed <= (1 - confidence) / 2


def _judgement(
    gate: Gate,
    bar: Literal["at_least", "lose_at_most"],
    limit: float,
    now: NDArray[np.float64],
    before: NDArray[np.float64] | None,
    outcome: Outcome,
) -> Judgement:
    return Judgement(
        metric=gate.metric,
        slice=slice_name(gate),
        bar=bar,
        limit=limit,
        rows=len(now),
        candidate=float(now.mean()) if len(now) else None,
        previous=float(before.mean()) if before is not None and len(before) else None,
        confidence=gate.confidence,
        outcome=outcome,
        reason=gate.reason,
    )
