"""The limit of a server: bare calls of a bundle's `embed_query` in one process, by batch size and threads."""

import argparse
import json
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from benchmarks.processes import run
from serving.inputs import input_specs, no_value
from transform.features import QUERY
from transform.runtime import prepare_environment

if TYPE_CHECKING:
    import tensorflow as tf

# Operations split between all cores by one caller, TensorFlow's own way; and a core each, by one caller a core.
THREADS = ((0, 1), (1, 2))
BATCHES = (16, 32, 64)


class Calls(NamedTuple):
    """How `embed_query` is called.

    Attributes:
      intra_op: TensorFlow's threads an operation; 0: its own choice.
      callers: threads that call at once.
      batch: queries of a call.
    """

    intra_op: int
    callers: int
    batch: int


def limits(bundle: Path, queries: Path, seconds: float) -> list[dict[str, float]]:
    """Queries a second of all combinations, best first; each thread setting in a process of its own."""
    found: list[dict[str, float]] = []
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder, "limit.json")
        for intra_op, callers in THREADS:
            options = [str(bundle), str(queries), str(out), str(intra_op), str(callers), str(seconds)]
            run([sys.executable, "-m", "benchmarks.bare_calls", *options])
            found += json.loads(out.read_text())
    return sorted(found, key=lambda limit: -limit["queries_a_second"])


def inputs_of(queries: Sequence[str], specs: "dict[str, tf.TensorSpec]") -> "dict[str, tf.Tensor]":
    """Inputs with a query and nothing else."""
    import tensorflow as tf

    def absent(spec: tf.TensorSpec) -> tf.Tensor:
        shape = [len(queries), spec.shape[-1] or 0][: spec.shape.rank]
        return tf.fill(shape, tf.constant(no_value(spec.dtype), spec.dtype))

    return {name: absent(spec) for name, spec in specs.items()} | {QUERY: tf.constant(queries)}


def rate(embed_query: Any, queries: Sequence[str], calls: Calls, seconds: float) -> float:
    """Queries a second, the next ones in each call."""
    specs = input_specs(embed_query)
    made = [
        inputs_of(queries[at : at + calls.batch], specs)
        for at in range(0, len(queries) - calls.batch, calls.batch)
    ]
    embed_query(**made[0])
    counts = [0] * calls.callers
    begin = time.perf_counter()

    def call(caller: int) -> None:
        while time.perf_counter() < begin + seconds:
            embed_query(**made[(counts[caller] * calls.callers + caller) % len(made)])["embedding"].numpy()
            counts[caller] += 1

    threads = [threading.Thread(target=call, args=(caller,)) for caller in range(calls.callers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(counts) * calls.batch / (time.perf_counter() - begin)


def main() -> int:
    """Measures every batch size with one thread setting."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bundle")
    parser.add_argument("queries", help="file with a query a line")
    parser.add_argument("out", help="JSON file to write")
    parser.add_argument("intra_op", type=int)
    parser.add_argument("callers", type=int)
    parser.add_argument("seconds", type=float, help="of each combination")
    options = parser.parse_args()
    prepare_environment()
    import tensorflow as tf
    import tensorflow_text  # noqa: F401  registers the tokenizer's ops

    tf.config.threading.set_intra_op_parallelism_threads(options.intra_op)
    queries = Path(options.queries).read_text(encoding="utf-8").splitlines()
    model = tf.saved_model.load(options.bundle)
    measured = []
    for batch in BATCHES:
        calls = Calls(options.intra_op, options.callers, batch)
        speed = rate(model.signatures["embed_query"], queries, calls, options.seconds)
        measured.append({**calls._asdict(), "queries_a_second": round(speed, 1)})
    Path(options.out).write_text(json.dumps(measured))
    return 0


if __name__ == "__main__":
    sys.exit(main())
