"""Tandem's index beside exact search, faiss (IVF, HNSW) and hnswlib: recall against queries a second, build time, memory."""

import argparse
import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.environment import ROOT, baseline_python, run_there
from benchmarks.index_data import draw_clustered, load, save
from benchmarks.index_report import report

TANDEM = "ScaNN"
LIBRARIES = ("exact", TANDEM, "faiss IVF", "faiss HNSW", "hnswlib")


def read_catalogue(push: Path, rows: Path) -> tuple[np.ndarray, np.ndarray]:
    """Item vectors of a pushed version, and those of every distinct held-out request of a run.

    Args:
      push: directory of the version.
      rows: directory of InteractionGen's split eval.
    """
    import tensorflow as tf

    from serving.embed_queries import embed_queries

    queries = embed_queries(str(push), str(rows), sys.maxsize)
    if queries is None:
        raise SystemExit(f"{rows} holds no row, expected held-out requests as InteractionGen writes them")
    items = tf.saved_model.load(str(push)).item_vectors.numpy()
    distinct = np.unique(queries, axis=0)
    return items, np.random.default_rng(0).permutation(distinct)


def measure(
    name: str, directory: Path, make: Callable[[], tuple[np.ndarray, np.ndarray]], python: Path
) -> Any:
    """Figures of all libraries on one data set; steps that are done already are not done again."""
    if not (directory / "exact.npy").exists():
        save(directory, *make())
    figures: dict[str, Any] = {}
    for library in LIBRARIES:
        figures[library] = {}
        for step in ("build", "measure"):
            done = directory / f"{library}.{step}.json"
            if not done.exists():
                print(f"{name}: {step} {library}", flush=True)
                if library == TANDEM:
                    run_there(Path(sys.executable), "benchmarks.index_scann", [step, directory])
                else:
                    run_there(python, "benchmarks.baselines.neighbours", [step, directory, library])
            figures[library] |= json.loads(done.read_text(encoding="utf-8"))
    vectors = load(directory)
    return {
        "items": len(vectors.items),
        "dimension": vectors.items.shape[1],
        "queries": len(vectors.queries),
        "libraries": figures,
    }


def main() -> None:
    """Measures, writes JSON and the section of docs/benchmarks.md."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--items", type=int, default=1_000_000, help="drawn vectors (default: 1000000)")
    parser.add_argument("--dimension", type=int, default=128, help="of drawn vectors (default: 128)")
    parser.add_argument("--push", type=Path, help="a pushed version, whose vectors are a second data set")
    parser.add_argument("--rows", type=Path, help="split eval of its run, whose requests are asked")
    parser.add_argument("--environment", type=Path, default=ROOT / "work" / "quality" / "environment")
    parser.add_argument("--work", type=Path, default=Path("work/index"), help="vectors and built indexes")
    parser.add_argument("--again", action="store_true", help="forget what was built and measured before")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/index.json"), help="figures")
    options = parser.parse_args()
    if (options.push is None) != (options.rows is None):
        parser.error("--push and --rows go together, expected both or neither")
    if options.again:
        shutil.rmtree(options.work, ignore_errors=True)
    python = baseline_python(options.environment)
    results = json.loads(options.out.read_text(encoding="utf-8")) if options.out.exists() else {}

    def keep(name: str, folder: str, make: Callable[[], tuple[np.ndarray, np.ndarray]]) -> None:
        results[name] = measure(name, options.work / folder, make, python)
        options.out.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
        report(results)

    if options.push:
        keep("catalogue", "catalogue", lambda: read_catalogue(options.push, options.rows))
    size = f"{options.items}x{options.dimension}"
    keep(f"drawn {size}", f"drawn-{size}", lambda: draw_clustered(options.items, options.dimension, 2000))


if __name__ == "__main__":
    main()
