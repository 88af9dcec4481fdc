"""Several machines that train one model: which of them this process is, as TF_CONFIG says."""

import json
import os
from collections.abc import Mapping
from typing import Any, NamedTuple

from transform.errors import TandemError

_TRAINING = ("chief", "worker")  # types of task that train; an evaluator or parameter server is not ours


class Workers(NamedTuple):
    """The processes that train together, and this one among them.

    Attributes:
      size: how many there are.
      rank: of this one; the chief's is 0.
    """

    size: int
    rank: int

    @property
    def is_chief(self) -> bool:
        """Whether this is the one that writes."""
        return self.rank == 0


def read_workers(environment: Mapping[str, str] = os.environ) -> Workers:
    """Reads TF_CONFIG, as the Kubeflow training operator and Vertex AI set it; without it a process trains alone.

    Raises:
      TandemError: TF_CONFIG is not what TensorFlow documents, or this task is none that trains.
    """
    text = environment.get("TF_CONFIG", "")
    if not text:
        return Workers(1, 0)
    try:
        config = json.loads(text)
        sizes = {kind: len(config.get("cluster", {}).get(kind, ())) for kind in _TRAINING}
        if sum(sizes.values()) <= 1:
            return Workers(1, 0)
        kind, number = config["task"]["type"], int(config["task"]["index"])
        if kind not in _TRAINING or not 0 <= number < sizes[kind]:
            raise ValueError(
                f"task {kind} {number} is none of {sizes['chief']} chief, {sizes['worker']} worker"
            )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise TandemError(
            f"TF_CONFIG is {text[:200]!r} ({error}), expected JSON with cluster.chief, cluster.worker, task.type and"
            " task.index; let the training operator set it, or unset it to train on this machine alone."
        ) from None
    return Workers(sum(sizes.values()), number + (sizes["chief"] if kind == "worker" else 0))


def wait_for_all(strategy: Any) -> None:
    """Returns once every worker is here; where one has died, its TensorFlow error is raised instead."""
    agree(strategy, "the end of training", 0)


def agree(strategy: Any, what: str, value: int) -> None:
    """Stops where workers do not hold the same number.

    Raises:
      TandemError: they do not.
    """
    found = _of_all(strategy, value)
    if set(found) != {value}:
        raise TandemError(
            f"{what} is {value} for this worker, and {found} for all, expected one number;"
            " give every worker the same files on one volume."
        )


def of_chief(strategy: Any, value: float) -> float:
    """The chief's number; all workers have to ask for it."""
    return float(_of_all(strategy, value)[0])


def _of_all(strategy: Any, value: float) -> list[Any]:
    """Every replica's number, the chief's first: of integers int64, else float64."""
    import tensorflow as tf

    kind = tf.int64 if isinstance(value, int) else tf.float64

    @tf.function(autograph=False)
    def of_all() -> Any:
        return strategy.gather(strategy.run(lambda: tf.constant([value], kind)), axis=0)

    return list(of_all().numpy().tolist())
