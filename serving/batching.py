"""Requests that arrive together are answered in one call of the model."""

import logging
import os
import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from serving.inputs import no_value

if TYPE_CHECKING:
    from serving.loaded_bundle import LoadedBundle

logger = logging.getLogger("tandem.serving")

Arrays = Mapping[str, NDArray[Any]]

# Their rows are independent, a longer history of "no entry" means the same, and no output is as long as the history.
SIGNATURES = frozenset({"serving_default", "exact"})


# A batch of so many rows is worth a call of its own: it costs little more a row than a larger one.
_SMALL = 16


class BatchingParameters(NamedTuple):
    """How requests are put together, under TensorFlow Serving's names.

    Attributes:
      max_batch_size: rows of one call; a request with more goes alone.
      batch_timeout_micros: how long the first one waits for others, in microseconds.
      num_batch_threads: calls at once; while all are busy, batches grow.
    """

    max_batch_size: int = 64
    batch_timeout_micros: int = 0
    num_batch_threads: int = os.cpu_count() or 1


class Batcher:
    """Joins the rows of requests to one version and signature; safe to share between threads.

    Whoever opens a batch waits a little and for a free place to compute, closes the batch, and answers all that
    have joined. Where that fails, each is answered alone, so that no request fails for another's fault.

    Attributes:
      calls: batches that were answered.
      requests: those that were in them.
    """

    def __init__(self, parameters: BatchingParameters) -> None:
        self.calls = 0
        self.requests = 0
        self._parameters = parameters
        self._lock = threading.Lock()
        self._places = threading.Semaphore(parameters.num_batch_threads)
        self._open: dict[tuple[int, str], _Batch] = {}
        self._rows = 0  # that wait or are being answered

    def run(self, bundle: "LoadedBundle", signature: str, inputs: Arrays) -> dict[str, NDArray[Any]]:
        """As `LoadedBundle.run`, which says what it raises; returns the rows of these inputs."""
        rows = len(next(iter(inputs.values())))
        if signature not in SIGNATURES or rows >= self._parameters.max_batch_size:
            return bundle.run(signature, inputs)
        batch, start = self._join((bundle.manifest.version, signature), inputs, rows)
        if start == 0:
            self._answer(batch, bundle, signature)
        batch.done.wait()
        if batch.outputs is not None:
            return {name: value[start : start + rows] for name, value in batch.outputs.items()}
        with self._places:
            return bundle.run(signature, inputs)

    def _join(self, key: tuple[int, str], inputs: Arrays, rows: int) -> "tuple[_Batch, int]":
        with self._lock:
            self._rows += rows
            most = self._most()
            batch = self._open.get(key)
            if batch is None or batch.rows + rows > most:
                if batch is not None:
                    batch.full.set()
                batch = self._open[key] = _Batch(key)
            start = batch.rows
            batch.inputs.append(inputs)
            batch.rows += rows
            if batch.rows >= most:
                self._close(batch)
        return batch, start

    def _most(self) -> int:
        """Rows of a batch: where there are many, half are left to be next, so that no core waits for new requests."""
        share = self._rows // (2 * self._parameters.num_batch_threads)
        return min(self._parameters.max_batch_size, max(_SMALL, share))

    def _close(self, batch: "_Batch") -> None:
        batch.full.set()
        if self._open.get(batch.key) is batch:
            del self._open[batch.key]

    def _answer(self, batch: "_Batch", bundle: "LoadedBundle", signature: str) -> None:
        try:
            batch.full.wait(self._parameters.batch_timeout_micros / 1e6)
            with self._places:
                with self._lock:
                    self._close(batch)
                    self.calls += 1
                    self.requests += len(batch.inputs)
                specs = {**bundle.specs[signature], **bundle.filters.specs}
                batch.outputs = bundle.run(signature, _joined(batch.inputs, specs))
        except Exception:
            if len(batch.inputs) == 1:
                raise
            logger.warning(
                "a batch of %d requests failed, each is answered alone", len(batch.inputs), exc_info=True
            )
        finally:
            with self._lock:
                self._close(batch)
                self._rows -= batch.rows
            batch.done.set()


class BatchedBundle:
    """A bundle whose `run` joins batches; the rest is the bundle's own."""

    def __init__(self, bundle: "LoadedBundle", batcher: Batcher) -> None:
        self._bundle = bundle
        self._batcher = batcher

    def __getattr__(self, name: str) -> Any:
        return getattr(self._bundle, name)

    def run(self, signature: str, inputs: Arrays) -> dict[str, NDArray[Any]]:
        """As `LoadedBundle.run`."""
        return self._batcher.run(self._bundle, signature, inputs)


class _Batch:
    """Requests that are answered together; `inputs` and `rows` belong to the batcher's lock."""

    def __init__(self, key: tuple[int, str]) -> None:
        self.key = key
        self.inputs: list[Arrays] = []
        self.rows = 0
        self.full = threading.Event()
        self.done = threading.Event()
        self.outputs: dict[str, NDArray[Any]] | None = None


def _joined(requests: list[Arrays], specs: Mapping[str, Any]) -> dict[str, NDArray[Any]]:
    """All rows, one below the other; shorter histories and lists are filled up with "no entry"."""
    if len(requests) == 1:
        return dict(requests[0])
    joined = {}
    for name, spec in specs.items():
        if not any(name in request for request in requests):
            continue  # a filter that none of them has
        parts = [request[name] if name in request else _no_filter(request, spec) for request in requests]
        if spec.shape.rank == 2:
            length = max(part.shape[1] for part in parts)
            filler = no_value(spec.dtype)
            parts = [
                part
                if part.shape[1] == length
                else np.pad(part, ((0, 0), (0, length - part.shape[1])), constant_values=filler)
                for part in parts
            ]
        joined[name] = np.concatenate(parts)
    return joined


def _no_filter(request: Arrays, spec: Any) -> NDArray[Any]:
    rows = len(next(iter(request.values())))
    shape = (rows, spec.shape[-1] or 0)[: spec.shape.rank]
    return np.full(shape, no_value(spec.dtype), spec.dtype.as_numpy_dtype)
