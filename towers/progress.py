"""What training says while it runs: a log line and TensorBoard scalars every so many steps."""

import json
import logging
import math
import time
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from tensorboard.plugins.hparams import api as hparams

from transform.errors import TandemError

logger = logging.getLogger("tandem.train")


class Progress(keras.callbacks.Callback):
    """Reports after each stretch of steps (a Keras epoch), and stops where the loss is no number any more.

    Args:
      steps: of this run, for "step 200 of 1000".
      start: optimizer steps before this run.
      pairs_per_step: (request, item) pairs a step, for pairs a second.
      log_dir: TensorBoard directory, or None.
      done: steps of this run before this process.
    """

    def __init__(
        self, steps: int, start: int, pairs_per_step: float, log_dir: str | None, done: int = 0
    ) -> None:
        super().__init__()
        self._steps = steps
        self._start = start
        self._pairs = pairs_per_step
        self._writer = tf.summary.create_file_writer(log_dir) if log_dir else tf.summary.create_noop_writer()
        self._done = self._before = done
        self._measured = 0
        self._since = 0.0
        self.loss = float("nan")
        self.seconds = 0.0

    @property
    def pairs_per_second(self) -> float:
        """Of all stretches after the first, which waits for tracing, where there is more than one."""
        return self._measured * self._pairs / self.seconds if self.seconds else 0.0

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Starts the clock."""
        self._since = time.perf_counter()

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Reports.

        Raises:
          TandemError: the loss is not a finite number.
        """
        logs = {name: float(value) for name, value in (logs or {}).items()}
        steps = self.params["steps"]
        self._done += steps
        if not math.isfinite(logs["loss"]):
            raise TandemError(
                f"the loss is {logs['loss']} after {self._done} steps, expected a finite number;"
                " lower training.learning_rate, or set training.precision to float32."
            )
        took = time.perf_counter() - self._since
        speed = steps * self._pairs / took
        if self._done == self._before + 2 * steps:
            self._measured, self.seconds = 0, 0.0
        self._measured, self.seconds = self._measured + steps, self.seconds + took
        self.loss = logs["loss"]
        logger.info("step %d of %d: loss %.4f, %.0f pairs/s", self._done, self._steps, logs["loss"], speed)
        self.write(logs | {"pairs_per_second": speed} | _optimizer_scalars(self.model), "train")
        self.write(_scalar_weights(self.model), "weights")

    def write(self, values: dict[str, float], prefix: str) -> None:
        """Writes scalars at the current step."""
        with self._writer.as_default(step=self._start + self._done):
            for name, value in values.items():
                tf.summary.scalar(f"{prefix}/{name}", value)
        self._writer.flush()

    def write_settings(self, text: str) -> None:
        """Writes the settings of the run, JSON, as a text and as hyperparameters that runs can be compared by."""
        with self._writer.as_default(step=self._start):
            tf.summary.text("settings", f"```\n{text}\n```")
            hparams.hparams(flat_settings(json.loads(text)))
        self._writer.flush()


def flat_settings(value: Any, name: str = "") -> dict[str, Any]:
    """{"a": {"b": 1}, "c": [2], "d": None} -> {"a.b": 1, "c": "[2]", "d": "null"}."""
    if isinstance(value, dict):
        flat: dict[str, Any] = {}
        for key, part in value.items():
            flat |= flat_settings(part, f"{name}.{key}" if name else key)
        return flat
    return {name: value if isinstance(value, bool | int | float | str) else json.dumps(value)}


def _optimizer_scalars(model: Any) -> dict[str, float]:
    """Learning rates, the loss scale, and lengths of the gradients by part of the model."""
    optimizer = model.optimizer
    rate = float(np.asarray(optimizer.learning_rate))
    scalars = {"learning_rate": rate}
    if isinstance(optimizer, keras.optimizers.LossScaleOptimizer):
        scalars["loss_scale"] = float(np.asarray(optimizer.dynamic_scale))
        optimizer = optimizer.inner_optimizer
    of_encoder = {variable.path for variable in model.encoder.trainable_variables}
    if of_encoder:
        scalars["learning_rate_encoder"] = rate * max(optimizer.scales.get(path, 1.0) for path in of_encoder)
    squares: dict[str, float] = {}
    for path, norm in optimizer.gradient_norms().items():
        part = "encoder" if path in of_encoder else path.split("/")[0]
        squares[part] = squares.get(part, 0.0) + norm**2
    return scalars | {f"gradient_norm_{part}": square**0.5 for part, square in squares.items()}


def _scalar_weights(model: Any) -> dict[str, float]:
    """The temperature, and every weight that is one number: scales and powers."""
    single = {v.path: float(np.asarray(v)) for v in model.trainable_variables if v.shape == ()}
    return {"temperature": model.temperature} | single
