"""Where comparing each eligible item becomes dearer than a wider search of the index, and what either finds."""

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from serving.filtered_search import search_eligible, wider_search
from serving.index_build import build_index
from serving.settings import IndexSettings

SHARES = (0.001, 0.01, 0.03, 0.05, 0.08, 0.12, 0.2, 0.3, 0.5, 0.8, 0.99)
CLUSTERS = 500  # each stands for a category


def milliseconds(call: Callable[[int], Any], times: int) -> float:
    """Median processor time of calls with 0, 1, ...: other work on the machine would drown the time by the clock."""
    taken = []
    for number in range(times):
        started = time.process_time()
        call(number)
        taken.append((time.process_time() - started) * 1000)
    return round(float(np.median(taken)), 3)


def measure(items: int, dimension: int, queries: int) -> dict[str, Any]:
    """One row a share of eligible items, drawn one by one and as whole categories."""
    random = np.random.default_rng(0)
    centres = random.normal(size=(CLUSTERS, dimension))
    category = random.integers(0, CLUSTERS, items)
    vectors = (centres[category] + 0.7 * random.normal(size=(items, dimension))).astype(np.float32)
    asked = random.integers(0, items, queries)
    wanted = (vectors[asked] + 0.3 * random.normal(size=(queries, dimension))).astype(np.float32)
    settings = IndexSettings()
    index = build_index(vectors, settings)
    unfiltered = milliseconds(lambda n: index.search(wanted[n : n + 1]), queries)
    rows = []
    for drawn in ("items", "categories"):
        for share in SHARES:
            masks = [
                random.random(items) < share
                if drawn == "items"
                else (random.random(CLUSTERS) < share)[category]
                for _ in range(queries)
            ]
            exact = [
                search_eligible(q, m, index, vectors, exact=True) for q, m in zip(wanted, masks, strict=True)
            ]
            chosen = [search_eligible(q, m, index, vectors) for q, m in zip(wanted, masks, strict=True)]
            pairs = [(set(a.rows[0]) - {-1}, set(b.rows[0])) for a, b in zip(exact, chosen, strict=True)]
            found = [len(right & given) / len(right) for right, given in pairs if right]
            wider = (
                wider_search(settings.k, round(share * items), items)
                if share * items >= settings.k
                else items
            )
            rows.append(
                {
                    "drawn": drawn,
                    "share": share,
                    "eligible": round(share * items),
                    "compared by the index": index.compared(wider),
                    "index ms": milliseconds(lambda n, k=wider: index.search(wanted[n : n + 1], k), queries),
                    "exact ms": milliseconds(
                        lambda n, m=masks: search_eligible(wanted[n], m[n], index, vectors, exact=True),
                        queries,
                    ),
                    "chosen ms": milliseconds(
                        lambda n, m=masks: search_eligible(wanted[n], m[n], index, vectors), queries
                    ),
                    "recall": round(float(np.mean(found)), 4),
                }
            )
            print(json.dumps(rows[-1]), flush=True)
    return {
        "items": items,
        "dimension": dimension,
        "k": settings.k,
        "unfiltered ms": unfiltered,
        "rows": rows,
    }


def main() -> None:
    """Measures and writes JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--items", type=int, default=100_000, help="vectors (default: 100000)")
    parser.add_argument("--dimension", type=int, default=128, help="of a vector (default: 128)")
    parser.add_argument("--queries", type=int, default=40, help="timed, one by one (default: 40)")
    parser.add_argument("--out", default="benchmarks/results/filters.json", help="where the figures go")
    options = parser.parse_args()
    result = measure(options.items, options.dimension, options.queries)
    Path(options.out).write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
