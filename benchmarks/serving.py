"""How much batching and the cache of answers change throughput and latency, side by side on one bundle."""

import argparse
import itertools
import json
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import grpc
import numpy as np
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

from serving.client import wait_until_available

WORDS = ("red", "blue", "small", "large", "wooden", "glass", "mug", "lamp", "box", "garden", "kitchen", "set")
BATCHING = "max_batch_size { value: 16 } batch_timeout_micros { value: 0 } num_batch_threads { value: 1 }"
ROUNDS = 3  # each setting is measured so often, in turn, so that a busy machine slows all alike


class Measured(NamedTuple):
    """Answers a second, and the milliseconds of each."""

    throughput: float
    milliseconds: list[float]

    def percentile(self, share: float) -> float:
        """Milliseconds that so many percent stay below."""
        return float(np.percentile(self.milliseconds, share))


class Server:
    """`tandem serve` in a process of its own, on a free port."""

    def __init__(self, push_dir: str, *options: str) -> None:
        command = [sys.executable, "-m", "pipeline.cli", "serve", "--push-dir", push_dir, "--port", "0"]
        self._process = subprocess.Popen([*command, *options], stderr=subprocess.PIPE, text=True)
        assert self._process.stderr
        line = next(line for line in self._process.stderr if "listening on " in line)
        threading.Thread(target=self._process.stderr.read, daemon=True).start()  # a full pipe would stop it
        self.address = line.split("listening on ")[1].split()[0]
        wait_until_available(self.address, timeout_seconds=300)

    def stop(self) -> None:
        """Ends the process."""
        self._process.terminate()
        self._process.wait()


def measure(address: str, clients: int, seconds: float, queries: Iterator[str]) -> Measured:
    """Lets clients ask one question after another for so long."""
    lock = threading.Lock()
    milliseconds: list[float] = []
    end = time.perf_counter() + seconds

    def ask() -> None:
        with grpc.insecure_channel(address, options=[("grpc.use_local_subchannel_pool", 1)]) as channel:
            stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
            while time.perf_counter() < end:
                with lock:
                    query = next(queries)
                request = predict_pb2.PredictRequest()
                request.model_spec.name = "retrieval"
                request.inputs["query"].CopyFrom(tf.make_tensor_proto([query]))
                started = time.perf_counter()
                stub.Predict(request, timeout=60)
                with lock:
                    milliseconds.append((time.perf_counter() - started) * 1000)

    threads = [threading.Thread(target=ask) for _ in range(clients)]
    started = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return Measured(len(milliseconds) / (time.perf_counter() - started), milliseconds)


def compare(push_dir: str, clients: int, seconds: float) -> dict[str, object]:
    """Ratios to a server with neither batching nor cache; `seconds` in all, in equal parts."""
    with tempfile.TemporaryDirectory() as folder:
        parameters = Path(folder, "batching.txt")
        parameters.write_text(BATCHING)
        plain = Server(push_dir)
        batched = Server(push_dir, "--batching-parameters-file", str(parameters), "--cache-mb", "64")
    never_twice = (
        f"{a} {b} {number}" for number in itertools.count() for a, b in itertools.product(WORDS, WORDS)
    )
    again_and_again = itertools.cycle([f"{a} {b}" for a, b in itertools.product(WORDS, WORDS)])
    settings: dict[str, tuple[Server, Iterator[str]]] = {
        "plain": (plain, never_twice),
        "batched": (batched, never_twice),
        "cached": (batched, again_and_again),
    }
    rounds: dict[str, list[Measured]] = {name: [] for name in settings}
    for number in range(ROUNDS + 1):
        for name, (server, queries) in settings.items():
            part = seconds / (ROUNDS + 1) / len(settings)
            measured = measure(server.address, clients, part, queries)
            if number:  # the first round warms up
                rounds[name].append(measured)
    plain.stop()
    batched.stop()
    total = {
        name: Measured(
            float(np.mean([m.throughput for m in several])), [ms for m in several for ms in m.milliseconds]
        )
        for name, several in rounds.items()
    }
    base = total.pop("plain")
    return {
        "clients": clients,
        "batching_parameters": BATCHING,
        "ratios_to_plain": {
            name: {
                "throughput": round(measured.throughput / base.throughput, 2),
                "p50": round(measured.percentile(50) / base.percentile(50), 2),
                "p99": round(measured.percentile(99) / base.percentile(99), 2),
            }
            for name, measured in total.items()
        },
    }


def main() -> int:
    """Measures, prints the ratios and writes them as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--push-dir", required=True, help="directory of pushed versions")
    parser.add_argument("--clients", type=int, default=16, help="questions under way at once (default: 16)")
    parser.add_argument("--seconds", type=float, default=15.0, help="of measuring, in all (default: 15)")
    parser.add_argument("--out", default="benchmarks/results/serving.json", help="JSON file to write")
    options = parser.parse_args()
    compared = compare(options.push_dir, options.clients, options.seconds)
    text = json.dumps(compared, indent=2) + "\n"
    Path(options.out).parent.mkdir(parents=True, exist_ok=True)
    Path(options.out).write_text(text)
    print(text, end="")
    return 0


if __name__ == "__main__":
    sys.exit(main())
