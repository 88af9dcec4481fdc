"""Requests that arrive together are answered in one call of the model."""

import asyncio
import collections
import logging
import os
import threading
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from numpy.typing import NDArray
from prometheus_client import Histogram

from serving.background import COMPUTING_NICE, give_way
from serving.joined_inputs import joined_inputs
from serving.request_gate import Caller, check_waits

if TYPE_CHECKING:
    from serving.loaded_bundle import LoadedBundle

logger = logging.getLogger("tandem.serving")

Arrays = Mapping[str, NDArray[Any]]

# Their rows are independent, a longer history of "no entry" means the same, and no output is as long as the history.
SIGNATURES = frozenset({"serving_default", "exact"})

# A batch of so many rows is worth a call of its own: it costs little more a row than a larger one.
_SMALL = 16
# How long a stop waits for a call of the model, in seconds.
_STOP_SECONDS = 10.0


class BatchingParameters(NamedTuple):
    """How requests are put together, under TensorFlow Serving's names.

    Attributes:
      max_batch_size: rows of one call; a request with as many or more is computed alone.
      batch_timeout_micros: how long the first one waits for others where there are few, in microseconds.
      num_batch_threads: calls at once; while all are busy, batches grow.
    """

    max_batch_size: int = 64
    batch_timeout_micros: int = 0
    num_batch_threads: int = os.cpu_count() or 1


