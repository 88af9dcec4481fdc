"""The prediction log: a sample of answered requests, as TFRecord files of TensorFlow Serving's `PredictionLog`."""

import collections
import contextlib
import logging
import queue
import random
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from prometheus_client.core import CounterMetricFamily, Metric

from serving.observed import Observed
from serving.prediction_log_file import PredictionLogFile, Rotation, finish_left_overs
from transform.errors import TandemError

logger = logging.getLogger("tandem.serving")

# Serialised records that wait for the disk; one more is lost, and counted, rather than a request held up.
_QUEUE_BYTES = 32 << 20
# A disk that refused is asked again after so long.
_RETRY_SECONDS = 1.0
_ROTATION = Rotation()
# Records between two looks at whether the disk took them.
_BATCH = 256


class PredictionLogger:
    """Writes sampled requests with their answers; a call is never held up by it, and never fails for it.

    A file is written under a hidden name and renamed when it is whole. What cannot be written is counted and logged.

    Attributes:
      written: records that the disk took.
      lost: reason ("disk", "queue") -> records that are gone.
    """

    def __init__(self, directory: str, rate: float, rotation: Rotation = _ROTATION) -> None:
        """Makes the directory, and finishes the files that a killed server left.

        Args:
          directory: of the files; servers may share it.
          rate: share of the answered requests that is written, above 0 and up to 1.
          rotation: how large and old a file becomes.

        Raises:
          TandemError: it cannot be written.
        """
        self._directory = Path(directory)
        self._rate = rate
        self._rotation = rotation
        self._queue: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._queued = 0
        self._lock = threading.Lock()
        self._file: PredictionLogFile | None = None
        self._failing = False
        self._retry_at = 0.0
        self.written = 0
        self.lost: collections.Counter[str] = collections.Counter(disk=0, queue=0)
        try:
            self._directory.mkdir(parents=True, exist_ok=True)
            finish_left_overs(self._directory)
            PredictionLogFile(
                self._directory
            ).finish()  # empty, so it goes again: says now what would be lost later
        except OSError as error:
            raise TandemError(
                f"{directory} cannot be written ({error.strerror}), expected a directory for prediction logs: name"
                " another with --prediction-log."
            ) from error
        self._thread = threading.Thread(target=self._run, name="prediction log", daemon=True)
        self._thread.start()

    def observe(self, observed: Observed) -> None:
        """Takes an answered request, if it is drawn."""
        if observed.method != "Predict" or observed.response is None or random.random() >= self._rate:
            return
        record = _record(observed, self._rate)
        with self._lock:
            if self._queued + len(record) > _QUEUE_BYTES:
                self.lost["queue"] += 1
                return
            self._queued += len(record)
        self._queue.put(record)

    def stop(self) -> None:
        """Writes what is waiting, and finishes the file; nothing may be observed any more."""
        self._queue.put(None)
        self._thread.join()

    def collect(self) -> Iterator[Metric]:
        """Prometheus figures."""
        yield CounterMetricFamily(
            "tandem_prediction_log_records", "Sampled requests that were written.", value=self.written
        )
        lost = CounterMetricFamily(
            "tandem_prediction_log_lost", "Sampled requests that were not written.", labels=["reason"]
        )
        for reason, count in self.lost.items():
            lost.add_metric([reason], count)
        yield lost

    def _run(self) -> None:
        open_ended = True
        while open_ended:
            records, open_ended = self._next_records()
            if records:
                self._write(records)
            if self._file and (not open_ended or self._file.is_due(self._rotation)):
                self._finish()

    def _next_records(self) -> tuple[list[bytes], bool]:
        """What waits, or nothing when the file's time is over; and whether there will be more."""
        records: list[bytes] = []
        with contextlib.suppress(queue.Empty):
            entry = self._queue.get(timeout=self._file.seconds_left(self._rotation) if self._file else None)
            while entry is not None:
                records.append(entry)
                if len(records) == _BATCH:
                    break
                entry = self._queue.get_nowait()
            else:
                return records, False
        with self._lock:
            self._queued -= sum(map(len, records))
        return records, True

    def _write(self, records: list[bytes]) -> None:
        import tensorflow as tf

        if self._file is None and time.monotonic() < self._retry_at:
            self.lost["disk"] += len(records)
            return
        try:
            if self._file is None:
                self._file = PredictionLogFile(self._directory)
            self._file.write(records)
        except (OSError, tf.errors.OpError) as error:
            self.lost["disk"] += len(records)
            self._retry_at = time.monotonic() + _RETRY_SECONDS
            if not self._failing:
                logger.error("prediction log: %s cannot be written (%s); requests are answered on, and what is"
                             " lost is counted", self._directory, _reason(error))  # fmt: skip
            self._failing = True
            self._finish()
            return
        self.written += len(records)
        if self._failing:
            logger.info("prediction log: %s can be written again", self._directory)
        self._failing = False

    def _finish(self) -> None:
        file, self._file = self._file, None
        if file is None:
            return
        try:
            file.finish()
        except OSError as error:
            logger.error("prediction log: %s stays unfinished (%s)", file.path, error.strerror)


def _record(observed: Observed, rate: float) -> bytes:
    from tensorflow_serving.apis import prediction_log_pb2

    log = prediction_log_pb2.PredictionLog()
    log.predict_log.request.CopyFrom(observed.request)
    log.predict_log.response.ParseFromString(observed.response or b"")
    log.log_metadata.model_spec.CopyFrom(log.predict_log.response.model_spec)
    log.log_metadata.sampling_config.sampling_rate = rate
    log.log_metadata.timestamp_secs = int(time.time())
    return bytes(log.SerializeToString())


def _reason(error: Exception) -> str:
    return str(getattr(error, "strerror", None) or getattr(error, "message", "") or error)
