"""Early stopping: training ends where held-out training requests are served no better, and the best weights are kept."""

import hashlib
import json
import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np

from towers.examples import Requests
from towers.settings import TrainingSettings
from towers.state import TrainingState, load_state, save_state
from transform.features import HISTORY_ITEMS, QUERY_TOKENS, TARGET_ITEMS

logger = logging.getLogger("tandem.train")

SHARE, MOST = 0.05, 2000  # of the training requests: held out, and how many at most, about
_BEST, _EVALUATIONS = "best-{:012d}", "evaluations.json"


def hold_out(requests: Requests) -> tuple[Requests, Requests]:
    """Splits training requests by a hash of what they say: about a twentieth is held out, at least one.

    Requests with the same text stay together, since the encoder knows a text again. A text is tokens, which stay the same
    from run to run, so it is held out of every run. Rows of items do not: a request without a text may have been learnt before.

    Args:
      requests: training rows, two or more of them with targets.

    Returns:
      What is learnt, and what is held out; rows without a target are in neither.
    """
    tokens, history, targets = (
        requests.columns[name] for name in (QUERY_TOKENS, HISTORY_ITEMS, TARGET_ITEMS)
    )

    def number(row: int) -> int:
        def of(column: Any) -> bytes:
            return column.values[column.offsets[row] : column.offsets[row + 1]].tobytes()

        said = of(tokens) or of(history) + b"/" + of(targets)
        return int.from_bytes(hashlib.blake2b(said, digest_size=8).digest(), "big")

    rows = np.flatnonzero(np.diff(targets.offsets))
    numbers = np.array([number(row) for row in rows], np.uint64)
    share = min(SHARE, MOST / max(len(rows), 1))
    bar = max(int(share * 2.0**64), int(numbers.min(initial=2**64 - 1)))
    held = numbers <= np.uint64(bar)
    return requests.take(rows[~held]), requests.take(rows[held])


class EarlyStopping(keras.callbacks.Callback):
    """Evaluates now and then, keeps the state of the best evaluation, and stops after some without a gain.

    What was found is kept beside the checkpoints: a run that goes on from one stops where an undisturbed run does. It has to
    come before `Checkpoints`, so that no checkpoint is there without the evaluation of its step.

    Args:
      settings: the metric, how often it is evaluated, and after how many evaluations without a gain training ends.
      steps: of this run; the last one is evaluated, too.
      evaluate: metrics of the model as it is now, the same for all workers.
      snapshot: steps of this run that are done -> the state.
      directory: of checkpoints, or None.
      start: optimizer steps before this run.
      done: steps of this run before this process.
      writes: whether this is the worker that writes.
    """

    def __init__(
        self,
        settings: TrainingSettings,
        steps: int,
        evaluate: Callable[[], float],
        snapshot: Callable[[int], TrainingState],
        directory: str | Path | None = None,
        start: int = 0,
        done: int = 0,
        writes: bool = True,
    ) -> None:
        super().__init__()
        self._settings = settings
        self._steps = steps
        self._evaluate = evaluate
        self._snapshot = snapshot
        self._directory = Path(directory) if directory else None
        self._start = start
        self._done = done
        self._writes = writes
        self._found: list[tuple[int, float]] = []
        self.best: TrainingState | None = None
        if self._directory is not None and done:
            stored = json.loads((self._directory / _EVALUATIONS).read_text(encoding="utf-8"))
            self._found = [(step, value) for step, value in stored if step <= done]
            if self._found:
                self.best = load_state(self._directory / _BEST.format(start + self._best_step()))

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Stops at once where a process before this one had."""
        self._stop_without_gain()

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Evaluates, where it is time."""
        before, every = self._done, self._settings.evaluation_steps
        self._done += self.params["steps"]
        if self._done // every == before // every and self._done < self._steps:
            self._write()
            return
        self._found.append((self._done, self._evaluate()))
        if self._best_step() == self._done:
            self.best = self._snapshot(self._done)
            if self._directory is not None and self._writes:
                save_state(self._directory / _BEST.format(self.best.step), self.best)
        self._write()
        metric = self._settings.early_stopping_metric
        logger.info(
            "step %d: %s %.4f, best at step %d", self._done, metric, self._found[-1][1], self._best_step()
        )
        self._stop_without_gain()

    def _best_step(self) -> int:
        """The first step with the highest value."""
        return max(self._found, key=lambda one: (one[1], -one[0]))[0]

    def _stop_without_gain(self) -> None:
        if not self._found:
            return
        since = sum(step > self._best_step() for step, _ in self._found)
        if since >= self._settings.early_stopping and self._done < self._steps:
            logger.info("stopped at step %d: no gain since step %d", self._done, self._best_step())
            self.model.stop_training = True

    def _write(self) -> None:
        """Writes the evaluations, and takes away states that no checkpoint could go on with."""
        if self._directory is None or not self._writes:
            return
        self._directory.mkdir(parents=True, exist_ok=True)
        unfinished = self._directory / f"{_EVALUATIONS}.unfinished"
        unfinished.write_text(json.dumps(self._found), encoding="utf-8")
        unfinished.rename(self._directory / _EVALUATIONS)
        best, checkpoints = (
            [int(place.name[5:]) for place in self._directory.glob(f"{kind}-*")] for kind in ("best", "step")
        )
        needed = max((step for step in best if step <= max(checkpoints, default=0)), default=0)
        for step in best:
            if step < needed:
                shutil.rmtree(self._directory / _BEST.format(step), ignore_errors=True)
