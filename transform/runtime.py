"""What the process needs before TensorFlow loads."""

import os

from transform.errors import TandemError

_LEGACY_KERAS = "TF_USE_LEGACY_KERAS"


def prepare_environment() -> None:
    """Sets what TensorFlow reads once, at import; call it before anything imports TensorFlow.

    TensorFlow Recommenders, TensorFlow Transform and TFMA need Keras 2 as `tf.keras`; the towers use Keras 3
    as `keras`. Both live in one process when `TF_USE_LEGACY_KERAS=1` is set.
    """
    os.environ[_LEGACY_KERAS] = "1"
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("KERAS_BACKEND", "tensorflow")


def check_environment() -> None:
    """Stops early where the process was started without `prepare_environment`.

    Raises:
      TandemError: `TF_USE_LEGACY_KERAS` is not 1.
    """
    value = os.environ.get(_LEGACY_KERAS)
    if value != "1":
        raise TandemError(
            f"{_LEGACY_KERAS} is {value!r}, expected '1' before TensorFlow loads: start through the"
            f" `tandem` command, or export {_LEGACY_KERAS}=1."
        )
