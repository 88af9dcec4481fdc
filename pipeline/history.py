"""The lineage of a push directory: which version came from which, what it has learnt, how it did."""

import os
from typing import NamedTuple

from rich.table import Table

from serving.bundle import Manifest, read_manifest, versions

_SLICE = "view:all"


class Push(NamedTuple):
    """One pushed version.

    Attributes:
      manifest: what the bundle says about itself.
      served: whether a server that takes the newest version answers from it.
    """

    manifest: Manifest
    served: bool


def history(push_dir: str) -> list[Push]:
    """The pushed versions, oldest first.

    Args:
      push_dir: the directory of versions.
    """
    there = versions(push_dir)
    return [Push(read_manifest(os.path.join(push_dir, str(v))), v == there[-1]) for v in there]


def history_table(pushes: list[Push]) -> Table:
    """One line a version."""
    table = Table(title="pushed versions (metrics on the requests that were held out when each was pushed)")
    for column in (
        "version",
        "parent",
        "created",
        "spans",
        "items",
        "Recall@10",
        "Recall@100",
        "NDCG@10",
        "",
    ):
        table.add_column(column, justify="right" if column.startswith(("R", "N", "items")) else "left")
    for manifest, served in pushes:
        metrics = manifest.metrics.get(_SLICE, {})
        figures = (metrics.get(name) for name in ("recall_at_10", "recall_at_100", "ndcg_at_10"))
        table.add_row(
            str(manifest.version),
            str(manifest.parent_version or "-"),
            manifest.created,
            f"{min(manifest.spans)}-{max(manifest.spans)}" if manifest.spans else "-",
            f"{manifest.item_count:,}",
            *("-" if value is None else f"{value:.4f}" for value in figures),
            "served" if served else "",
        )
    return table
