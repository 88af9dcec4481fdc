"""What clients send, and how their waiting is counted."""

import asyncio
import time

import numpy as np
from tensorflow_serving.apis import predict_pb2

from benchmarks.load_client import Load, Measured, drive, messages_of


def test_summary_counts_answered_queries_over_the_whole_time() -> None:
    measured = Measured(
        started=np.array([10.0, 10.0, 11.0, 11.5]),
        milliseconds=np.array([1000.0, 500.0, 200.0, 500.0]),
        answered=np.array([True, True, False, True]),
        rows=4,
    )
    # Three requests of four queries from 10 s to 12 s.
    assert measured.summary() == {
        "queries_a_second": 6.0,
        "p50_ms": 500.0,
        "p99_ms": 985.0,  # 500 + 0.97 * (1000 - 500)
        "requests": 4,
        "failed": 1,
    }


def test_requests_hold_whole_groups_of_queries() -> None:
    queries = ["red mug", "lamp", "box", "vase", "left over"]
    assert messages_of("http", queries, 2) == [
        b'{"queries": ["red mug", "lamp"]}',
        b'{"queries": ["box", "vase"]}',
    ]
    requests = [predict_pb2.PredictRequest.FromString(message) for message in messages_of("grpc", queries, 2)]
    assert [list(request.inputs["query"].string_val) for request in requests] == [
        [b"red mug", b"lamp"],
        [b"box", b"vase"],
    ]


def test_clients_wait_for_their_answer_and_a_rate_does_not() -> None:
    at_once, most = 0, 0

    async def ask(message: bytes, place: int) -> bytes | None:
        nonlocal at_once, most
        at_once += 1
        most = max(most, at_once)
        await asyncio.sleep(0.05)
        at_once -= 1
        return None if place == 1 else message

    def run(**how: float) -> tuple[Measured, list[bytes]]:
        nonlocal most
        most = 0
        return asyncio.run(drive(ask, [b"one", b"two"], Load("http", "", "", seconds=0.3, **how)))

    measured, answers = run(clients=2)
    assert most == 2
    assert answers == [b"one"]  # the first of every fifty
    assert (~measured.answered).sum() == 1
    measured, _ = run(rate=100)
    assert len(measured.started) == 30
    assert most > 2


def test_a_late_request_has_waited_since_it_was_due() -> None:
    async def ask(message: bytes, place: int) -> bytes | None:
        if not place:
            time.sleep(0.2)  # nobody else is sent meanwhile
        return message

    measured, _ = asyncio.run(drive(ask, [b"one"], Load("http", "", "", rate=100, seconds=0.1)))
    assert len(measured.started) == 10
    np.testing.assert_allclose(np.diff(np.sort(measured.started)), 0.01)
    assert np.sort(measured.milliseconds)[-5] > 100  # due 10 to 50 ms after the first, sent after 200
