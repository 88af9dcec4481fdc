"""How sure a difference between two models is, on the same requests."""

from typing import NamedTuple

import numpy as np

_CHUNK = 64


class Difference(NamedTuple):
    """Mean of candidate minus previous over requests, with a percentile interval.

    Attributes:
      mean: of the differences.
      low, high: the interval's ends.
      rows: how many requests.
    """

    mean: float
    low: float
    high: float
    rows: int


def paired_bootstrap(
    candidate: np.ndarray, previous: np.ndarray, *, level: float = 0.95, samples: int = 2000, seed: int = 0
) -> Difference:
    """Resamples requests, keeping each request's two values together (Efron & Tibshirani 1993, chapter 13).

    Args:
      candidate: float [N], a metric of each request.
      previous: float [N], the same metric of the same requests.
      level: coverage of the interval, in (0, 1).
      samples: how many resamples.
      seed: the same seed gives the same interval.

    Raises:
      ValueError: the arrays differ in shape or are empty.
    """
    if candidate.shape != previous.shape or candidate.ndim != 1 or not len(candidate):
        raise ValueError(
            f"got values of shape {candidate.shape} and {previous.shape}, expected two equal [N], N >= 1"
        )
    difference = candidate.astype(np.float64) - previous.astype(np.float64)
    random = np.random.default_rng(seed)
    means = np.empty(samples)
    for start in range(0, samples, _CHUNK):
        stop = min(start + _CHUNK, samples)
        picked = random.integers(0, len(difference), (stop - start, len(difference)))
        means[start:stop] = difference[picked].mean(axis=1)
    tail = (1 - level) / 2
    low, high = np.quantile(means, [tail, 1 - tail])
    return Difference(float(difference.mean()), float(low), float(high), len(difference))
