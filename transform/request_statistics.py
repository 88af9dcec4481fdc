"""TFDV statistics of requests' labels, computed by Beam: of training rows and of logged requests alike."""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import apache_beam as beam
import pyarrow as pa

from transform.request_baseline import STATISTICS_FILE
from transform.request_values import Compared, Row, request_values

if TYPE_CHECKING:
    from tensorflow_metadata.proto.v0 import statistics_pb2

# Training rows that are looked at, about: shares of so many are right to 0.4 % (one standard deviation).
_SAMPLE = 20_000
# Values whose shares are kept of a feature, the most frequent ones.
_VALUES = 1_000


class RequestStatistics(beam.PTransform):
    """Rows -> one `DatasetFeatureStatisticsList`."""

    def __init__(self, compared: Mapping[str, Compared]) -> None:
        super().__init__()
        self._compared = dict(compared)

    def expand(
        self, rows: "beam.PCollection[Row]"
    ) -> "beam.PCollection[statistics_pb2.DatasetFeatureStatisticsList]":
        """Adds the steps."""
        import tensorflow_data_validation as tfdv

        options = tfdv.StatsOptions(num_top_values=1, num_rank_histogram_buckets=_VALUES)
        return (
            rows
            | "BatchRows" >> beam.BatchElements(min_batch_size=64, max_batch_size=1024)
            | "Labels" >> beam.Map(label_batch, self._compared)
            | "Statistics" >> tfdv.GenerateStatistics(options)
        )


def write_training_statistics(
    pipeline: beam.Pipeline, pattern: str, count: int, compared: Mapping[str, Compared], directory: str | Path
) -> None:
    """Adds to a pipeline what writes `requests.pb`.

    Args:
      pipeline: not run yet.
      pattern: files of split train.
      count: rows in them; of many, a sample is taken that depends on the rows alone.
      compared: feature -> how.
      directory: where it goes.
    """
    import tensorflow_data_validation as tfdv

    _ = (
        pipeline
        | "ReadRequests" >> beam.io.ReadFromTFRecord(pattern)
        | "SampleRequests" >> beam.Filter(_is_drawn, -(-count // _SAMPLE))
        | "ParseRequests" >> beam.Map(row_of)
        | "RequestStatistics" >> RequestStatistics(compared)
        | "WriteRequestStatistics" >> tfdv.WriteStatisticsToBinaryFile(str(Path(directory, STATISTICS_FILE)))
    )


def _is_drawn(example: bytes, one_of: int) -> bool:
    return (
        one_of <= 1 or int.from_bytes(hashlib.blake2b(example, digest_size=8).digest(), "big") % one_of == 0
    )


def row_of(example: bytes) -> Row:
    """A stored request: raw feature -> its values."""
    import tensorflow as tf

    row = {}
    for name, feature in tf.train.Example.FromString(example).features.feature.items():
        kind = feature.WhichOneof("kind")
        if kind is not None:
            row[name] = list(getattr(feature, kind).value)
    return row


def label_batch(rows: Sequence[Row], compared: Mapping[str, Compared]) -> pa.RecordBatch:
    """Labels of rows, a column a feature, as TFDV takes them."""
    labelled = [request_values(row, compared) for row in rows]
    columns = [
        pa.array([labels[name] or None for labels in labelled], pa.list_(pa.large_string()))
        for name in compared
    ]
    return pa.RecordBatch.from_arrays(columns, list(compared))
