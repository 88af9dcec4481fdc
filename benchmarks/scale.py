"""What growth costs: a dataset 1, 3, 10 and 30 times over, through every data stage and training: time and memory a row."""

import argparse
import contextlib
import json
import multiprocessing
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import yaml

from benchmarks.grown_dataset import write_grown
from benchmarks.report import line_plot, table, write_section
from benchmarks.stages import measure
from tests.pipeline.portable_cluster import portable_cluster

STAGES = ("InteractionGen", "StatisticsGen", "Transform", "Trainer", "CatalogIndexer")
BEAM_STAGES = tuple(stage for stage in STAGES if stage != "Trainer")
_IN_PROCESS = ("--runner=FnApiRunner", "--sdk_container_image=in-process")
RUNNERS = {
    "in_memory": _IN_PROCESS,
    "multi_processing": (*_IN_PROCESS, "--direct_running_mode=multi_processing", "--direct_num_workers=2"),
    "portable": (),  # Flink's way: a job service apart from this process, and workers apart from it
}
# Of the portable cluster: the same in every call, since TFX's cache goes by the options.
_JOB_PORT, _POOL_PORT = 18099, 18050


@contextlib.contextmanager
def beam_options(runner: str, directory: Path) -> Iterator[tuple[str, ...]]:
    """The options of a runner, with a cluster behind them while they are used if it needs one."""
    if runner != "portable":
        yield RUNNERS[runner]
        return
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "port").unlink(missing_ok=True)
    with portable_cluster(directory, _JOB_PORT, _POOL_PORT) as words:
        yield words


def profile_of(options: argparse.Namespace, root: Path, beam_args: Sequence[str]) -> str:
    """Writes the profile of one size under `root`, where its dataset is."""
    tree = {
        "name": "scale",
        "paths": {"pipeline_root": str(root / "pipeline"), "push_dir": str(root / "push")},
        "data": {"dataset": str(root / "data"), "holdout_days": 7},
        "features": {"item_text": ["title", "brand"]},
        "encoder": {"preset": options.encoder},
        "model": {"made_up_queries": 0.2},
        "training": {"steps": options.steps, "max_epochs": 1, "batch_size": 512, "replicas": 1},
        "gates": [{"metric": "recall_at_10", "at_least": 0.0, "reason": "nothing is pushed here"}],
        "beam_args": list(beam_args),
    }
    path = root / "profile.yaml"
    path.write_text(yaml.safe_dump(tree), encoding="utf-8")
    return str(path)


def measure_size(
    options: argparse.Namespace, row: dict[str, Any], save: Callable[[], None], deadline: float
) -> bool:
    """Measures the stages of one size that its row does not have yet, each in a process of its own.

    Args:
      options: of the command.
      row: `times`, and what was measured before; it is filled in.
      save: called whenever the row has become longer.
      deadline: no stage is begun after it, by `time.monotonic()`.

    Returns:
      Whether every stage that was asked for is there.
    """
    root = Path(options.work, f"x{row['times']}-{options.runner}")
    missing = [stage for stage in options.stages if stage not in row]
    if missing and not ("events" in row and (root / "data").exists()):
        shutil.rmtree(root, ignore_errors=True)
        row["events"] = write_grown(
            options.dataset, root / "data", row["times"], options.base_events, options.spans
        )
        save()
    for stage in missing:
        if time.monotonic() > deadline:
            return False
        with beam_options(options.runner, root / "cluster") as beam_args:
            profile = profile_of(options, root, beam_args)
            with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
                cost, uris = pool.submit(measure, profile, stage).result()
        row[stage] = {name: round(value, 2) for name, value in cost._asdict().items()}
        print(f"x{row['times']} {stage}: {row[stage]}", file=sys.stderr, flush=True)
        if stage == "InteractionGen":
            report = Path(uris[stage]["examples"], "interactions.json")
            row["items"] = json.loads(report.read_text(encoding="utf-8"))["counts"]["items"]
        if stage == "Trainer":
            summary = Path(uris[stage]["model"], "training_summary.json")
            row["pairs_per_second"] = json.loads(summary.read_text(encoding="utf-8"))["pairs_per_second"]
        save()
    if set(STAGES) <= row.keys():
        shutil.rmtree(root, ignore_errors=True)
    return True


def rows_of(row: dict[str, Any], stage: str) -> int:
    """What a stage's cost is divided by: items for CatalogIndexer, events for all others."""
    return int(row["items"] if stage == "CatalogIndexer" else row["events"])


