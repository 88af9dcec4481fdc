"""What growth costs: a dataset 1, 3, 10 and 30 times over, through every data stage and training: time and memory a row."""

import argparse
import json
import multiprocessing
import shutil
import sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import yaml

from benchmarks.grown_dataset import write_grown
from benchmarks.report import line_plot, table, write_section
from benchmarks.stages import measure

STAGES = ("InteractionGen", "StatisticsGen", "Transform", "Trainer", "CatalogIndexer")
BEAM_STAGES = tuple(stage for stage in STAGES if stage != "Trainer")
RUNNERS = {
    "in_memory": ["--runner=FnApiRunner", "--sdk_container_image=in-process"],
    "multi_processing": [
        "--runner=FnApiRunner",
        "--sdk_container_image=in-process",
        "--direct_running_mode=multi_processing",
        "--direct_num_workers=2",
    ],
    # Flink's way: a job service apart from this process, and workers apart from it.
    "portable": [
        "--runner=PortableRunner",
        "--sdk_container_image=in-process",
        "--job_endpoint={job_endpoint}",
        "--environment_type=EXTERNAL",
        "--environment_config={worker_pool}",
    ],
}


def profile_of(options: argparse.Namespace, root: Path) -> str:
    """Writes the profile of one size under `root`, where its dataset is."""
    beam_args = [
        word.format(job_endpoint=options.job_endpoint, worker_pool=options.worker_pool)
        for word in RUNNERS[options.runner]
    ]
    tree = {
        "name": "scale",
        "paths": {"pipeline_root": str(root / "pipeline"), "push_dir": str(root / "push")},
        "data": {"dataset": str(root / "data"), "holdout_days": 7},
        "features": {"item_text": ["title", "brand"]},
        "encoder": {"preset": options.encoder},
        "model": {"made_up_queries": 0.2},
        "training": {"steps": options.steps, "max_epochs": 1, "batch_size": 512, "replicas": 1},
        "gates": [{"metric": "recall_at_10", "at_least": 0.0, "reason": "nothing is pushed here"}],
        "beam_args": beam_args,
    }
    path = root / "profile.yaml"
    path.write_text(yaml.safe_dump(tree), encoding="utf-8")
    return str(path)


def run_scale(options: argparse.Namespace, times: int) -> dict[str, Any]:
    """Measures every stage at one size, each in a process of its own; says what it found as it goes."""
    root = Path(options.work, f"x{times}-{options.runner}")
    shutil.rmtree(root, ignore_errors=True)
    events = write_grown(options.dataset, root / "data", times, options.base_events, options.spans)
    profile = profile_of(options, root)
    row: dict[str, Any] = {"times": times, "events": events}
    for stage in STAGES:
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
            cost, uris = pool.submit(measure, profile, stage).result()
        row[stage] = {name: round(value, 2) for name, value in cost._asdict().items()}
        print(f"x{times} {stage}: {row[stage]}", file=sys.stderr, flush=True)
        if stage == "InteractionGen":
            report = Path(uris[stage]["examples"], "interactions.json")
            row["items"] = json.loads(report.read_text(encoding="utf-8"))["counts"]["items"]
        if stage == "Trainer":
            summary = Path(uris[stage]["model"], "training_summary.json")
            row["pairs_per_second"] = json.loads(summary.read_text(encoding="utf-8"))["pairs_per_second"]
    shutil.rmtree(root)
    return row


def rows_of(row: dict[str, Any], stage: str) -> int:
    """What a stage's cost is divided by: items for CatalogIndexer, events for all others."""
    return int(row["items"] if stage == "CatalogIndexer" else row["events"])


