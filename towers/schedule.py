"""The learning rate over one run, whatever number of steps the runs before it took."""

from typing import Any

import keras
import tensorflow as tf


@keras.saving.register_keras_serializable("tandem")
class RunDecay(keras.optimizers.schedules.LearningRateSchedule):
    """rate(d) = initial * min(1, (d + 1) / (warm_up * steps)) * (1 - 0.95 min(1, d / steps)), d steps into the run.

    A straight line down to a twentieth; over the warm-up, times another one up from near 0.

    Args:
      initial: rate that is fallen from.
      steps: of this run.
      start: optimizer steps before this run; a warm-started optimizer goes on counting.
      warm_up: share of the steps.
    """

    def __init__(self, initial: float, steps: int, start: int = 0, warm_up: float = 0.0) -> None:
        super().__init__()
        self.initial = initial
        self.steps = steps
        self.start = start
        self.warm_up = warm_up

    def __call__(self, step: Any) -> Any:
        """Returns the rate of optimizer step `step`, float32 []."""
        done = tf.cast(step, tf.float32) - float(self.start)
        warm = tf.clip_by_value((done + 1.0) / max(self.warm_up * self.steps, 1.0), 0.0, 1.0)
        return self.initial * warm * (1.0 - 0.95 * tf.clip_by_value(done / max(self.steps, 1), 0.0, 1.0))

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments."""
        return {
            "initial": self.initial,
            "steps": self.steps,
            "start": self.start,
            "warm_up": self.warm_up,
        }
