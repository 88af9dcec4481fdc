"""The event loop that answers gRPC: one thread of the process, whatever the number of requests."""

import asyncio
import threading
from collections.abc import Coroutine
from concurrent.futures import Future
from functools import cache
from typing import Any, TypeVar

Result = TypeVar("Result")


@cache
def _loop() -> asyncio.AbstractEventLoop:
    """Runs until the process ends: gRPC goes on sending a loop its events after its server has stopped."""
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, name="grpc", daemon=True).start()
    return loop


def begin(work: Coroutine[Any, Any, Result]) -> "Future[Result]":
    """Starts a coroutine on the loop, from any other thread."""
    return asyncio.run_coroutine_threadsafe(work, _loop())


def run(work: Coroutine[Any, Any, Result]) -> Result:
    """The same, and waits for what it returns or raises."""
    return begin(work).result()
