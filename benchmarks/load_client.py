"""Clients of a retrieval service, in a process of their own: how long each request took, and whether it was answered."""

import argparse
import asyncio
import contextlib
import json
import pickle
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from benchmarks.processes import run
from transform.errors import TandemError

# One answer in so many is kept and read, to see that it holds what was asked for.
_KEPT = 50
_TIMEOUT_SECONDS = 60.0
_CONNECTIONS = 8

Ask = Callable[[bytes, int], Awaitable[bytes | None]]


class Load(NamedTuple):
    """What clients do.

    Attributes:
      service: "grpc" for TensorFlow Serving's Predict, "http" for the FastAPI stack.
      address: host:port.
      queries: file with a query a line.
      rows: queries of one request.
      clients: how many ask at once, each one request after another; 0: by `rate`.
      rate: requests a second, sent whether or not those before are answered.
      seconds: how long.
    """

    service: str
    address: str
    queries: str
    rows: int = 1
    clients: int = 0
    rate: float = 0.0
    seconds: float = 10.0


class Measured(NamedTuple):
    """What came of it, a place each request.

    Attributes:
      started: float64 [N], seconds of the system's monotonic clock; by `rate`: when it was due.
      milliseconds: float64 [N], until its answer.
      answered: bool [N].
      rows: queries of one request.
    """

    started: NDArray[np.float64]
    milliseconds: NDArray[np.float64]
    answered: NDArray[np.bool_]
    rows: int

    def summary(self) -> dict[str, float]:
        """Queries a second, median and 99th percentile in milliseconds, requests and those that failed."""
        ended = self.started + self.milliseconds / 1000
        seconds = float(ended.max() - self.started.min())
        p50, p99 = np.percentile(self.milliseconds, [50, 99])
        return {
            "queries_a_second": round(float(self.answered.sum()) * self.rows / seconds, 1),
            "p50_ms": round(float(p50), 1),
            "p99_ms": round(float(p99), 1),
            "requests": len(self.started),
            "failed": int((~self.answered).sum()),
        }


def measure(load: Load) -> Measured:
    """Lets the clients loose in another process, and waits for them.

    Raises:
      TandemError: an answer is not what was asked for.
    """
    queries = Path(load.queries).read_text(encoding="utf-8").splitlines()
    with tempfile.TemporaryDirectory() as folder:
        asked, out = Path(folder, "asked.pickle"), Path(folder, "measured.pickle")
        asked.write_bytes(pickle.dumps((tuple(load), messages_of(load.service, queries, load.rows))))
        run([sys.executable, "-m", "benchmarks.load_client", str(asked), str(out)])
        measured, answers = pickle.loads(out.read_bytes())
    for answer in answers:
        if not _is_whole(load, answer):
            raise TandemError(f"an answer of {load.address} does not hold the items of {load.rows} queries")
    return Measured(*measured)


def messages_of(service: str, queries: Sequence[str], rows: int) -> list[bytes]:
    """Requests on the wire, each with the next so many queries; what is left over at the end is not asked."""
    groups = [list(queries[at : at + rows]) for at in range(0, len(queries) - rows + 1, rows)]
    if service == "http":
        return [json.dumps({"queries": group}).encode() for group in groups]
    import tensorflow as tf
    from tensorflow_serving.apis import predict_pb2

    messages = []
    for group in groups:
        request = predict_pb2.PredictRequest()
        request.model_spec.name = "retrieval"
        request.inputs["query"].CopyFrom(tf.make_tensor_proto(group))
        messages.append(request.SerializeToString())
    return messages


def _is_whole(load: Load, answer: bytes) -> bool:
    if load.service == "http":
        return len(json.loads(answer)["item_ids"]) == load.rows
    from tensorflow_serving.apis import predict_pb2

    ids = predict_pb2.PredictResponse.FromString(answer).outputs["item_ids"]
    return ids.tensor_shape.dim[0].size == load.rows and all(ids.string_val)


async def drive(ask: Ask, messages: Sequence[bytes], load: Load) -> tuple[Measured, list[bytes]]:
    """Sends requests for so long, and waits for the last answer; keeps a few answers."""
    answers: list[bytes] = []
    taken: list[tuple[float, float, bool]] = []
    begin = time.monotonic()
    end = begin + load.seconds
    number = 0

    async def send(due: float) -> None:
        nonlocal number
        place, number = number, number + 1
        answer = await ask(messages[place % len(messages)], place)
        taken.append((due, (time.monotonic() - due) * 1000, answer is not None))
        if answer is not None and place % _KEPT == 0:
            answers.append(answer)

    async def one_after_another() -> None:
        while (now := time.monotonic()) < end:
            await send(now)

    if load.clients:
        await asyncio.gather(*(one_after_another() for _ in range(load.clients)))
    else:
        tasks = []
        for place in range(int(load.rate * load.seconds)):
            due = begin + place / load.rate
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            tasks.append(asyncio.create_task(send(due)))
        await asyncio.gather(*tasks)
    started, milliseconds, answered = map(np.array, zip(*taken, strict=True))
    return Measured(started, milliseconds, answered, load.rows), answers


async def over_grpc(load: Load, messages: Sequence[bytes], failures: Counter[str]) -> Any:
    """Asks TensorFlow Serving's Predict; answers stay bytes."""
    import grpc.aio

    # Connections of their own: channels with equal options would share one, and a server bounds its streams.
    options = [("grpc.use_local_subchannel_pool", 1)]
    async with contextlib.AsyncExitStack() as stack:
        channels = [
            await stack.enter_async_context(grpc.aio.insecure_channel(load.address, options))
            for _ in range(_CONNECTIONS)
        ]
        predicts = [c.unary_unary("/tensorflow.serving.PredictionService/Predict") for c in channels]

        async def ask(message: bytes, place: int) -> bytes | None:
            try:
                answer: bytes = await predicts[place % _CONNECTIONS](message, timeout=_TIMEOUT_SECONDS)
            except grpc.aio.AioRpcError as error:
                failures[f"{error.code().name}: {error.details()}"] += 1
                return None
            return answer

        return await drive(ask, messages, load)


async def over_http(load: Load, messages: Sequence[bytes], failures: Counter[str]) -> Any:
    """Asks the FastAPI stack; answers stay bytes."""
    import aiohttp

    url, kind = f"http://{load.address}/search", {"Content-Type": "application/json"}
    timeout = aiohttp.ClientTimeout(total=_TIMEOUT_SECONDS)
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout, headers=kind) as session:

        async def ask(message: bytes, place: int) -> bytes | None:
            try:
                async with session.post(url, data=message) as answer:
                    answer.raise_for_status()
                    return await answer.read()
            except (aiohttp.ClientError, asyncio.TimeoutError) as error:
                failures[f"{type(error).__name__}: {error}"] += 1
                return None

        return await drive(ask, messages, load)


def main() -> int:
    """Sends what `measure` has written, and writes what came of it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("asked", type=Path)
    parser.add_argument("out", type=Path)
    options = parser.parse_args()
    load, messages = pickle.loads(options.asked.read_bytes())
    load, failures = Load(*load), Counter[str]()
    over: dict[str, Callable[..., Any]] = {"grpc": over_grpc, "http": over_http}
    measured, answers = asyncio.run(over[load.service](load, messages, failures))
    for why, number in failures.most_common(5):
        print(f"{number} requests failed, {why}", file=sys.stderr)
    options.out.write_bytes(pickle.dumps((tuple(measured), answers)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
