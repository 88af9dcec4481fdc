"""Full-corpus figures of pushed versions beside baselines, on the held-out requests of the last run."""

import glob
import json
import os
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from rich.table import Table

from pipeline.baselines import (
    HeldOut,
    Ranking,
    events_before,
    own_most_frequent,
    popularity,
    ranking_metrics,
    recent_popularity,
)
from pipeline.held_out import read_requests, score_requests
from pipeline.settings import Settings
from serving.bundle import versions
from serving.metrics import METRICS
from transform.errors import TandemError

_DEPTH = 100


class Figures(NamedTuple):
    """Means over the held-out rows of one view.

    Attributes:
      name: which version or baseline.
      view: which targets count.
      rows: how many held-out rows.
      means: metric -> mean.
    """

    name: str
    view: str
    rows: int
    means: dict[str, float]


def evaluate(settings: Settings, only: Sequence[int] = ()) -> tuple[list[Figures], int]:
    """Scores pushed versions and baselines on the held-out rows that the last run wrote.

    Args:
      settings: the profile of the runs.
      only: versions to score; all pushed ones by default.

    Returns:
      the figures and the corpus size.

    Raises:
      TandemError: there was no run yet, or a version is not there.
    """
    examples = _last_examples(settings.paths.pipeline_root)
    with open(os.path.join(examples, "interactions.json"), encoding="utf-8") as file:
        meta = json.load(file)
    there = versions(settings.paths.push_dir)
    missing = sorted(set(only) - set(there))
    if missing or not there:
        raise TandemError(
            f"version {missing or 'any'} is not in {settings.paths.push_dir!r}; versions there: {there or 'none'}."
            " Push one with 'tandem run'."
        )
    records = read_requests(os.path.join(examples, "Split-eval"))
    kept = [(row, record) for record in records if (row := held_out_row(record)).view in _VIEW_WORDS]
    rows, records = [row for row, _ in kept], [record for _, record in kept]
    figures: list[Figures] = []
    for version in only or there:
        directory = os.path.join(settings.paths.push_dir, str(version))
        figures += _by_view(f"version {version}", rows, score_requests(directory, records))
    events = events_before(
        settings.data.dataset,
        meta["history_spans"],
        meta["trained_until"],
        list(settings.features.event_types),
    )
    rankings: dict[str, Ranking] = {
        "popularity": popularity(events, _DEPTH),
        "popularity, 28 days": recent_popularity(events, _DEPTH),
    }
    if (events["user_id"] != "").any():
        rankings["own most frequent"] = own_most_frequent(events, _DEPTH)
    for name, rank in rankings.items():
        values = [ranking_metrics(rank(row), row.targets) for row in rows]
        columns = {metric: np.array([value[metric] for value in values]) for metric in METRICS}
        figures += _by_view(name, rows, columns)
    return figures, meta["counts"]["items"]


def figures_table(figures: Sequence[Figures], corpus: int, views: Sequence[str] = ("all", "unseen")) -> Table:
    """One line a version or baseline, one block a view."""
    table = Table(title=f"held-out requests, full corpus of {corpus:,} items, exact search")
    for column in ("targets", "ranked by"):
        table.add_column(column, no_wrap=True)
    for column in ("requests", *_SHOWN.values()):
        table.add_column(column, justify="right", no_wrap=True)
    for view in views:
        for row in (f for f in figures if f.view == view):
            table.add_row(
                _VIEW_WORDS[view],
                row.name,
                f"{row.rows:,}",
                *(f"{row.means[metric]:.4f}" for metric in _SHOWN),
            )
        table.add_section()
    return table


_SHOWN = {"recall_at_10": "Recall@10", "recall_at_100": "@100", "ndcg_at_10": "NDCG@10"}
# Requests of older days (view "anchor") are left out: the baselines know what came after them.
_VIEW_WORDS = {
    "all": "all",
    "unseen": "new to user",
    "new_item": "new items",
    "tail_item": "tail items",
}


def held_out_row(serialized: bytes) -> HeldOut:
    """Reads one raw held-out example."""
    import tensorflow as tf

    feature = tf.train.Example.FromString(serialized).features.feature
    text = {
        name: [value.decode() for value in feature[name].bytes_list.value]
        for name in ("user_id", "view", "target_item_ids", "known_positive_ids")
    }
    return HeldOut(
        "".join(text["user_id"]),
        "".join(text["view"]),
        tuple(text["target_item_ids"]),
        frozenset(text["known_positive_ids"]),
    )


def _last_examples(pipeline_root: str) -> str:
    directories = glob.glob(os.path.join(glob.escape(pipeline_root), "InteractionGen", "examples", "*"))
    whole = [d for d in directories if os.path.exists(os.path.join(d, "interactions.json"))]
    if not whole:
        raise TandemError(
            f"no run has left held-out requests under {pipeline_root!r}; run 'tandem run --profile FILE' first."
        )
    return max(whole, key=lambda d: int(os.path.basename(d)))


def _by_view(name: str, rows: Sequence[HeldOut], columns: dict[str, np.ndarray]) -> list[Figures]:
    views = np.array([row.view for row in rows])
    return [
        Figures(
            name,
            view,
            int((views == view).sum()),
            {m: float(columns[m][views == view].mean()) for m in METRICS},
        )
        for view in _VIEW_WORDS
        if (views == view).any()
    ]