def bars(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """The figures that growth is judged by, from x3 to x30, of stages that both have; {} without both.

    Returns:
      `time_a_row` and `cpu_a_row`: at x30 over that at x3, by stage (bar 1.2); `driver_memory`: likewise, Beam stages
      (bar 1.5); `further_row_us`: wall clock of one more row, between the two, without what a stage costs on no rows;
      `events_per_second` through InteractionGen and Transform at x30 (bar 5,000).
    """
    by = {row["times"]: row for row in rows}
    if not {3, 30} <= by.keys():
        return {}
    small, large = by[3], by[30]
    there = [stage for stage in STAGES if stage in small and stage in large]

    def ratio(stage: str, what: str) -> float:
        a_row = [row[stage][what] / rows_of(row, stage) for row in (large, small)]
        return round(a_row[0] / a_row[1], 3)

    def further(stage: str) -> float:
        rows = rows_of(large, stage) - rows_of(small, stage)
        return round(1e6 * (large[stage]["seconds"] - small[stage]["seconds"]) / rows, 1)

    found: dict[str, Any] = {
        "time_a_row": {stage: ratio(stage, "seconds") for stage in there},
        "cpu_a_row": {stage: ratio(stage, "cpu_seconds") for stage in there},
        "driver_memory": {
            stage: round(large[stage]["memory_mb"] / small[stage]["memory_mb"], 3)
            for stage in there
            if stage in BEAM_STAGES
        },
        "further_row_us": {stage: further(stage) for stage in there},
    }
    if {"InteractionGen", "Transform"} <= large.keys():
        both = sum(large[stage]["seconds"] for stage in ("InteractionGen", "Transform"))
        found["events_per_second"] = round(large["events"] / both)
    return found


def section(results: dict[str, Any]) -> str:
    """The part of docs/benchmarks.md: a table and plots for each runner, a dash for what was not measured."""
    parts = []
    for runner, result in results.items():
        rows = result["rows"]
        header = ["stage", *(f"x{row['times']}, {row['events']:,} events" for row in rows)]
        cells = [[stage, *(_cell(row, stage) for row in rows)] for stage in STAGES]
        parts.append(f"**{runner}** (`{result['command']}`)\n\n{table(header, cells)}")
        whole = [stage for stage in BEAM_STAGES if all(stage in row for row in rows)]
        times = [row["times"] for row in rows]
        cpu = {
            stage: [1e6 * row[stage]["cpu_seconds"] / rows_of(row, stage) for row in rows] for stage in whole
        }
        memory = {stage: [row[stage]["memory_mb"] for row in rows] for stage in whole}
        if whole and len(rows) > 1:
            parts.append(line_plot(f"CPU microseconds a row, {runner}", times, "microseconds", cpu))
            parts.append(line_plot(f"Peak memory of the driver, {runner}", times, "MB", memory))
        if result["bars"]:
            parts.append(_judged(result["bars"]))
    return "\n".join(parts)


def _cell(row: dict[str, Any], stage: str) -> str:
    if stage not in row:
        return "-"
    cost = row[stage]
    return (
        f"{cost['seconds']:.0f} s, {cost['cpu_seconds']:.0f} CPU s,"
        f" {1e6 * cost['cpu_seconds'] / rows_of(row, stage):,.0f} us, {cost['memory_mb']:,.0f} MB"
    )


def _judged(found: dict[str, Any]) -> str:
    lines = {
        "time a row (bar 1.2)": found["time_a_row"],
        "CPU a row": found["cpu_a_row"],
        "memory of the driver (bar 1.5)": found["driver_memory"],
    }
    text = table(
        ["x30 over x3", *STAGES],
        [
            [name, *(f"{ratios[stage]:.2f}" if stage in ratios else "-" for stage in STAGES)]
            for name, ratios in lines.items()
        ],
    )
    further = ", ".join(f"{stage} {value:,.0f}" for stage, value in found["further_row_us"].items())
    text += f"\nWall clock of a further row, microseconds: {further}.\n"
    if "events_per_second" in found:
        rate = found["events_per_second"]
        text += f"\nInteractionGen and Transform together, x30: {rate:,} events a second (bar 5,000).\n"
    return text


def main() -> int:
    """Measures one runner and puts it beside the other ones' results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("dataset", help="of 'tandem prepare complete-journey'")
    parser.add_argument("encoder", help="encoder preset; frozen")
    parser.add_argument("--work", default="work/scale", help="scratch directory (default: work/scale)")
    parser.add_argument("--times", type=int, nargs="+", default=[1, 3, 10, 30])
    parser.add_argument("--base-events", type=int, default=10_000, help="of a copy, about (default: 10,000)")
    parser.add_argument("--spans", type=int, default=4, help="of the dataset, from the first (default: 4)")
    parser.add_argument("--steps", type=int, default=20, help="training steps (default: 20)")
    parser.add_argument("--runner", choices=RUNNERS, default="in_memory")
    parser.add_argument("--stages", choices=STAGES, nargs="+", default=STAGES, help="default: all")
    parser.add_argument(
        "--minutes",
        type=float,
        default=float("inf"),
        help="begin no stage after so long; the same command goes on",
    )
    parser.add_argument("--out", default="benchmarks/results/scale.json")
    options = parser.parse_args()
    options.work, options.encoder = str(Path(options.work).absolute()), str(Path(options.encoder).absolute())
    deadline = time.monotonic() + 60 * options.minutes
    out = Path(options.out)
    results = json.loads(out.read_text(encoding="utf-8")) if out.exists() else {}
    command = (
        f"python -m benchmarks.scale DATASET ENCODER --base-events {options.base_events} --spans {options.spans}"
        f" --steps {options.steps} --runner {options.runner}"
    )
    result = results.get(options.runner)
    if result is None or result["command"] != command:  # other settings begin anew
        result = results[options.runner] = {"command": command, "rows": [], "bars": {}}
        for old in Path(options.work).glob(f"x*-{options.runner}"):
            shutil.rmtree(old)

    def save() -> None:
        result["rows"].sort(key=lambda row: row["times"])
        result["bars"] = bars(result["rows"])
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")

    for times in options.times:
        row = next((row for row in result["rows"] if row["times"] == times), None)
        if row is None:
            row = {"times": times}
            result["rows"].append(row)
        if not measure_size(options, row, save, deadline):
            print("time is up; the same command goes on from here", file=sys.stderr)
            return 0
    write_section("scale", section(results))
    return 0


if __name__ == "__main__":
    sys.exit(main())
