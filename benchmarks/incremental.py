"""What warm starts are worth: week after week, against training from scratch and against not training at all.

Every week each way is scored on the coming week before it learns from it; all items sold so far are candidates.
"""

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from transform.runtime import prepare_environment

prepare_environment()

import keras  # noqa: E402
import numpy as np  # noqa: E402

from benchmarks.report import line_plot, table, write_section  # noqa: E402
from benchmarks.weeks import FEATURES, Journey, Week  # noqa: E402
from towers.build import build_model, keyed_variables  # noqa: E402
from towers.datasets import Batches  # noqa: E402
from towers.encoder import load_encoder  # noqa: E402
from towers.evaluation import evaluate_requests  # noqa: E402
from towers.fit import compile_model, count_steps, fit, prepare_model  # noqa: E402
from towers.settings import EncoderSettings, ModelSettings, TrainingSettings  # noqa: E402
from towers.snapshot import restore_snapshot, take_snapshot  # noqa: E402
from towers.state import TrainingState, carry_state  # noqa: E402
from transform.settings import DataSettings  # noqa: E402
from transform.text import load_tokenizer  # noqa: E402
from transform.window import Previous  # noqa: E402

MODEL = ModelSettings(made_up_queries=0.0)
TRAINING = TrainingSettings(steps=100_000, warm_start_steps=100_000, max_epochs=1.0)
VIEWS = ("all", "unseen", "fresh", "anchor")
METRICS = ("recall_at_10", "recall_at_100", "ndcg_at_10")
COSTS = ("examples", "seconds", "step_seconds")
SCRATCH, WARM, NEVER = "from scratch", "warm start", "never again"


class Way(NamedTuple):
    """A way to keep up with the shop.

    Attributes:
      trains: whether it learns from new weeks.
      replay: whether it learns some older requests again.
      starts_from: what of the previous state it starts from; None: from nothing, on the whole window.
    """

    trains: bool
    replay: bool
    starts_from: Callable[[TrainingState, Week], TrainingState] | None


def _carried(state: TrainingState, week: Week) -> TrainingState:
    return carry_state(state, week.vocabularies)


def _without_slots(state: TrainingState, week: Week) -> TrainingState:
    carried = _carried(state, week)
    zero = {path: {k: np.zeros_like(v) for k, v in slots.items()} for path, slots in carried.slots.items()}
    return carried._replace(slots=zero)


def _by_position(state: TrainingState, week: Week) -> TrainingState:
    """Row n stays row n, as a checkpoint is restored that knows no keys."""
    new, old = week.vocabularies["item_id"].keys, state.vocabularies["item_id"]
    pretended = old._replace(
        keys=tuple(new[: len(old.keys)]) + tuple(map(str, range(len(new), len(old.keys))))
    )
    return _carried(state._replace(vocabularies=state.vocabularies | {"item_id": pretended}), week)


WAYS = {
    NEVER: Way(False, False, _carried),
    SCRATCH: Way(True, False, None),
    WARM: Way(True, True, _carried),
    "warm, rows by position": Way(True, True, _by_position),
    "warm, without slots": Way(True, True, _without_slots),
    "warm, without replay": Way(True, False, _carried),
}


class Trained(NamedTuple):
    """One way's model after one week.

    Attributes:
      state: to go on from.
      figures: view -> metric -> mean over held-out requests.
      requests: how many it holds.
      seconds: of building, starting and training, without the evaluation.
      step_seconds: of the steps alone, all but the first, in which the graph is traced.
      examples: (request, target) pairs it was shown.
    """

    state: TrainingState
    figures: dict[str, dict[str, float]]
    requests: dict[str, int]
    seconds: float
    step_seconds: float
    examples: int


class _FirstStep(keras.callbacks.Callback):
    """Notes when the first step is done."""

    def __init__(self) -> None:
        super().__init__()
        self.done: float | None = None

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Keras calls this after every step."""
        self.done = self.done or time.perf_counter()


def train(week: Week, preset: EncoderSettings, start: TrainingState | None, learns: bool) -> Trained:
    """Trains one model on one week's requests and scores it on the coming week."""
    started = time.perf_counter()
    keras.utils.set_random_seed(TRAINING.seed)
    batches = Batches(
        week.train, FEATURES, TRAINING.batch_size, TRAINING.targets_per_request, 1, TRAINING.seed
    )
    model = build_model(FEATURES, MODEL, load_encoder(preset, "float32"), week.vocabularies)
    prepare_model(model, batches, week.catalogue, TRAINING.negatives)
    steps = count_steps(TRAINING, batches, start is not None) if learns else 0
    before = 0 if start is None else start.step
    compile_model(model, TRAINING, "float32", steps, before)
    if start is not None:
        restore_snapshot(model, start)
    first = _FirstStep()
    fit(model, batches, steps, [first])
    ended = time.perf_counter()
    state = take_snapshot(model, {}, week.vocabularies, keyed_variables(model, FEATURES), before + steps)
    found = evaluate_requests(model, week.catalogue, week.held_out, FEATURES)
    values = {f"recall_at_{k}": found.recall[k] for k in (10, 100)} | {"ndcg_at_10": found.ndcg[10]}
    figures = {v: {m: float(values[m][week.views == v].mean()) for m in METRICS} for v in VIEWS}
    counts = {view: int((week.views == view).sum()) for view in VIEWS}
    step_seconds = 0.0 if first.done is None else ended - first.done
    examples = round(steps * batches.pairs_per_batch)
    return Trained(state, figures, counts, ended - started, step_seconds, examples)


