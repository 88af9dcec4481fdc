"""From the encoder's dimension to the towers', starting as the directions in which the catalogue differs most."""

from typing import Any

import keras
import numpy as np
import tensorflow as tf


@keras.saving.register_keras_serializable("tandem")
class TextProjection(keras.layers.Layer):
    """A linear map without bias, float32 out: no text stays the zero vector.

    Args:
      dimension: length of the vector.
    """

    def __init__(self, dimension: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.dimension = dimension

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Makes the kernel; the same one in both towers, so that equal texts meet from the start."""
        self.kernel = self.add_weight(
            name="kernel",
            shape=(input_shape[-1], self.dimension),
            initializer=keras.initializers.Orthogonal(seed=1),
        )
        self.built = True

    def call(self, text: Any) -> Any:
        """Projects float [B, E] -> float32 [B, dimension]."""
        kernel = tf.convert_to_tensor(self.kernel)
        return tf.cast(tf.matmul(tf.cast(text, kernel.dtype), kernel), tf.float32)


def principal_directions(vectors: np.ndarray, dimension: int) -> np.ndarray:
    """Returns the projection that keeps inner products of the given texts best.

    The leading eigenvectors of V^T V, not centred; where dimension > E, the rest is 0.

    Args:
      vectors: float [N, E], N >= 1.
      dimension: D.

    Returns:
      float32 [E, D], orthonormal columns up to min(E, D).
    """
    vectors = vectors.astype(np.float64)
    _, directions = np.linalg.eigh(vectors.T @ vectors)
    directions = directions[:, ::-1][:, :dimension]
    missing = dimension - directions.shape[1]
    return np.pad(directions, ((0, 0), (0, missing))).astype(np.float32)
