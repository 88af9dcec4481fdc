"""Rankings kept on disk by what they were made from, so that an interrupted benchmark goes on where it was."""

import hashlib
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.baselines.task import Ranking, Task, load_ranking, save_arrays

_CODE = Path(__file__).parent / "baselines"


class Made(NamedTuple):
    """A ranking and what it took.

    Attributes:
      ranking: the ranking.
      seconds: to make it, when it was made.
    """

    ranking: Ranking
    seconds: float


def fingerprint(task: Task) -> str:
    """A digest of all that a baseline is given."""
    digest = hashlib.sha256()
    for name, values in task._asdict().items():
        digest.update(f"{name} {values.dtype} {values.shape}\0".encode())
        digest.update(values.tobytes())
    return digest.hexdigest()


def cached(directory: Path, name: str, key: dict[str, Any], make: Callable[[Path], Ranking | None]) -> Made:
    """Reads a ranking that was made before, or makes it; says which.

    Args:
      directory: of all rankings.
      name: of this one, for people.
      key: all that decides it; JSON.
      make: given a path, writes the ranking there, or returns it.
    """
    digest = hashlib.sha256(json.dumps([name, key], sort_keys=True).encode()).hexdigest()[:16]
    path = directory / f"{name.replace(' ', '_').replace(',', '')}-{digest}.npz"
    timing = path.with_suffix(".json")
    if path.is_file() and timing.is_file():
        seconds = json.loads(timing.read_text())["seconds"]
        print(f"{name}: made before, in {seconds:.0f} s", flush=True)
        return Made(load_ranking(path), seconds)
    print(f"{name} ...", flush=True)
    directory.mkdir(parents=True, exist_ok=True)
    started = time.perf_counter()
    ranking = make(path)
    seconds = time.perf_counter() - started
    if ranking is not None:
        save_arrays(path, ranking)
    timing.write_text(json.dumps({"seconds": seconds, "name": name, "key": key}, indent=1) + "\n")
    print(f"{name}: {seconds:.0f} s", flush=True)
    return Made(load_ranking(path), seconds)


def code_of(module: str) -> str:
    """A digest of a baseline's module and of what all share, so that changed code is run again."""
    paths = [_CODE / f"{name}.py" for name in (module, "task", "purchases")]
    paths.append(_CODE.parents[1] / "towers" / "item_to_item.py")  # EASE
    return hashlib.sha256(b"\0".join(path.read_bytes() for path in paths)).hexdigest()