def bars(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """The figures that growth is judged by, from x3 to x30; {} without both.

    Returns:
      `time_a_row` and `cpu_a_row`: at x30 over that at x3, by stage (bar 1.2); `driver_memory`: likewise, Beam stages
      (bar 1.5); `events_per_second` through InteractionGen and Transform at x30 (bar 5,000).
    """
    by = {row["times"]: row for row in rows}
    if not {3, 30} <= by.keys():
        return {}
    small, large = by[3], by[30]

    def ratio(stage: str, what: str) -> float:
        a_row = [row[stage][what] / rows_of(row, stage) for row in (large, small)]
        return round(a_row[0] / a_row[1], 3)

    both = sum(large[stage]["seconds"] for stage in ("InteractionGen", "Transform"))
    return {
        "time_a_row": {stage: ratio(stage, "seconds") for stage in STAGES},
        "cpu_a_row": {stage: ratio(stage, "cpu_seconds") for stage in STAGES},
        "driver_memory": {
            stage: round(large[stage]["memory_mb"] / small[stage]["memory_mb"], 3) for stage in BEAM_STAGES
        },
        "events_per_second": round(large["events"] / both),
    }


def section(results: dict[str, Any]) -> str:
    """The part of docs/benchmarks.md: a table and a plot for each runner."""
    parts = []
    for runner, result in results.items():
        rows = result["rows"]
        header = ["stage", *(f"x{row['times']}, {row['events']:,} events" for row in rows)]
        cells = [
            [
                stage,
                *(
                    f"{row[stage]['seconds']:.0f} s, {row[stage]['cpu_seconds']:.0f} CPU s,"
                    f" {1e6 * row[stage]['cpu_seconds'] / rows_of(row, stage):,.0f} us, {row[stage]['memory_mb']:,.0f} MB"
                    for row in rows
                ),
            ]
            for stage in STAGES
        ]
        parts.append(f"**{runner}** (`{result['command']}`)\n\n{table(header, cells)}")
        lines = {
            stage: [1e6 * row[stage]["cpu_seconds"] / rows_of(row, stage) for row in rows]
            for stage in ("InteractionGen", "StatisticsGen", "Transform", "CatalogIndexer")
        }
        times = [row["times"] for row in rows]
        parts.append(line_plot(f"CPU microseconds a row, {runner}", times, "microseconds", lines))
        memory = {stage: [row[stage]["memory_mb"] for row in rows] for stage in lines}
        parts.append(line_plot(f"Peak memory of the driver, {runner}", times, "MB", memory))
        found = result["bars"]
        if found:
            ratios = found["driver_memory"]
            memory_ratios = [f"{ratios[stage]:.2f}" if stage in ratios else "" for stage in STAGES]
            parts.append(
                table(
                    ["x30 over x3", *STAGES],
                    [
                        ["time a row (bar 1.2)", *(f"{found['time_a_row'][stage]:.2f}" for stage in STAGES)],
                        ["CPU a row", *(f"{found['cpu_a_row'][stage]:.2f}" for stage in STAGES)],
                        ["memory of the driver (bar 1.5)", *memory_ratios],
                    ],
                )
                + f"\nInteractionGen and Transform together, x30: {found['events_per_second']:,} events a second"
                " (bar 5,000).\n"
            )
    return "\n".join(parts)


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
    parser.add_argument(
        "--job-endpoint", default="", help="host:port of a Beam job service (--runner portable)"
    )
    parser.add_argument(
        "--worker-pool", default="", help="host:port of a Beam worker pool (--runner portable)"
    )
    parser.add_argument("--out", default="benchmarks/results/scale.json")
    options = parser.parse_args()
    options.work, options.encoder = str(Path(options.work).absolute()), str(Path(options.encoder).absolute())
    rows = [run_scale(options, times) for times in options.times]
    out = Path(options.out)
    results = json.loads(out.read_text(encoding="utf-8")) if out.exists() else {}
    command = (
        f"python -m benchmarks.scale DATASET ENCODER --base-events {options.base_events} --spans {options.spans}"
        f" --steps {options.steps} --runner {options.runner}"
    )
    results[options.runner] = {"command": command, "rows": rows, "bars": bars(rows)}
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    write_section("scale", section(results))
    return 0


if __name__ == "__main__":
    sys.exit(main())
