"""One call as it ended: what metrics and the request log are made of."""

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from serving.request_gate import Caller, left
from serving.request_inputs import RequestError

logger = logging.getLogger("tandem.serving")


class Observed(NamedTuple):
    """A call that got its answer or its refusal.

    Attributes:
      method: such as "Predict".
      entrypoint: "GRPC" or "REST".
      status: name of the gRPC status code; "OK" for an answer.
      seconds: from the request's arrival in the server to its answer, both decoded.
      request: its message; none where it was refused unread.
      response: of `Predict`, the serialised answer; none where it was refused.
      message: why it was refused, "" where it was not; may quote the request.
    """

    method: str
    entrypoint: str
    status: str
    seconds: float
    request: Any = None
    response: bytes | None = None
    message: str = ""


Observer = Callable[[Observed], None]


class Call:
    """One call under way.

    Attributes:
      answer: of `Predict`, once it is known.
    """

    answer: bytes | None = None


@contextlib.contextmanager
def ending(observe: Observer, method: str, caller: Caller, request: Any) -> Iterator[Call]:
    """Tells how the call inside this block ends; what is no refusal becomes one.

    Args:
      observe: is told.
      method: such as "Predict".
      caller: who called.
      request: its message.

    Raises:
      RequestError: INTERNAL for a fault of the server.
    """
    started = time.perf_counter()
    error, call = None, Call()
    try:
        yield call
    except RequestError as refusal:
        error = refusal
        raise
    except asyncio.CancelledError:
        error = left(caller)
        raise
    except Exception as fault:
        logger.exception("a request failed")
        error = RequestError("INTERNAL", f"{type(fault).__name__}; the server's log says more")
        raise error from fault
    finally:
        status, message = (error.status, error.message) if error else ("OK", "")
        answer = None if error else call.answer
        seconds = time.perf_counter() - started
        observe(Observed(method, caller.entrypoint, status, seconds, request, answer, message))