class Batcher:
    """Joins the rows of requests to one version and signature; safe to share between threads.

    Each of its threads is a place to compute: it takes what is due, answers all of it in one call of the model, and
    tells those who wait. Where that call fails, each request is answered alone, so that none fails for another's
    fault. What cannot be joined with others takes a place, too. A request whose caller waits no longer when it would
    be computed is left out.

    Attributes:
      calls: batches that were answered.
      requests: those that were in them.
      sizes: rows of a batch, a histogram.
      waits: from a request's arrival until its batch was taken, a histogram in microseconds.
    """

    def __init__(self, parameters: BatchingParameters) -> None:
        self.calls = 0
        self.requests = 0
        self.sizes = Histogram(
            ":tensorflow:serving:batching:processed_batch_size",
            "Rows answered in one call of the model.",
            buckets=[2**power for power in range(12)],
            registry=None,
        )
        self.waits = Histogram(
            ":tensorflow:serving:batching_session:queuing_latency",
            "Wall time that a request waits for its batch, in microseconds.",
            buckets=[100 * 1.8**power for power in range(24)],
            registry=None,
        )
        self._parameters = parameters
        self._changed = threading.Condition()
        self._waiting: dict[object, collections.deque[_Waiting]] = {}  # those of a key can be joined
        self._rows = 0  # that wait or are being answered
        self._stopped = False
        self._threads = [
            threading.Thread(target=self._work, name=f"batch-{place}", daemon=True)
            for place in range(parameters.num_batch_threads)
        ]

    def start(self) -> None:
        """Begins to answer."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Ends its threads; returns when what waits is answered, or after a while. Nothing may be asked any more."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join(_STOP_SECONDS)

    def run(
        self, bundle: "LoadedBundle", signature: str, inputs: Arrays, caller: Caller
    ) -> dict[str, NDArray[Any]]:
        """As `LoadedBundle.run`, which says what else it raises; returns the rows of these inputs.

        Raises:
          RequestError: DEADLINE_EXCEEDED or CANCELLED where the caller did not wait until it was computed.
        """
        answered = threading.Lock()  # cheaper than an event, of which there would be one a request
        answered.acquire()
        request = self._ask(_Waiting(bundle, signature, inputs, caller, answered.release, None))
        answered.acquire()
        return request.answer()

    async def run_soon(
        self, bundle: "LoadedBundle", signature: str, inputs: Arrays, caller: Caller
    ) -> dict[str, NDArray[Any]]:
        """The same for an event loop."""
        answered = (loop := asyncio.get_running_loop()).create_future()

        def wake() -> None:
            if not answered.done():  # as it is where the caller has left
                answered.set_result(None)

        request = self._ask(_Waiting(bundle, signature, inputs, caller, wake, loop))
        try:
            await answered
        except asyncio.CancelledError:
            self._leave_out(request)
            raise
        return request.answer()

    def _ask(self, request: "_Waiting") -> "_Waiting":
        alone = request.signature not in SIGNATURES or request.rows >= self._parameters.max_batch_size
        self._join(object() if alone else (request.bundle.manifest.version, request.signature), request)
        return request

    def _join(self, key: object, request: "_Waiting") -> None:
        with self._changed:
            self._rows += request.rows
            self._waiting.setdefault(key, collections.deque()).append(request)
            self._changed.notify()

    def _leave_out(self, request: "_Waiting") -> None:
        """Takes a request out of the queue if it is still there: who asks and leaves must not fill it."""
        with self._changed:
            for key in [key for key, waiting in self._waiting.items() if request in waiting]:
                self._waiting[key].remove(request)
                self._rows -= request.rows
                if not self._waiting[key]:
                    del self._waiting[key]

    def _work(self) -> None:
        give_way(COMPUTING_NICE)
        while batch := self._take():
            self._answer(batch)
            del batch  # a replaced version must not stay for a thread that waits

    def _take(self) -> "list[_Waiting]":
        """Waits until a batch is due; none once there will be no more."""
        with self._changed:
            while True:
                soonest = None
                for key in list(self._waiting):
                    seconds = self._seconds_left(key)
                    if seconds <= 0:
                        return self._pop(key)
                    soonest = seconds if soonest is None else min(soonest, seconds)
                if self._stopped and soonest is None:
                    return []
                self._changed.wait(soonest)

    def _seconds_left(self, key: object) -> float:
        """How long what waits under a key may go on waiting for more."""
        waiting = self._waiting[key]
        if self._stopped or not isinstance(key, tuple):
            return 0.0
        if sum(request.rows for request in waiting) >= self._most():
            return 0.0
        return waiting[0].since + self._parameters.batch_timeout_micros / 1e6 - time.perf_counter()

    def _pop(self, key: object) -> "list[_Waiting]":
        """The next batch of a key; the rest of the key comes after the other keys."""
        waiting, most, now = self._waiting.pop(key), self._most(), time.perf_counter()
        batch = [waiting.popleft()]
        rows = batch[0].rows
        while waiting and rows + waiting[0].rows <= most:
            rows += waiting[0].rows
            batch.append(waiting.popleft())
        if waiting:
            self._waiting[key] = waiting
            self._changed.notify()
        for request in batch:
            self.waits.observe((now - request.since) * 1e6)
        return batch

    def _most(self) -> int:
        """Rows of a batch: no more than its share of what is there, so that every place has work."""
        share = -(-self._rows // self._parameters.num_batch_threads)
        return min(self._parameters.max_batch_size, max(_SMALL, share))

    def _answer(self, batch: "list[_Waiting]") -> None:
        rows = sum(request.rows for request in batch)
        try:
            wanted = [request for request in batch if request.is_wanted()]
            if wanted:
                self._compute(wanted)
        finally:
            with self._changed:
                self._rows -= rows
            _wake(batch)

    def _compute(self, batch: "list[_Waiting]") -> None:
        with self._changed:
            self.calls += 1
            self.requests += len(batch)
        self.sizes.observe(sum(request.rows for request in batch))
        bundle, signature = batch[0].bundle, batch[0].signature
        try:
            if len(batch) == 1:
                batch[0].outputs = bundle.run(signature, batch[0].inputs)
                return
            specs = {**bundle.specs[signature], **bundle.filters.specs}
            outputs = bundle.run(signature, joined_inputs([request.inputs for request in batch], specs))
        except Exception as error:
            if len(batch) == 1:
                batch[0].error = error
                return
            logger.warning("a batch of %d requests failed, each is answered alone", len(batch), exc_info=True)
            for request in batch:
                self._compute([request])
            return
        start = 0
        for request in batch:
            end = start + request.rows
            request.outputs = {name: value[start:end] for name, value in outputs.items()}
            start = end


class _Waiting:
    """A request that waits for its answer; `wake` is called when it is there, in its event loop if it has one."""

    def __init__(
        self,
        bundle: "LoadedBundle",
        signature: str,
        inputs: Arrays,
        caller: Caller,
        wake: Callable[[], object],
        loop: asyncio.AbstractEventLoop | None,
    ) -> None:
        self.bundle = bundle
        self.signature = signature
        self.inputs = inputs
        self.caller = caller
        self.wake = wake
        self.loop = loop
        self.rows = len(next(iter(inputs.values())))
        self.since = time.perf_counter()
        self.outputs: dict[str, NDArray[Any]] = {}
        self.error: Exception | None = None

    def answer(self) -> dict[str, NDArray[Any]]:
        """The outputs, or what went wrong as an exception."""
        if self.error is not None:
            raise self.error
        return self.outputs

    def is_wanted(self) -> bool:
        """Whether the caller still waits; where not, `error` says so."""
        try:
            check_waits(self.caller)
        except Exception as error:  # a RequestError, or a connection that went while it was looked at
            self.error = error
        return self.error is None


def _wake(batch: list[_Waiting]) -> None:
    """Tells all who wait; an event loop once for all of its requests, as each time interrupts it."""
    in_loops = collections.defaultdict(list)
    for request in batch:
        if request.loop is None:
            request.wake()
        else:
            in_loops[request.loop].append(request)
    for loop, requests in in_loops.items():
        loop.call_soon_threadsafe(_wake_here, requests)


def _wake_here(requests: list[_Waiting]) -> None:
    for request in requests:
        request.wake()
