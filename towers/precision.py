"""Which arithmetic the towers use: the `precision` setting, settled for the hardware at hand."""

import functools
from typing import Any, NamedTuple

from towers.settings import TrainingSettings
from towers.workers import read_workers


class Precision(NamedTuple):
    """A Keras dtype policy, and why it was chosen."""

    policy: str
    reason: str


def choose_precision(setting: str, gpus: int) -> Precision:
    """Settles "auto": float16 is about 4 times slower than float32 on a CPU, and faster on a GPU.

    Args:
      setting: auto, float32, mixed_float16 or mixed_bfloat16.
      gpus: how many GPUs TensorFlow sees.
    """
    if setting != "auto":
        return Precision(setting, "as set")
    if gpus:
        return Precision("mixed_float16", f"auto, {gpus} GPU(s)")
    return Precision("float32", "auto, no GPU")


def with_loss_scaling(optimizer: Any, policy: str) -> Any:
    """Wraps the optimizer in dynamic loss scaling where float16 gradients would underflow."""
    if policy != "mixed_float16":
        return optimizer
    from towers.loss_scale import JointLossScale

    return JointLossScale(optimizer, name="loss_scale")


def prepare_devices(settings: TrainingSettings) -> None:
    """Makes the logical CPU devices that `training.replicas` asks for; with a GPU or one replica, nothing.

    TensorFlow fixes its devices when it runs its first operation, so call it at the start of the process.

    Raises:
      TandemError: TensorFlow already runs on fewer devices.
    """
    import tensorflow as tf

    from transform.errors import TandemError

    if settings.replicas == 1 or tf.config.list_physical_devices("GPU"):
        return
    devices = [tf.config.LogicalDeviceConfiguration()] * settings.replicas
    cpu = tf.config.list_physical_devices("CPU")[0]
    if len(tf.config.get_logical_device_configuration(cpu) or []) >= settings.replicas:
        return
    try:
        tf.config.set_logical_device_configuration(cpu, devices)
    except RuntimeError:
        raise TandemError(
            f"training.replicas is {settings.replicas}, but TensorFlow already runs on"
            f" {len(tf.config.list_logical_devices('CPU'))} CPU device(s) here;"
            " start training in a process of its own, or set training.replicas to 1."
        ) from None


def make_strategy(settings: TrainingSettings) -> Any:
    """Returns the distribution strategy.

    One machine: every GPU, or as many logical CPU devices as replicas are set. Where TF_CONFIG names several: every GPU of
    every one, or the CPU of every one; this waits until all of them are there.

    Raises:
      TandemError: see `prepare_devices` and `read_workers`.
    """
    import tensorflow as tf

    if read_workers().size > 1:
        return _multi_worker()
    prepare_devices(settings)
    if tf.config.list_physical_devices("GPU"):
        return _mirrored(None)
    return _mirrored(tuple(f"CPU:{index}" for index in range(settings.replicas)))


@functools.lru_cache
def _mirrored(devices: tuple[str, ...] | None) -> Any:
    """One strategy a process: a second one would number its collective operations as the first one did, and clash."""
    import tensorflow as tf

    return tf.distribute.MirroredStrategy(devices)


@functools.lru_cache
def _multi_worker() -> Any:
    """One strategy a process, which can be made only before TensorFlow has run anything."""
    import tensorflow as tf

    return tf.distribute.MultiWorkerMirroredStrategy()
