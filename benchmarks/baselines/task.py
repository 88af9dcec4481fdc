"""What a baseline is given and what it returns; NumPy alone, so that every environment can read it."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

DEPTH = 100
_BLOCK_SCORES = 1 << 25  # scores held at once, 128 MiB in float32


class Task(NamedTuple):
    """Requests to rank a catalogue for, and all that was known before them. Targets are kept elsewhere.

    Items are numbered by popularity, most users (or queries) first, then by id: what a baseline cannot tell apart comes in
    that order.

    Attributes:
      texts: str [N], what the encoder reads of each item.
      users: int64 [Q], the request's user as a row of the events' users; -1 for one without events, or none.
      queries: str [Q], "" for none.
      excluded, excluded_offsets: items that are no candidates of request q:
        excluded[excluded_offsets[q] : excluded_offsets[q + 1]].
      event_users, event_items: int64 [E], who acted on what, repeats kept; -1 for nobody.
      event_days: float64 [E], days before the held-out time, above 0.
      event_queries: str [E], "" for none.
    """

    texts: NDArray[np.str_]
    users: NDArray[np.int64]
    queries: NDArray[np.str_]
    excluded: NDArray[np.int64]
    excluded_offsets: NDArray[np.int64]
    event_users: NDArray[np.int64]
    event_items: NDArray[np.int64]
    event_days: NDArray[np.float64]
    event_queries: NDArray[np.str_]

    def excluded_of(self, request: int) -> NDArray[np.int64]:
        """Items that are no candidates of a request."""
        return self.excluded[self.excluded_offsets[request] : self.excluded_offsets[request + 1]]


class Ranking(NamedTuple):
    """The best items of each request, best first.

    Attributes:
      items: int64 [Q, K], -1 where there are fewer.
      scores: float32 [Q, K], -inf there.
    """

    items: NDArray[np.int64]
    scores: NDArray[np.float32]


def save_arrays(path: Path, arrays: Task | Ranking) -> None:
    """Writes a task or a ranking as `.npz`; it appears whole or not at all."""
    draft = path.with_name(f".{path.name}.tmp.npz")
    np.savez_compressed(draft, **arrays._asdict())
    draft.replace(path)


def load_task(path: Path) -> Task:
    """Reads what `save_arrays` wrote."""
    with np.load(path) as file:
        return Task(**{name: file[name] for name in Task._fields})


def load_ranking(path: Path) -> Ranking:
    """Reads what `save_arrays` wrote."""
    with np.load(path) as file:
        return Ranking(file["items"], file["scores"])


def rank_by_scores(task: Task, score: Callable[[slice], NDArray[np.floating]], depth: int = DEPTH) -> Ranking:
    """Ranks all candidates of each request by score, ties by item number.

    Args:
      task: the requests.
      score: a slice of the requests -> float [B, N], -inf for an item that is not ranked at all.
      depth: items kept.
    """
    items = np.full((len(task.users), depth), -1, np.int64)
    scores = np.full((len(task.users), depth), -np.inf, np.float32)
    for block in blocks(len(task.users), len(task.texts)):
        for request, row in enumerate(np.array(score(block), np.float32), block.start):
            row[task.excluded_of(request)] = -np.inf
            best = best_items(row, depth)
            items[request, : len(best)] = best
            scores[request, : len(best)] = row[best]
    return Ranking(items, scores)


def best_items(scores: NDArray[np.float32], depth: int) -> NDArray[np.int64]:
    """The highest of N scores, best first, ties by position; -inf is left out; int64 [at most depth]."""
    if len(scores) > depth:
        bar = np.partition(scores, len(scores) - depth)[len(scores) - depth]
        above = np.flatnonzero(scores > bar)
        at = np.flatnonzero(scores == bar)[: depth - len(above)]
        candidates = np.concatenate([above, at])
    else:
        candidates = np.arange(len(scores))
    candidates = candidates[scores[candidates] > -np.inf]
    return candidates[np.lexsort((candidates, -scores[candidates]))]


def blocks(requests: int, items: int) -> Iterator[slice]:
    """Slices of the requests, each of which bounds how many scores are held at once."""
    step = max(1, _BLOCK_SCORES // max(1, items))
    for start in range(0, requests, step):
        yield slice(start, min(requests, start + step))
