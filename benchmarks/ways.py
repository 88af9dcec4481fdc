"""Ways to keep up with a shop, and one run of one of them: from a state, or none, to a state and its scores."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import keras
import numpy as np

from benchmarks.weeks import FEATURES, Week
from towers.build import build_model, keyed_variables
from towers.datasets import Batches
from towers.evaluation import evaluate_requests
from towers.fit import compile_model, count_steps, fit, prepare_model
from towers.settings import ModelSettings, TrainingSettings
from towers.snapshot import restore_snapshot, take_snapshot
from towers.state import TrainingState, carry_state, load_state, save_state

MODEL = ModelSettings(made_up_queries=0.0)
TRAINING = TrainingSettings(
    steps=100_000, warm_start_steps=100_000, max_epochs=1.0, warm_start_learning_rate=0.001
)
VIEWS = ("all", "unseen", "fresh", "anchor")
METRICS = ("recall_at_10", "recall_at_100", "ndcg_at_10")
SCRATCH, WARM, NEVER = "from scratch", "warm start", "never again"


class Way(NamedTuple):
    """A way to keep up with the shop.

    Attributes:
      trains: whether it learns from new weeks.
      starts_from: what of the previous state it starts from; None: from nothing, on the whole window.
      replay_share: share of older requests that it learns again; None: as the settings have it.
      learning_rate: of a warm start; None: as the settings have it.
    """

    trains: bool
    starts_from: Callable[[TrainingState, Week], TrainingState] | None
    replay_share: float | None = None
    learning_rate: float | None = None

    @property
    def learns_what_is_new(self) -> bool:
        """Whether it is given what came since the last run, and not the whole window."""
        return self.trains and self.starts_from is not None


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
    NEVER: Way(False, _carried),
    SCRATCH: Way(True, None),
    WARM: Way(True, _carried),
    "warm, rows by position": Way(True, _by_position),
    "warm, without slots": Way(True, _without_slots),
    "warm, without replay": Way(True, _carried, replay_share=0.0),
    "warm, replay share 0.3": Way(True, _carried, replay_share=0.3),
    "warm, learning rate 0.0005": Way(True, _carried, learning_rate=0.0005),
}


class Trained(NamedTuple):
    """What one run cost, and how good its model is.

    Attributes:
      figures: view -> metric -> mean over held-out requests.
      requests: view -> how many it holds.
      seconds: from the state on the disk to the new one there, without the encoder and the evaluation.
      cpu_seconds: of the same.
      step_seconds: of the steps alone, all but the first, in which the graph is traced.
      examples: (request, target) pairs it was shown.
    """

    figures: dict[str, dict[str, float]]
    requests: dict[str, int]
    seconds: float
    cpu_seconds: float
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


def train(week: Week, encoder: Any, way: Way, previous: Path | None, state_dir: Path) -> Trained:
    """Trains one model on one week's requests, saves its state and scores it on the coming week.

    Args:
      week: what is learnt, and what it is scored on.
      encoder: frozen; shared by all runs.
      way: to keep up.
      previous: the training state to start from; not read where the way starts from nothing.
      state_dir: where the new state goes.
    """
    started, cpu_started = time.perf_counter(), time.process_time()
    training = TRAINING
    if way.learning_rate is not None:
        training = training.model_copy(update={"warm_start_learning_rate": way.learning_rate})
    start = None
    if way.starts_from is not None and previous is not None:
        start = way.starts_from(load_state(previous), week)
    keras.utils.set_random_seed(training.seed)
    batches = Batches(
        week.train, FEATURES, training.batch_size, training.targets_per_request, 1, training.seed
    )
    model = build_model(FEATURES, MODEL, encoder, week.vocabularies)
    prepare_model(model, batches, week.catalogue, training.negatives, is_new=start is None)
    steps = count_steps(training, batches, start is not None) if way.trains else 0
    before = 0 if start is None else start.step
    compile_model(model, training, "float32", steps, before)
    if start is not None:
        restore_snapshot(model, start)
    first = _FirstStep()
    fit(model, batches, steps, [first], training.seed)
    stepped = time.perf_counter()
    keyed = keyed_variables(model, FEATURES)
    save_state(state_dir, take_snapshot(model, {}, week.vocabularies, keyed, before + steps))
    ended, cpu_ended = time.perf_counter(), time.process_time()

    found = evaluate_requests(model, week.catalogue, week.held_out, FEATURES)
    values = {f"recall_at_{k}": found.recall[k] for k in (10, 100)} | {"ndcg_at_10": found.ndcg[10]}
    return Trained(
        {view: {m: float(values[m][week.views == view].mean()) for m in METRICS} for view in VIEWS},
        {view: int((week.views == view).sum()) for view in VIEWS},
        ended - started,
        cpu_ended - cpu_started,
        0.0 if first.done is None else stepped - first.done,
        round(steps * batches.pairs_per_batch),
    )
