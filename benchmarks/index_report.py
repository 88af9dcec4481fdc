"""The section of docs/benchmarks.md on indexes."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.report import DOCUMENT, bar_plot, table, write_section

AIM = 0.95


def rate_at(points: list[dict[str, Any]], k: int, way: str, recall: float = AIM) -> float | None:
    """Queries a second at a recall: between the two points around it, on a line in the logarithm; none where it is not
    reached, and the first point's where that has more already."""
    curve = [(point["recall"], point[way]) for point in points if point["k"] == k]
    for before, after in zip([None, *curve], curve, strict=False):
        if after[0] < recall:
            continue
        if before is None:
            return float(after[1])
        share = (recall - before[0]) / (after[0] - before[0])
        return float(np.exp((1 - share) * np.log(before[1]) + share * np.log(after[1])))
    return None


def report(results: Mapping[str, Any], document: Path = DOCUMENT) -> None:
    """Writes tables and plots of all data sets."""
    write_section("index", "\n".join(_data_set(name, found) for name, found in results.items()), document)


def _data_set(name: str, found: Mapping[str, Any]) -> str:
    libraries: Mapping[str, Any] = found["libraries"]
    text = f"**{name}**: {found['items']:,} x {found['dimension']}, {found['queries']:,} queries\n\n"
    rows = []
    for library, figures in libraries.items():
        rates = [rate_at(figures["points"], k, way) for k in (10, 100) for way in ("single", "batch")]
        cells = ["not reached" if rate is None else f"{rate:,.0f}" for rate in rates]
        rows.append([library, *cells, f"{figures['build_seconds']:,.0f}", f"{figures['memory_mb']:,}"])
    header = ["at recall 0.95", "@10, single", "@10, batch", "@100, single", "@100, batch"]
    text += table([*header, "build, CPU s", "memory, MB"], rows)
    curves = []
    for library, figures in libraries.items():
        for point in figures["points"]:
            if point["k"] == 100:
                numbers = [f"{point['recall']:.3f}", f"{point['single']:,}", f"{point['batch']:,}"]
                curves.append([f"{library}, {point['setting']}", *numbers])
    text += "\n<details><summary>the curves at k = 100</summary>\n\n"
    text += table(["library, setting", "recall@100", "single", "batch"], curves) + "\n</details>\n\n"
    bars = {
        library: rate
        for library, figures in libraries.items()
        if (rate := rate_at(figures["points"], 100, "single")) is not None
    }
    return text + bar_plot(f"Queries a second at recall@100 0.95, one by one, {name}", "queries/s", bars)
