"""How much a candidate changed against the previous push on the same requests, and how sure that is."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

SAMPLES = 2000
_CELLS = 1 << 20  # counts held at once


class Change(NamedTuple):
    """A relative change of means, mean(candidate) / mean(previous) - 1, with a percentile interval.

    Attributes:
      mean: the change itself, as a share; +inf where only the previous mean is 0, 0 where both are.
      low, high: the interval's ends, as shares.
    """

    mean: float
    low: float
    high: float


def paired_bootstrap(
    candidate: NDArray[np.floating],
    previous: NDArray[np.floating],
    *,
    confidence: float = 0.95,
    samples: int = SAMPLES,
    seed: int = 0,
) -> Change:
    """Resamples requests, keeping each request's two values together (Efron & Tibshirani 1993, chapter 13).

    How hard a request is moves both values alike and so cancels out: the interval is as wide as the models'
    differences, not as wide as the requests'.

    Args:
      candidate: float [N], a metric of each request, not negative.
      previous: float [N], the same metric of the same requests.
      confidence: coverage of the interval, in (0, 1).
      samples: how many resamples.
      seed: the same seed gives the same interval.

    Raises:
      ValueError: the arrays differ in shape or are empty.
    """
    if candidate.shape != previous.shape or candidate.ndim != 1 or not len(candidate):
        raise ValueError(
            f"got values of shape {candidate.shape} and {previous.shape}, expected two equal [N], N >= 1"
        )
    # Requests with the same two scores are alike: how often each kind is drawn is multinomial.
    kinds, counts = np.unique(
        np.stack([candidate, previous], axis=1).astype(np.float64), axis=0, return_counts=True
    )
    random = np.random.default_rng(seed)
    chunk = max(1, _CELLS // len(kinds))
    changes = []
    for start in range(0, samples, chunk):
        drawn = random.multinomial(len(candidate), counts / len(candidate), min(chunk, samples - start))
        changes.append(_relative(drawn @ kinds))
    tail = (1 - confidence) / 2
    # Outward, without interpolation: a resample may be infinite.
    ordered = np.concatenate(changes)
    low = np.quantile(ordered, tail, method="lower")
    high = np.quantile(ordered, 1 - tail, method="higher")
    return Change(float(_relative(counts[np.newaxis] @ kinds)[0]), float(low), float(high))


def _relative(sums: NDArray[np.float64]) -> NDArray[np.float64]:
    """[K, 2] sums of candidate and previous -> [K] relative changes."""
    candidate, previous = sums.T
    from_nothing = np.where(candidate > 0, np.inf, 0.0)
    return np.divide(candidate - previous, previous, out=from_nothing, where=previous > 0)
