"""What warm starts are worth: week after week, against training from scratch and against not training at all.

Every week each way is scored on the coming week before it learns from it; all items sold so far are candidates. What is
done is kept in a directory, so that the same command goes on where it was ended.
"""

import argparse
import json
import os
import shutil
import time
from functools import cache, partial
from pathlib import Path
from typing import Any

from transform.runtime import prepare_environment

prepare_environment()

import numpy as np  # noqa: E402

from benchmarks.report import line_plot, table, write_section  # noqa: E402
from benchmarks.ways import METRICS, MODEL, NEVER, SCRATCH, TRAINING, VIEWS, WARM, WAYS, train  # noqa: E402
from benchmarks.weeks import FEATURES, Journey, Week  # noqa: E402
from towers.catalogue import encode_texts  # noqa: E402
from towers.encoder import load_encoder  # noqa: E402
from towers.settings import EncoderSettings  # noqa: E402
from transform.errors import TandemError  # noqa: E402
from transform.settings import DataSettings  # noqa: E402
from transform.text import load_tokenizer  # noqa: E402
from transform.window import Previous, plan_window  # noqa: E402

COSTS = ("examples", "seconds", "cpu_seconds", "step_seconds")


def run(
    journey: Journey, data: DataSettings, encoder: Any, work: Path, spans: range, until: float
) -> list[dict[str, Any]] | None:
    """Trains what is not yet trained: the first window, then each week each way.

    Args:
      journey: the dataset.
      data: its settings.
      encoder: frozen.
      work: where states and rows are kept.
      spans: the first window's newest week, and the weeks after it.
      until: when to begin no further run, as `time.monotonic` has it.

    Returns:
      a row a way and week; None where there was no time for all.
    """
    texts = _encoded_texts(journey, encoder, work)
    first = spans[0]
    rows = []
    for span in spans:
        weeks = cache(partial(_week, journey, data, texts, first, span))
        for name, way in WAYS.items() if span > first else [(SCRATCH, WAYS[SCRATCH])]:
            state, row_file = work / f"{span} {name}", work / f"{span} {name}.json"
            if not row_file.is_file():
                if time.monotonic() > until:
                    return None
                previous = work / (f"{span - 1} {name}" if span > first + 1 else f"{first} {SCRATCH}")
                week = weeks(way.learns_what_is_new, way.replay_share)
                trained = train(week, encoder, way, previous, state)
                row = {"week": span, "way": name, "items": week.vocabularies["item_id"].rows - 1}
                _write_json(row_file, row | trained._asdict())
                if span > first + 1:
                    shutil.rmtree(previous, ignore_errors=True)
                print(
                    f"week {span} {name:26} {trained.seconds:5.1f} s {trained.cpu_seconds:5.1f} s of CPU"
                    f" {trained.examples:9,} pairs  "
                    + "  ".join(f"{v} {trained.figures[v]['recall_at_10']:.4f}" for v in VIEWS),
                    flush=True,
                )
            if span > first:
                rows.append(json.loads(row_file.read_text(encoding="utf-8")))
    return rows


def _week(
    journey: Journey,
    data: DataSettings,
    texts: np.ndarray,
    first: int,
    span: int,
    only_what_is_new: bool,
    replay_share: float | None,
) -> Week:
    """What a run on `span` learns: the whole window, or what came since the run on the span before."""
    previous = None
    for earlier in range(first, span) if only_what_is_new else ():
        window = plan_window(data, earlier, previous)
        known = previous.spans if previous is not None else ()
        previous = Previous(1, window.cut, tuple(sorted({*known, *window.target_spans})))
    return journey.week(span, texts, previous, replay_share)


def _encoded_texts(journey: Journey, encoder: Any, work: Path) -> np.ndarray:
    path = work / "texts.npy"
    if not path.is_file():
        vectors = encode_texts(encoder, journey.tokens)
        np.save(path.with_suffix(".new.npy"), vectors)
        os.replace(path.with_suffix(".new.npy"), path)
    return np.load(path)


def _write_json(path: Path, value: Any) -> None:
    """Whole or not at all."""
    new = path.with_suffix(".new")
    new.write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")
    os.replace(new, path)


def _same_settings(work: Path, settings: dict[str, Any]) -> None:
    """Notes the settings in a new directory.

    Raises:
      TandemError: what is kept there was made with others.
    """
    path = work / "settings.json"
    if not path.is_file():
        work.mkdir(parents=True, exist_ok=True)
        _write_json(path, settings)
    there = json.loads(path.read_text(encoding="utf-8"))
    if there != settings:
        differ = sorted(name for name in settings if there.get(name) != settings[name])
        raise TandemError(f"{work} was made with other settings ({', '.join(differ)}); name another --work.")


