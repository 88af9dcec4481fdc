"""The learning rate over one run, whatever number of steps the runs before it took."""

from typing import Any

import keras
import tensorflow as tf


@keras.saving.register_keras_serializable("tandem")
class RunDecay(keras.optimizers.schedules.LearningRateSchedule):
    """rate(s) = initial * (1 - 0.95 min(1, (s - start) / steps)): a straight line down to a twentieth.

    Args:
      initial: rate of this run's first step.
      steps: of this run.
      start: optimizer steps before this run; a warm-started optimizer goes on counting.
    """

    def __init__(self, initial: float, steps: int, start: int = 0) -> None:
        super().__init__()
        self.initial = initial
        self.steps = steps
        self.start = start

    def __call__(self, step: Any) -> Any:
        """Returns the rate of optimizer step `step`, float32 []."""
        done = (tf.cast(step, tf.float32) - float(self.start)) / float(max(self.steps, 1))
        return self.initial * (1.0 - 0.95 * tf.clip_by_value(done, 0.0, 1.0))

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments."""
        return {"initial": self.initial, "steps": self.steps, "start": self.start}
