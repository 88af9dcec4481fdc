"""Reads prediction logs: the requests that one version answered, as rows of raw features, and what is left out."""

import collections
import glob
import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import apache_beam as beam
from tensorflow_metadata.proto.v0 import statistics_pb2

from serving.prediction_log_file import SUFFIX
from transform.errors import TandemError
from transform.features import HISTORY_AGES, HISTORY_EVENT_TYPES, HISTORY_ITEM_IDS, QUERY
from transform.request_statistics import RequestStatistics
from transform.request_values import Compared, Row

if TYPE_CHECKING:
    from tensorflow_serving.apis.prediction_log_pb2 import PredictionLog

# Signatures that take query inputs; a request that names none asks for the first.
QUERY_SIGNATURES = ("serving_default", "exact", "embed_query")
COMPARED = "compared"
_COUNTS = "counts"


class Logged(NamedTuple):
    """Requests of a version.

    Attributes:
      rows: how many; a batch of n is n requests.
      left_out: what, in words -> how many.
      statistics: of the labels of the rows.
    """

    rows: int
    left_out: dict[str, int]
    statistics: statistics_pb2.DatasetFeatureStatisticsList


def read_logged_requests(directory: str, version: int, compared: Mapping[str, Compared]) -> Logged:
    """Reads every finished file of a directory of prediction logs.

    Args:
      directory: of the logs.
      version: requests that another one answered are left out.
      compared: feature -> how.

    Raises:
      TandemError: there is no finished file.
    """
    from apache_beam.runners.portability.fn_api_runner import FnApiRunner

    files = sorted(glob.glob(os.path.join(glob.escape(directory), f"*{SUFFIX}")))
    if not files:
        raise TandemError(
            f"{directory} holds no finished prediction log (*{SUFFIX}), expected what tandem serve --prediction-log"
            " writes: a file is finished after five minutes, at 64 MiB, or when the server stops."
        )
    with tempfile.TemporaryDirectory() as made:
        with beam.Pipeline(runner=FnApiRunner()) as pipeline:
            read = (
                pipeline
                | "Files" >> beam.Create(files)
                | "Spread" >> beam.Reshuffle()
                | "ReadLogs" >> beam.ParDo(_ReadLogs(version, compared)).with_outputs(_COUNTS, main="rows")
            )
            _ = read.rows | RequestStatistics(compared) | "Write" >> _write_statistics(made)
            _ = (
                read[_COUNTS]
                | "Sum" >> beam.CombinePerKey(sum)
                | "AsJson" >> beam.Map(json.dumps)
                | "WriteCounts" >> beam.io.WriteToText(os.path.join(made, _COUNTS), shard_name_template="")
            )
        with open(os.path.join(made, _COUNTS), encoding="utf-8") as file:
            counts = dict(json.loads(line) for line in file)
        statistics = statistics_pb2.DatasetFeatureStatisticsList()
        with open(os.path.join(made, "statistics"), "rb") as binary:
            statistics.ParseFromString(binary.read())
    return Logged(counts.pop(COMPARED, 0), counts, statistics)


def _write_statistics(directory: str) -> Any:
    import tensorflow_data_validation as tfdv

    return tfdv.WriteStatisticsToBinaryFile(os.path.join(directory, "statistics"))


class _ReadLogs(beam.DoFn):
    """A file -> rows, and counts of what they are and of what is left out."""

    def __init__(self, version: int, compared: Mapping[str, Compared]) -> None:
        self._version = version
        self._names = frozenset(
            {QUERY, HISTORY_ITEM_IDS, HISTORY_EVENT_TYPES, HISTORY_AGES, *compared.keys()}
        )

    def process(self, path: str) -> Iterator[Any]:
        """Reads it to its end, or to where it is damaged."""
        counts: collections.Counter[str] = collections.Counter()
        for log in _logs(path, counts):
            reason = self._reason(log)
            if reason:
                counts[reason] += 1
                continue
            try:
                rows = list(rows_of(log, self._names))
            except (ValueError, TypeError):
                counts["records whose tensors are damaged"] += 1
                continue
            counts[COMPARED] += len(rows)
            yield from rows
        for what in counts.items():
            yield beam.pvalue.TaggedOutput(_COUNTS, what)

    def _reason(self, log: "PredictionLog") -> str:
        """Why a record is left out, "" where it is not."""
        if log.WhichOneof("log_type") != "predict_log":
            return "records that are not of Predict"
        answered = (
            log.predict_log.response.model_spec.version.value or log.log_metadata.model_spec.version.value
        )
        if answered != self._version:
            return (
                f"records that version {answered} answered" if answered else "records of an unknown version"
            )
        signature = log.predict_log.request.model_spec.signature_name or QUERY_SIGNATURES[0]
        return "" if signature in QUERY_SIGNATURES else f"records of signature {signature!r}"


def rows_of(log: "PredictionLog", names: frozenset[str]) -> Iterator[Row]:
    """The rows of a request's batch.

    Raises:
      ValueError, TypeError: tensors that do not fit each other, or are none.
    """
    import tensorflow as tf

    tensors = log.predict_log.request.inputs
    columns = {name: tf.make_ndarray(tensors[name]).tolist() for name in tensors if name in names}
    # A request may consist of filters alone.
    (count,) = {tensor.tensor_shape.dim[0].size for tensor in tensors.values()}
    for place in range(count):
        here = {name: column[place] for name, column in columns.items()}
        yield {name: value if isinstance(value, list) else [value] for name, value in here.items()}


def _logs(path: str, counts: collections.Counter[str]) -> "Iterator[PredictionLog]":
    import tensorflow as tf
    from google.protobuf.message import DecodeError
    from tensorflow_serving.apis.prediction_log_pb2 import PredictionLog

    read = 0
    try:
        for record in tf.data.TFRecordDataset(path).as_numpy_iterator():
            read += 1
            try:
                yield PredictionLog.FromString(record)
            except DecodeError:
                counts["records that are no PredictionLog"] += 1
    except (tf.errors.DataLossError, tf.errors.InvalidArgumentError):
        counts[f"files that are damaged ({os.path.basename(path)} after record {read:,})"] += 1
