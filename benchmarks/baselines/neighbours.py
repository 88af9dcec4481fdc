"""faiss and hnswlib, in the baselines' own environment: builds an index of a data set, or measures one that is there."""

import argparse
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks.index_measure import Search, curve, resident_mb, use_one_core

LINKS, CONSTRUCTION = 16, 100  # of both graphs


class Library(NamedTuple):
    """How one kind of index is made, kept and asked.

    Attributes:
      build: items [N, D] -> index.
      write: index, file.
      read: file, D -> index.
      search: index, value of its knob -> search.
      knobs: number of items, k -> values, cheapest first.
    """

    build: Callable[[np.ndarray], Any]
    write: Callable[[Any, str], None]
    read: Callable[[str, int], Any]
    search: Callable[[Any, int], Search]
    knobs: Callable[[int, int], Sequence[int]]


def _faiss(kind: Callable[[int, int], str], knob: str, knobs: Callable[[int, int], Sequence[int]]) -> Library:
    """An index of faiss by its factory's name, which may depend on the number of items and their length."""
    import faiss

    def build(items: np.ndarray) -> Any:
        index = faiss.index_factory(items.shape[1], kind(*items.shape), faiss.METRIC_INNER_PRODUCT)
        if hasattr(index, "hnsw"):
            index.hnsw.efConstruction = CONSTRUCTION
        index.train(items)
        index.add(items)
        return index

    def search(index: Any, value: int) -> Search:
        parameters = faiss.ParameterSpace()

        def ask(queries: np.ndarray, k: int) -> np.ndarray:
            return index.search(queries, k)[1]

        if knob:
            parameters.set_index_parameter(index, knob, value)
        return ask

    return Library(build, faiss.write_index, lambda path, _: faiss.read_index(path), search, knobs)


def _hnswlib() -> Library:
    import hnswlib

    def build(items: np.ndarray) -> Any:
        index = hnswlib.Index("ip", items.shape[1])
        index.init_index(len(items), M=LINKS, ef_construction=CONSTRUCTION)
        index.add_items(items)
        return index

    def read(path: str, dimension: int) -> Any:
        index = hnswlib.Index("ip", dimension)
        index.load_index(path)
        return index

    def search(index: Any, value: int) -> Search:
        index.set_ef(value)
        return lambda queries, k: index.knn_query(queries, k, num_threads=1)[0].astype(np.int64)

    return Library(build, lambda index, path: index.save_index(path), read, search, _breadths)


def _breadths(items: int, k: int) -> Sequence[int]:
    return [ef for ef in (10, 20, 40, 70, 100, 150, 250, 400, 700, 1200, 2000) if ef >= k]


def _probes(items: int, k: int) -> Sequence[int]:
    return [probes for probes in (1, 2, 4, 8, 16, 32, 64, 128, 256, 512) if probes <= partitions(items)]


def partitions(items: int) -> int:
    """The square root of the number of items, as Tandem's index has."""
    return round(items**0.5)


LIBRARIES: dict[str, Callable[[], Library]] = {
    "exact": lambda: _faiss(lambda n, d: "Flat", "", lambda n, k: [0]),
    "faiss IVF": lambda: _faiss(lambda n, d: f"IVF{partitions(n)},Flat", "nprobe", _probes),
    "faiss HNSW": lambda: _faiss(lambda n, d: f"HNSW{LINKS},Flat", "efSearch", _breadths),
    "hnswlib": _hnswlib,
}


def main() -> int:
    """Command line: `build DIRECTORY LIBRARY` or `measure DIRECTORY LIBRARY`; writes JSON beside the data."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("step", choices=("build", "measure"), help="an index from items.npy, or its figures")
    parser.add_argument("directory", type=Path, help="of a data set")
    parser.add_argument("library", choices=LIBRARIES, help="whose index")
    options = parser.parse_args()
    file = options.directory / f"{options.library}.index"
    if options.step == "build":
        library = LIBRARIES[options.library]()
        items = np.load(options.directory / "items.npy")
        started = time.process_time()
        index = library.build(items)
        figures: dict[str, Any] = {"build_seconds": round(time.process_time() - started, 1)}
        library.write(index, str(file))
    else:
        use_one_core()
        library = LIBRARIES[options.library]()
        queries, exact = (np.load(options.directory / f"{name}.npy") for name in ("queries", "exact"))
        count, dimension = np.load(options.directory / "items.npy", mmap_mode="r").shape
        before = resident_mb()
        index = library.read(str(file), dimension)
        points = []
        for k in (10, 100):
            settings = ((str(value), library.search(index, value)) for value in library.knobs(count, k))
            points += curve(settings, queries, exact, k)
        figures = {"memory_mb": round(resident_mb() - before), "points": points}
    out = options.directory / f"{options.library}.{options.step}.json"
    out.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