def summary(rows: list[dict[str, Any]]) -> dict[str, dict[str, float | None]]:
    """Means over the weeks, and each way's share of training from scratch; None where that has nothing."""
    table = {}
    for name in WAYS:
        mine = [row for row in rows if row["way"] == name]
        means = {
            f"{v}/{m}": float(np.mean([r["figures"][v][m] for r in mine])) for v in VIEWS for m in METRICS
        }
        table[name] = means | {k: float(np.sum([r[k] for r in mine])) for k in COSTS}
    return {
        name: values
        | {
            f"{key} of scratch": value / of if (of := table[SCRATCH][key]) else None
            for key, value in values.items()
        }
        for name, values in table.items()
    }


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def report(result: dict[str, Any]) -> str:
    """The section of docs/benchmarks.md."""
    rows = result["weeks"]
    weeks = sorted({row["week"] for row in rows})
    held_out = {view: sum(r["requests"][view] for r in rows if r["way"] == WARM) for view in VIEWS}
    words = {
        "all": "all targets of the coming week",
        "unseen": "of these, items new to the household",
        "fresh": "of these, items first sold in the last week learnt from",
        "anchor": "baskets of older weeks that nobody learns from",
    }
    text = [
        f"Weeks {weeks[0]}-{weeks[-1]}, each scored before it is learnt; {rows[0]['items']:,}-{rows[-1]['items']:,} items, the"
        " vocabulary made anew and reordered every week. Means over the weeks; in brackets the share of training from"
        " scratch on the whole window of weeks.\n"
    ]
    for view in VIEWS:
        lines = []
        for name, values in result["summary"].items():
            cells = (
                f"{values[f'{view}/{m}']:.4f} ({_share(values[f'{view}/{m} of scratch'])})" for m in METRICS
            )
            lines.append([name, *cells])
        text += [f"**{view}**: {words[view]} ({held_out[view]:,} requests)\n"]
        text += [table(["", "Recall@10", "Recall@100", "NDCG@10"], lines)]
    costs = [
        [name, *(f"{values[k]:,.0f} ({_share(values[f'{k} of scratch'])})" for k in COSTS)]
        for name, values in result["summary"].items()
    ]
    header = ["all weeks together", "pairs seen", "seconds", "seconds of CPU", "seconds of steps"]
    text += [table(header, costs)]
    for view in ("all", "anchor"):
        lines_by_way = {
            name: [r["figures"][view]["recall_at_10"] for r in rows if r["way"] == name]
            for name in (NEVER, SCRATCH, WARM)
        }
        text += [line_plot(f"Recall@10, {words[view]}", weeks, "Recall@10", lines_by_way)]
    return "\n".join(text)


def main() -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("dataset", help="of 'tandem prepare complete-journey', weekly spans")
    parser.add_argument("preset", help="encoder preset; frozen")
    parser.add_argument("--first", type=int, default=26, help="newest week of the first window (default: 26)")
    parser.add_argument("--weeks", type=int, default=8, help="weeks after it (default: 8)")
    parser.add_argument("--work", default="work/incremental", help="what is done is kept there")
    parser.add_argument(
        "--minutes", type=float, default=float("inf"), help="begin no further run after these"
    )
    parser.add_argument("--out", default="benchmarks/results/incremental.json")
    options = parser.parse_args()
    until = time.monotonic() + 60 * options.minutes
    preset, work = EncoderSettings(preset=options.preset), Path(options.work)
    data = DataSettings(dataset=options.dataset)
    settings = {
        "command": f"python -m benchmarks.incremental DATASET PRESET --first {options.first} --weeks {options.weeks}",
        "model": MODEL.model_dump(mode="json"),
        "training": TRAINING.model_dump(mode="json"),
        "data": data.model_dump(mode="json", exclude={"dataset"}),
    }
    _same_settings(work, settings)
    journey = Journey(options.dataset, load_tokenizer(options.preset, FEATURES.item_tokens), data)
    spans = range(options.first, options.first + options.weeks + 1)
    rows = run(journey, data, load_encoder(preset, "float32"), work, spans, until)
    if rows is None:
        print(f"not done yet; the same command goes on from {work}")
        return 75  # EX_TEMPFAIL
    result = settings | {"summary": summary(rows), "weeks": rows}
    _write_json(Path(options.out), result)
    write_section("incremental", report(result))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
