"""Adam that touches only the embedding rows a step has used, with a step size of its own for the encoder."""

from typing import Any

import keras
import tensorflow as tf


@keras.saving.register_keras_serializable("tandem")
class RowAdam(keras.optimizers.Adam):
    """Adam; where a gradient has rows (tf.IndexedSlices), only these rows of variable and slots change.

    m = b1 m + (1 - b1) g, v = b2 v + (1 - b2) g^2, w = w - rate m / (sqrt(v) + epsilon), after Kingma & Ba 2015,
    with bias-corrected rate. Rows a step has not seen keep m and v as they are ("lazy" Adam), so a step costs what
    its batch costs, whatever the size of the catalogue.

    Args:
      learning_rate: a float or a schedule.
      encoder_scale: times learning_rate is the step size of the encoder's variables.
      encoder_variables: which these are.
    """

    def __init__(
        self,
        learning_rate: Any = 0.003,
        encoder_scale: float = 1.0,
        encoder_variables: Any = (),
        **kwargs: Any,
    ) -> None:
        super().__init__(learning_rate=learning_rate, **kwargs)
        self.encoder_scale = encoder_scale
        self._encoder_paths = {variable.path for variable in encoder_variables}
        self._encoder_indices: set[int] = set()

    def build(self, var_list: list[Any]) -> None:
        """Makes the slots, and notes which variables are the encoder's."""
        super().build(var_list)
        self._encoder_indices = {
            index for index, variable in enumerate(var_list) if variable.path in self._encoder_paths
        }

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """Updates one variable from its gradient, dense or of rows."""
        index = self._get_variable_index(variable)
        if index in self._encoder_indices:
            learning_rate = learning_rate * self.encoder_scale
        if not isinstance(gradient, tf.IndexedSlices):
            super().update_step(gradient, variable, learning_rate)
            return
        rows, inverse = tf.unique(gradient.indices)
        values = tf.math.unsorted_segment_sum(gradient.values, inverse, tf.size(rows))
        values = tf.cast(values, variable.dtype)
        momentum, velocity = self._momentums[index].value, self._velocities[index].value
        m = self.beta_1 * tf.gather(momentum, rows) + (1 - self.beta_1) * values
        v = self.beta_2 * tf.gather(velocity, rows) + (1 - self.beta_2) * tf.square(values)
        step = tf.cast(self.iterations + 1, variable.dtype)
        rate = (
            tf.cast(learning_rate, variable.dtype) * tf.sqrt(1 - self.beta_2**step) / (1 - self.beta_1**step)
        )
        momentum.scatter_update(tf.IndexedSlices(m, rows))
        velocity.scatter_update(tf.IndexedSlices(v, rows))
        variable.scatter_sub(tf.IndexedSlices(rate * m / (tf.sqrt(v) + self.epsilon), rows))

    def get_config(self) -> dict[str, Any]:
        """Returns Adam's configuration and the encoder's scale."""
        return {**super().get_config(), "encoder_scale": self.encoder_scale}
