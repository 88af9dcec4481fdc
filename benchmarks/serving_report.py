"""The serving figures as tables and a plot, from the results that are there."""

import json
from typing import Any

from benchmarks.environment import ROOT
from benchmarks.report import bar_plot, line_plot, table, write_section

LOAD, SWAPS, SOAK = "serving", "serving_swaps", "serving_soak"
_RESULTS = ROOT / "benchmarks" / "results"


def read_result(name: str) -> dict[str, Any]:
    """What a benchmark wrote; nothing where it has not run."""
    path = _RESULTS / f"{name}.json"
    result: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    return result


def write_result(name: str, result: dict[str, Any]) -> None:
    """Writes JSON to benchmarks/results."""
    _RESULTS.mkdir(parents=True, exist_ok=True)
    (_RESULTS / f"{name}.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


def show() -> None:
    """Writes the section of docs/benchmarks.md."""
    parts = [_load(read_result(LOAD)), _swaps(read_result(SWAPS)), _soak(read_result(SOAK))]
    write_section("serving", "\n".join(part for part in parts if part))


def publish(name: str, result: dict[str, Any]) -> None:
    """Prints a result, and writes its JSON and the section of docs/benchmarks.md."""
    print(result, flush=True)
    write_result(name, result)
    show()


def fastest(measured: list[dict[str, Any]], rows: int) -> float:
    """Queries a second at saturation: of the number of clients that got most."""
    return float(max(m["queries_a_second"] for m in measured if m["rows"] == rows))


def _load(result: dict[str, Any]) -> str:
    if not {"limit", "tandem", "fastapi"} <= result.keys():
        return ""
    best, default = result["limit"][0], next(m for m in result["limit"] if m["callers"] == 1)
    limit = best["queries_a_second"]
    lines = [
        f"{result['items']:,} items, {result['dimension']} dimensions, k = 100. The limit is"
        f" {limit:,.0f} queries a second: `embed_query` alone, {best['batch']} queries a call, {best['callers']} callers"
        f" (one caller with TensorFlow's own threads: {default['queries_a_second']:,.0f}).\n"
    ]
    rows = []
    labels = {
        "tandem": "Tandem",
        "float32": "Tandem, float32",
        "cached": "Tandem, cached",
        "fastapi": "FastAPI stack",
    }
    for name, label in labels.items():
        for m in result.get(name, []):
            share = f"{m['queries_a_second'] / limit:.2f}"
            figures = (f"{m['queries_a_second']:,.0f}", f"{m['p50_ms']:,.0f}", f"{m['p99_ms']:,.0f}", share)
            rows.append((label, str(m["rows"]), str(m["clients"]), *figures, str(m["failed"])))
    header = ("", "queries a request", "clients", "queries/s", "p50 ms", "p99 ms", "of the limit", "failed")
    lines.append(table(header, rows))
    bars = {"the limit": limit}
    for name, label in (("fastapi", "FastAPI stack"), ("tandem", "Tandem")):
        bars |= {f"{label}, {n} a request": fastest(result[name], n) for n in (1, 16)}
    lines.append(bar_plot("Queries a second at saturation", "queries a second", bars))
    return "\n".join(lines)


def _swaps(result: dict[str, Any]) -> str:
    if not result:
        return ""
    rows = [
        (label, str(m["requests"]), f"{m['p50_ms']:,.0f}", f"{m['p99_ms']:,.0f}", str(m["failed"]))
        for label, m in (("without swaps", result["without"]), ("during swaps", result["during"]))
    ]
    said = (
        f"{result['swaps']} swaps at half load, {result['rate']:.0f} requests a second whether or not those before"
        f" are answered; a swap took {result['seconds_of_a_swap']:.0f} s. {result['all']['requests']:,} requests in all"
        f" while they went on, {result['all']['failed']} failed; memory after each swap {min(result['rss_mb'][1:]):,} to"
        f" {max(result['rss_mb'][1:]):,} MiB, the last {result['rss_mb'][-1]:,}.\n"
    )
    return said + "\n" + table(("", "requests", "p50 ms", "p99 ms", "failed"), rows)


def _soak(result: dict[str, Any]) -> str:
    if not result:
        return ""
    rss = result["rss_mb"]
    step = max(1, len(rss) // 12)
    minutes = [round(place * result["every_seconds"] / 60) for place in range(0, len(rss), step)]
    return (
        f"{result['minutes']:.0f} minutes of 16 clients: {result['requests']:,} requests, {result['failed']} failed; in the"
        f" second half memory grew by {result['mb_a_minute_in_the_second_half']:.1f} MiB a minute.\n\n"
        + line_plot("Memory of the server", minutes, "MiB", {"resident": rss[::step]})
    )
