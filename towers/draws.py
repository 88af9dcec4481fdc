"""Random numbers of a training step that depend on seed, step and replica alone, whatever was drawn before.

A run that goes on from a checkpoint then draws what it would have drawn, and no two replicas draw the same.
"""

import contextlib
import threading
from collections.abc import Iterator
from typing import Any

import tensorflow as tf

_now = threading.local()  # replicas are traced in threads of their own


@contextlib.contextmanager
def draws_of(seed: int, step: Any, replica: Any) -> Iterator[None]:
    """What `uniform` draws inside this block.

    Args:
      seed: of the run.
      step: int64 [], which step of the run.
      replica: int [], which replica of the step, below 2^16.
    """
    if getattr(_now, "seed", None) is not None:
        raise RuntimeError("draws_of inside draws_of, expected one block a step.")
    _now.seed, _now.number = seed, 0
    _now.place = tf.cast(step, tf.int64) * 2**16 + tf.cast(replica, tf.int64)
    try:
        yield
    finally:
        _now.seed = _now.place = None


def uniform(shape: Any, low: int = 0, high: int | None = None, dtype: Any = tf.float32) -> Any:
    """Draws evenly from [0, 1), or for an integer dtype from [low, high); outside of `draws_of`, anything.

    Args:
      shape: int [n], or a list.
      low: smallest integer.
      high: 1 + largest integer.
      dtype: tf.float32 or an integer type.

    Returns:
      dtype, of the shape.
    """
    if getattr(_now, "seed", None) is None:
        return tf.random.uniform(shape, low, high, dtype=dtype)
    _now.number += 1
    seed = tf.stack([tf.constant(_now.seed % 2**32 * 2**16 + _now.number, tf.int64), _now.place])
    return tf.random.stateless_uniform(shape, seed, low, high, dtype=dtype)
