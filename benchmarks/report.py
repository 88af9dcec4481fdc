"""Puts a benchmark's table and plot into docs/benchmarks.md, between the markers of its section."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

DOCUMENT = Path(__file__).parents[1] / "docs" / "benchmarks.md"


def write_section(name: str, text: str, document: Path = DOCUMENT) -> None:
    """Replaces what stands between `<!-- name -->` and `<!-- /name -->`.

    Raises:
      ValueError: the document has no such markers.
    """
    whole = document.read_text(encoding="utf-8")
    pattern = re.compile(rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)", re.DOTALL)
    if not pattern.search(whole):
        raise ValueError(f"{document} has no markers <!-- {name} --> and <!-- /{name} -->, expected both.")
    document.write_text(
        pattern.sub(lambda match: match[1] + text.strip() + "\n" + match[2], whole), encoding="utf-8"
    )


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table, numbers to the right."""
    lines = [f"| {' | '.join(header)} |", f"| --- |{' ---: |' * (len(header) - 1)}"]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows)]) + "\n"


# Mermaid's charts have no legend, so colours are set and named below the chart.
_COLOURS = {"red": "#d62728", "blue": "#1f77b4", "green": "#2ca02c", "orange": "#ff7f0e"}


def line_plot(title: str, x: Sequence[int], y_label: str, lines: Mapping[str, Sequence[float]]) -> str:
    """A Mermaid chart with a line a name, at most four, and a legend below it."""
    values = [value for line in lines.values() for value in line]
    low, high = min(values), max(values)
    margin = 0.1 * (high - low) or 0.01
    palette = ", ".join(_COLOURS.values())
    chart = [
        "```mermaid",
        f'%%{{init: {{"themeVariables": {{"xyChart": {{"plotColorPalette": "{palette}"}}}}}}}}%%',
        "xychart-beta",
        f'    title "{title}"',
        f"    x-axis [{', '.join(map(str, x))}]",
        f'    y-axis "{y_label}" {low - margin:.4f} --> {high + margin:.4f}',
        *(f"    line [{', '.join(f'{value:.4f}' for value in line)}]" for line in lines.values()),
        "```",
    ]
    legend = ", ".join(f"{colour}: {name}" for colour, name in zip(_COLOURS, lines, strict=False))
    return "\n".join(chart) + f"\n{legend}.\n"


def bar_plot(title: str, y_label: str, bars: Mapping[str, float]) -> str:
    """A Mermaid chart with a horizontal bar a name."""
    names = ", ".join(f'"{name}"' for name in bars)
    values = ", ".join(f"{value:.4f}" for value in bars.values())
    lines = ["```mermaid", "xychart-beta horizontal", f'    title "{title}"', f"    x-axis [{names}]"]
    lines += [f'    y-axis "{y_label}" 0 --> {1.1 * max(bars.values()):.4f}', f"    bar [{values}]", "```"]
    return "\n".join(lines) + "\n"
