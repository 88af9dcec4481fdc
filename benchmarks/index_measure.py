"""Recall and queries a second of one index in a process that has nothing else in memory; NumPy alone."""

import json
import os
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np

BATCH = 64
ROUNDS = 3
SECONDS = 0.4  # of a round; processor time, which other work on the machine does not lengthen
ENOUGH = 0.9995  # a dearer setting cannot find more

# Query vectors [B, D] and k -> rows [B, k].
Search = Callable[[np.ndarray, int], np.ndarray]


def use_one_core() -> None:
    """Lets this process, and all libraries that it will load, have one core."""
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})


def resident_mb() -> float:
    """Memory of this process."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def recall(found: np.ndarray, exact: np.ndarray) -> float:
    """Share of the exact rows that are among the found; both [Q, k]."""
    return float(
        np.mean([len(set(f) & set(e)) / len(e) for f, e in zip(found.tolist(), exact.tolist(), strict=True)])
    )


def rate(search: Search, queries: np.ndarray, k: int, batch: int) -> float:
    """Queries a second of processor time, the median of some rounds; a round ends with the queries or after its time."""
    rates = []
    for _ in range(ROUNDS):
        started, asked = time.process_time(), 0
        while asked + batch <= len(queries) and time.process_time() - started < SECONDS:
            search(queries[asked : asked + batch], k)
            asked += batch
        rates.append(asked / (time.process_time() - started))
    return float(np.median(rates))


def curve(
    settings: Iterable[tuple[str, Search]], queries: np.ndarray, exact: np.ndarray, k: int
) -> list[dict[str, Any]]:
    """A point a setting, cheapest first, until nearly all is found."""
    points: list[dict[str, Any]] = []
    for name, search in settings:
        found = np.concatenate([search(queries[n : n + BATCH], k) for n in range(0, len(queries), BATCH)])
        point = {"k": k, "setting": name, "recall": round(recall(found, exact[:, :k]), 4)}
        point |= {
            "single": round(rate(search, queries, k, 1)),
            "batch": round(rate(search, queries, k, BATCH)),
        }
        print(json.dumps(point), flush=True)
        points.append(point)
        if point["recall"] >= ENOUGH:
            break
    return points
