"""Where a worker that dies and returns goes on: training states written while training, the newest one kept."""

import logging
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras

from towers.state import TrainingState, load_state, save_state
from transform.errors import TandemError

logger = logging.getLogger("tandem.train")

_NAME = "step-{:012d}"


def newest_checkpoint(directory: str | Path) -> TrainingState | None:
    """Reads the newest whole checkpoint of a directory; None where there is none.

    A half-written one, of a chief that died while writing, is passed over.
    """
    for place in sorted(Path(directory).glob("step-*"), reverse=True):
        try:
            return load_state(place)
        except TandemError as error:
            logger.warning("passed over: %s", error)
    return None


class Checkpoints(keras.callbacks.Callback):
    """Writes a checkpoint after a stretch of steps (a Keras epoch) once enough time has passed.

    Args:
      directory: of checkpoints.
      snapshot: steps of this run that are done -> the state.
      seconds: between two checkpoints, at least.
      done: steps of this run before this process.
    """

    def __init__(
        self, directory: str | Path, snapshot: Callable[[int], TrainingState], seconds: float, done: int = 0
    ) -> None:
        super().__init__()
        self._directory = Path(directory)
        self._snapshot = snapshot
        self._seconds = seconds
        self._done = done
        self._written = time.monotonic()

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Writes, and takes older ones away."""
        self._done += self.params["steps"]
        if time.monotonic() - self._written < self._seconds:
            return
        state = self._snapshot(self._done)
        place = self._directory / _NAME.format(state.step)
        save_state(place, state)
        for older in self._directory.glob("step-*"):
            if older != place:
                shutil.rmtree(older, ignore_errors=True)
        self._written = time.monotonic()
        logger.info("checkpoint of step %d", state.step)