def run(journey: Journey, preset: EncoderSettings, first: int, weeks: int) -> list[dict[str, Any]]:
    """One row a way and week."""
    base_week = journey.week(first)
    base = train(base_week, preset, None, True)
    print(
        f"week {first}: first window, {base.examples:,} pairs, {base.seconds:.0f} s, {base.figures['all']}",
        flush=True,
    )
    states = {name: base.state for name in WAYS}
    previous = Previous(1, base_week.window.cut, base_week.window.target_spans)
    rows = []
    for span in range(first + 1, first + weeks + 1):
        made = {
            (True, True): journey.week(span, previous),
            (True, False): journey.week(span, previous, replay=False),
            (False, False): journey.week(span),
        }
        for name, way in WAYS.items():
            week = made[way.starts_from is not None, way.replay]
            start = None if way.starts_from is None else way.starts_from(states[name], week)
            trained = train(week, preset, start, way.trains)
            states[name] = trained.state
            rows.append(
                {"week": span, "way": name, "examples": trained.examples}
                | {"seconds": trained.seconds, "step_seconds": trained.step_seconds}
                | {"items": len(week.vocabularies["item_id"].keys), "requests": trained.requests}
                | {"figures": trained.figures}
            )
            print(
                f"week {span} {name:24} {trained.seconds:5.1f} s {trained.examples:9,} pairs  "
                + "  ".join(f"{v} {trained.figures[v]['recall_at_10']:.4f}" for v in VIEWS),
                flush=True,
            )
        window = made[True, True].window
        previous = Previous(1, window.cut, tuple(sorted({*previous.spans, *window.target_spans})))
    return rows


def summary(rows: list[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """Means over the weeks, and each way's share of training from scratch."""
    table = {}
    for name in WAYS:
        mine = [row for row in rows if row["way"] == name]
        means = {
            f"{v}/{m}": float(np.mean([r["figures"][v][m] for r in mine])) for v in VIEWS for m in METRICS
        }
        table[name] = means | {k: float(np.sum([r[k] for r in mine])) for k in COSTS}
    return {
        name: values
        | {f"{key} of scratch": value / max(table[SCRATCH][key], 1e-9) for key, value in values.items()}
        for name, values in table.items()
    }


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
            cells = (f"{values[f'{view}/{m}']:.4f} ({values[f'{view}/{m} of scratch']:.3f})" for m in METRICS)
            lines.append([name, *cells])
        text += [f"**{view}**: {words[view]} ({held_out[view]:,} requests)\n"]
        text += [table(["", "Recall@10", "Recall@100", "NDCG@10"], lines)]
    costs = [
        [name, *(f"{values[k]:,.0f} ({values[f'{k} of scratch']:.3f})" for k in COSTS)]
        for name, values in result["summary"].items()
    ]
    text += [table(["all weeks together", "pairs seen", "seconds in all", "seconds of steps"], costs)]
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
    parser.add_argument("--first", type=int, default=12, help="newest week of the first window (default: 12)")
    parser.add_argument("--weeks", type=int, default=8, help="weeks after it (default: 8)")
    parser.add_argument("--out", default="benchmarks/results/incremental.json")
    options = parser.parse_args()
    preset = EncoderSettings(preset=options.preset)
    data = DataSettings(dataset=options.dataset, window_spans=options.first, history_spans=52)
    tokenizer = load_tokenizer(options.preset, FEATURES.item_tokens)
    journey = Journey(options.dataset, load_encoder(preset, "float32"), tokenizer, data)
    rows = run(journey, preset, options.first, options.weeks)
    result = {
        "command": f"python -m benchmarks.incremental DATASET PRESET --first {options.first} --weeks {options.weeks}",
        "model": MODEL.model_dump(mode="json"),
        "training": TRAINING.model_dump(mode="json"),
        "data": data.model_dump(mode="json", exclude={"dataset"}),
        "summary": summary(rows),
        "weeks": rows,
    }
    Path(options.out).parent.mkdir(parents=True, exist_ok=True)
    Path(options.out).write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    write_section("incremental", report(result))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
