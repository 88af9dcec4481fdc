"""Validates a bundle in a fresh process: hashes, warm-up, recall of the index against exact, latency."""

import argparse
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from serving.embed_queries import read_examples
from serving.settings import IndexSettings
from transform.errors import TandemError

if TYPE_CHECKING:
    from serving.loaded_bundle import Arrays, LoadedBundle

# Queries that are compared, and that are timed one by one; enough for a stable 99th percentile.
_QUERIES = 500
_TIMED = 300
_BATCH = 50


class Validation(NamedTuple):
    """What was found out about a bundle.

    Attributes:
      problems: why it must not be pushed, one line each; none if it may.
      queries: how many were compared.
      k: items a query is answered with.
      recall: share of the exact top k that the index finds; an item as good as the k-th counts as found.
      p50_ms: median time of a single request (embedding and search), in milliseconds.
      p99_ms: 99th percentile of it.
      item_count: items in the index.
    """

    problems: tuple[str, ...]
    queries: int = 0
    k: int = 0
    recall: float = 0.0
    p50_ms: float = 0.0
    p99_ms: float = 0.0
    item_count: int = 0


def validate_bundle(directory: str, settings: IndexSettings, examples: Sequence[bytes] = ()) -> Validation:
    """Loads a bundle as a server does and measures its index.

    Args:
      directory: the bundle.
      settings: the bars.
      examples: stored eval rows, which are asked as queries; without any, titles of the catalogue are asked.
    """
    import numpy as np

    from serving.ready_bundle import load_and_warm_up
    from serving.request_inputs import Limits

    try:
        bundle = load_and_warm_up(Path(directory), Limits())
        queries = _queries(bundle, examples)
        recall = _recall(bundle, queries)
        times = _times(bundle, queries)
    except (TandemError, ValueError) as error:
        return Validation(problems=(str(error),))
    p50, p99 = (float(np.percentile(times, q)) for q in (50, 99))
    manifest = bundle.manifest
    problems = []
    if not recall >= settings.min_recall:
        problems.append(
            f"the index finds {recall:.4f} of the exact top {manifest.k}, expected at least"
            f" {settings.min_recall}: raise index.target_recall"
        )
    if p99 > settings.max_p99_ms:
        problems.append(
            f"a request takes {p99:.1f} ms at the 99th percentile, expected at most {settings.max_p99_ms}:"
            " lower index.target_recall, or raise index.max_p99_ms"
        )
    rows = len(next(iter(queries.values())))
    return Validation(tuple(problems), rows, manifest.k, recall, p50, p99, manifest.item_count)


def main(argv: Sequence[str] | None = None) -> int:
    """Command line: `python -m serving.validate DIR --out FILE`; exits 0 once the report is written."""
    from transform.runtime import prepare_environment

    prepare_environment()
    parser = argparse.ArgumentParser(prog="python -m serving.validate", description=__doc__)
    parser.add_argument("directory", help="the bundle")
    parser.add_argument("--out", required=True, help="where the JSON report goes")
    parser.add_argument("--index", default="{}", help="IndexSettings as JSON")
    parser.add_argument("--examples", help="directory of TFRecord files of eval rows, asked as queries")
    options = parser.parse_args(argv)
    settings = IndexSettings.model_validate_json(options.index)
    examples = read_examples(options.examples, _QUERIES) if options.examples else []
    report = validate_bundle(options.directory, settings, examples)
    Path(options.out).write_text(json.dumps(report._asdict(), indent=2), encoding="utf-8")
    return 0


def _queries(bundle: "LoadedBundle", examples: Sequence[bytes]) -> dict[str, Any]:
    import numpy as np
    import tensorflow as tf

    from serving.inputs import no_value, parse_dense

    if examples:
        stored = parse_dense(tf.constant(examples[:_QUERIES]), bundle.specs["embed_query"])
        return {name: value.numpy() for name, value in stored.items()}
    titles = bundle.some_titles(_QUERIES)
    queries = {}
    for name, spec in bundle.specs["embed_query"].items():
        shape = (len(titles), 0)[: spec.shape.rank]
        queries[name] = np.full(shape, no_value(spec.dtype), spec.dtype.as_numpy_dtype)
    queries["query"] = np.array(titles, object)
    return queries


def _recall(bundle: "LoadedBundle", queries: "Arrays") -> float:
    import numpy as np

    shares = []
    for start in range(0, len(next(iter(queries.values()))), _BATCH):
        batch = {name: value[start : start + _BATCH] for name, value in queries.items()}
        found = bundle.run("serving_default", batch)["scores"]
        exact = bundle.engine.run("serving_default", batch)["scores"]  # as TensorFlow Serving answers
        slack = 1e-5 * np.abs(exact).max(axis=1, keepdims=True)  # float32 sums differ in their last bits
        shares.append((found >= exact[:, -1:] - slack).mean(axis=1))
    return float(np.concatenate(shares).mean())


def _times(bundle: "LoadedBundle", queries: "Arrays") -> list[float]:
    """Milliseconds of single requests."""
    times = []
    for row in range(min(_TIMED, len(next(iter(queries.values()))))):
        one = {name: value[row : row + 1] for name, value in queries.items()}
        started = time.perf_counter()
        bundle.run("serving_default", one)
        times.append((time.perf_counter() - started) * 1000)
    return times


if __name__ == "__main__":
    sys.exit(main())
