"""The table and plot of one data set's quality, from its JSON."""

from collections.abc import Mapping
from typing import Any

from benchmarks.judge import METRICS, MODEL
from benchmarks.quality_baselines import UNTRAINED
from benchmarks.report import bar_plot, table

_WORDS = {"all": "All targets", "unseen": "Targets new to the user", "new_item": "New items"}


def report(result: Mapping[str, Any]) -> str:
    """Markdown: a table a view, a line on new items, a plot.

    Args:
      result: what `benchmarks.quality` writes.
    """
    views = result["views"]
    text = [
        f"`{result['command']}`: {result['items']:,} items, all of them candidates, exact; the model is"
        f" {'absent' if result['version'] is None else 'version ' + result['version']}. In the last two columns, how much"
        " better it is than the baseline on the same requests, with the 95 % interval of a paired bootstrap.\n"
    ]
    for view in ("all", "unseen"):
        if view in views:
            text += [f"**{_WORDS[view]}** ({views[view]['rows']:,} requests)\n", _table(views[view])]
    if "new_item" in views and "unseen" in views:
        text += [_new_items(result)]
    ranked = views["all"]["ranked_by"]
    text += [
        bar_plot(
            f"Recall@10, {result['name']}, all targets",
            "Recall@10",
            {name: row["recall_at_10"] for name, row in ranked.items()},
        )
    ]
    return "\n".join(text)


def _table(view: Mapping[str, Any]) -> str:
    header = ["ranked by", "Recall@10", "@100", "NDCG@10", "seconds", "model, Recall@10", "model, @100"]
    rows = []
    for name, row in view["ranked_by"].items():
        better = row["model_is_better"] or {}
        rows.append(
            [
                f"**{name}**" if name == MODEL else name,
                *(f"{row[metric]:.4f}" for metric in METRICS),
                f"{row['seconds']:,.0f}",
                *(change_text(better.get(metric)) for metric in METRICS[:2]),
            ]
        )
    return table(header, rows)


def change_text(change: list[float] | None) -> str:
    """A change and its interval in percent; "" for none."""
    if change is None:
        return ""
    mean, low, high = (f"{100 * value:+.0f}" for value in change)
    return f"{mean} % ({low} .. {high})"


def _new_items(result: Mapping[str, Any]) -> str:
    """Requests for items that nobody had bought before the held-out time."""
    view = result["views"]["new_item"]
    chance = view["chance"]
    rows = [["chance", *(f"{chance[metric]:.4f}" for metric in METRICS), "1.0", "1.0"]]
    for name in (UNTRAINED, MODEL):
        if name in view["ranked_by"]:
            row = view["ranked_by"][name]
            times = [f"{row[metric] / chance[metric]:.1f}" for metric in METRICS[:2]]
            rows.append([name, *(f"{row[metric]:.4f}" for metric in METRICS), *times])
    header = ["ranked by", "Recall@10", "@100", "NDCG@10", "times chance, @10", "times chance, @100"]
    title = (
        f"**{_WORDS['new_item']}**: {result['new_items']:,} items first sold in the held-out time, retrieved among all"
        f" ({view['rows']:,} requests); baselines of purchases cannot rank them.\n"
    )
    return f"{title}\n{table(header, rows)}"
