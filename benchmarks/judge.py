"""Rankings against what was held out: one metric code for the model and every baseline."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.baselines.task import Ranking
from benchmarks.cached import Made
from benchmarks.held_out import HeldOut
from pipeline.baselines import ranking_metrics
from pipeline.paired_bootstrap import paired_bootstrap

METRICS = ("recall_at_10", "recall_at_100", "ndcg_at_10")
VIEWS = ("all", "unseen", "new_item")
MODEL = "Tandem"


def judge(held_out: HeldOut, ranking: Ranking, view: str) -> dict[str, NDArray[np.float64]]:
    """Metric -> float64 [rows of the view]."""
    ids = held_out.item_ids
    values = [
        ranking_metrics(
            [ids[item] for item in ranking.items[held_out.requests[row]] if item >= 0], held_out.targets[row]
        )
        for row in np.flatnonzero(held_out.views == view)
    ]
    return {metric: np.array([value[metric] for value in values]) for metric in METRICS}


def chance(held_out: HeldOut, view: str) -> dict[str, float]:
    """What a random order of all candidates is expected to score: each of T targets is among k of N with chance k / N."""
    expected = []
    for row in np.flatnonzero(held_out.views == view):
        targets = len(held_out.targets[row])
        candidates = len(held_out.item_ids) - len(held_out.task.excluded_of(held_out.requests[row]))
        recall = {k: targets * min(1.0, k / candidates) / min(k, targets) for k in (10, 100)}
        discount = 1.0 / np.log2(np.arange(10) + 2.0)
        gain = targets / candidates * discount[:candidates].sum() / discount[: min(10, targets)].sum()
        expected.append((recall[10], recall[100], gain))
    return dict(zip(METRICS, np.mean(expected, axis=0).tolist(), strict=True))


def summary(held_out: HeldOut, made: Mapping[str, Made]) -> dict[str, Any]:
    """Means by view, and by how much the model is better on the same requests (95 % paired bootstrap intervals).

    Args:
      held_out: the requests.
      made: name -> ranking; the model under MODEL, where there is one.

    Returns:
      items, first sold in the held-out time or not; then by view: rows, chance, and for each ranking its means and
      `model_is_better`, metric -> [change, low, high], each a share, None where the baseline finds nothing.
    """
    views = {}
    for view in VIEWS:
        rows = int((held_out.views == view).sum())
        if not rows:
            continue
        values = {name: judge(held_out, each.ranking, view) for name, each in made.items()}
        ranked = {
            name: {"seconds": made[name].seconds}
            | {metric: float(found[metric].mean()) for metric in METRICS}
            | {
                "model_is_better": changes_of(values[MODEL], found)
                if MODEL in made and name != MODEL
                else None
            }
            for name, found in values.items()
        }
        views[view] = {"rows": rows, "chance": chance(held_out, view), "ranked_by": ranked}
    new_items = {
        item for row in np.flatnonzero(held_out.views == "new_item") for item in held_out.targets[row]
    }
    return {"items": len(held_out.item_ids), "new_items": len(new_items), "views": views}


def changes_of(
    model: Mapping[str, NDArray[np.float64]], baseline: Mapping[str, NDArray[np.float64]]
) -> dict[str, list[float] | None]:
    """Metric -> [change, low, high] of the model against another on the same requests, as shares (95 % paired bootstrap).

    None where the other finds nothing.
    """
    changes: dict[str, list[float] | None] = {}
    for metric in METRICS:
        change = paired_bootstrap(model[metric], baseline[metric])
        changes[metric] = list(change) if all(map(math.isfinite, change)) else None
    return changes
