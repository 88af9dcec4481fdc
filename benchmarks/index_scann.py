"""Tandem's own index (ScaNN): builds and tunes it on a data set, or measures one that is there, with the others' steps."""

import argparse
import importlib
import json
import logging
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.index_data import load
from benchmarks.index_measure import Search, curve, resident_mb, use_one_core
from serving.index import Index, load_index
from serving.index_build import build_index
from serving.index_tuning import Tuning
from serving.settings import IndexSettings
from transform.errors import TandemError

TARGETS = (0.8, 0.9, 0.95, 0.98, 0.995)


def build(directory: Path) -> dict[str, Any]:
    """Builds with the default settings; other targets of the tuner are the points of the curve."""
    vectors = load(directory)
    started = time.process_time()
    index = build_index(vectors.items, IndexSettings(), vectors.tuning)
    seconds = time.process_time() - started
    index.save(directory / "ScaNN.index")
    started = time.process_time()
    index.tuned(vectors.items, vectors.tuning, target=IndexSettings().target_recall)
    of_these = time.process_time() - started
    tunings = []
    for k in (10, 100):
        for target in TARGETS:
            try:
                tuning = index.tuned(vectors.items, vectors.tuning, k=k, target=target).tuning
            except TandemError as error:
                print(error, flush=True)
                break
            assert tuning, "a data set so small that its index is exact"
            tunings.append(tuning.model_dump())
    return {
        "build_seconds": round(seconds, 1),
        "tuning_seconds": round(of_these, 1),
        "tuning": index.tuning.model_dump() if index.tuning else None,
        "tunings": tunings,
    }


def measure(directory: Path) -> dict[str, Any]:
    """Figures of what `build` left, loaded as a server loads it."""
    queries, exact = (np.load(directory / f"{name}.npy") for name in ("queries", "exact"))
    tunings = json.loads((directory / "ScaNN.build.json").read_text(encoding="utf-8"))["tunings"]
    # TensorFlow comes with it, which a server has anyway.
    importlib.import_module("scann.scann_ops.py.scann_ops_pybind")
    before = resident_mb()
    index = load_index(directory / "ScaNN.index", k=100)
    points = []
    for k in (10, 100):
        wanted = [Tuning.model_validate(values) for values in tunings if values["k"] == k]
        points += curve(_settings(index, wanted), queries, exact, k)
    return {"memory_mb": round(resident_mb() - before), "points": points}


def _settings(index: Index, tunings: list[Tuning]) -> Iterator[tuple[str, Search]]:
    for tuning in tunings:
        index.k, index.tuning = tuning.k, tuning
        yield (
            f"target {tuning.target:g}: {tuning.searched} leaves, {tuning.reorder} compared",
            lambda queries, k: index.search(queries, k).rows,
        )


def main() -> int:
    """Command line: `build DIRECTORY` or `measure DIRECTORY`; writes JSON beside the data."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("step", choices=("build", "measure"), help="an index from items.npy, or its figures")
    parser.add_argument("directory", type=Path, help="of a data set")
    options = parser.parse_args()
    if options.step == "measure":
        use_one_core()
    logging.basicConfig(level=logging.INFO, stream=sys.stdout, format="%(message)s")
    figures = {"build": build, "measure": measure}[options.step](options.directory)
    out = options.directory / f"ScaNN.{options.step}.json"
    out.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
