"""Vectors and queries that indexes are compared on, with each query's exact neighbours, kept on disk."""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

NEIGHBOURS = 100  # kept of each query
_GROUPS, _CLUSTERS = 200, 5000
_BLOCK = 100_000


class Vectors(NamedTuple):
    """What an index is built from and asked.

    Attributes:
      items: float32 [N, D].
      tuning: float32 [T, D], queries that settings may be chosen on.
      queries: float32 [Q, D], others of the same kind, that are measured on.
      exact: int64 [Q, 100], rows of the largest inner products, best first.
    """

    items: np.ndarray
    tuning: np.ndarray
    queries: np.ndarray
    exact: np.ndarray


def draw_clustered(items: int, dimension: int, queries: int) -> tuple[np.ndarray, np.ndarray]:
    """Items and queries of length 1 in clusters of groups, as types of products in departments.

    Clusters' sizes are log-normal; what sets items of one apart has few strong directions and many weak ones (the n-th's
    standard deviation falls with the root of n), turned for each group.
    """
    random = np.random.default_rng(0)
    group_of = random.integers(0, _GROUPS, _CLUSTERS)
    groups = random.normal(size=(_GROUPS, dimension))
    centres = (groups[group_of] + 0.7 * random.normal(size=(_CLUSTERS, dimension))).astype(np.float32)
    share = random.lognormal(0.0, 1.0, _CLUSTERS)
    spectrum = 1 / np.sqrt(np.arange(1, dimension + 1))
    spectrum *= np.sqrt(dimension / (spectrum**2).sum())
    turns = np.linalg.qr(random.normal(size=(_GROUPS, dimension, dimension)))[0]
    turns = (spectrum[:, np.newaxis] * turns).astype(np.float32)
    of = random.choice(_CLUSTERS, items + queries, p=share / share.sum())
    drawn = np.empty((items + queries, dimension), np.float32)
    for group in range(_GROUPS):
        rows = np.flatnonzero(group_of[of] == group)
        noise = random.standard_normal((len(rows), dimension), np.float32)
        drawn[rows] = centres[of[rows]] + 0.8 * noise @ turns[group]
    drawn /= np.linalg.norm(drawn, axis=1, keepdims=True)
    return drawn[:items], drawn[items:]


def exact_neighbours(items: np.ndarray, queries: np.ndarray) -> np.ndarray:
    """Rows of the largest inner products, best first, int64 [Q, 100], by blocks of items."""
    best, rows = np.empty((len(queries), 0), np.float32), np.empty((len(queries), 0), np.int64)
    for start in range(0, len(items), _BLOCK):
        scores = queries @ items[start : start + _BLOCK].T
        places = np.argpartition(-scores, min(NEIGHBOURS, scores.shape[1] - 1), axis=1)[:, :NEIGHBOURS]
        best = np.concatenate([best, np.take_along_axis(scores, places, axis=1)], axis=1)
        rows = np.concatenate([rows, start + places], axis=1)
        kept = np.argsort(-best, axis=1, kind="stable")[:, :NEIGHBOURS]
        best, rows = np.take_along_axis(best, kept, axis=1), np.take_along_axis(rows, kept, axis=1)
    return rows


def save(directory: Path, items: np.ndarray, queries: np.ndarray) -> None:
    """Writes what `load` reads; every second query is for tuning."""
    directory.mkdir(parents=True, exist_ok=True)
    measured = queries[1::2]
    arrays: dict[str, Any] = {"items": items, "tuning": queries[::2], "queries": measured}
    arrays["exact"] = exact_neighbours(items, measured)
    for name, array in arrays.items():  # the exact neighbours last: they say that the rest is whole
        np.save(directory / f"{name}.npy", np.ascontiguousarray(array))


def load(directory: Path) -> Vectors:
    """Reads what `save` wrote."""
    return Vectors(*(np.load(directory / f"{name}.npy") for name in Vectors._fields))
