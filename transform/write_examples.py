"""Writes serialised examples as TFX artifacts hold them, in files whose content depends on the rows alone."""

import hashlib
import os
import zlib
from collections.abc import Iterable, Iterator, Sequence

import apache_beam as beam

# Input bytes (Parquet or CSV) a shard: at most some 100 MB of rows, which one worker sorts in memory.
_SHARD_BYTES = 4 << 20


def shards_for(paths: Sequence[str]) -> int:
    """How many files the rows made of these input files are spread over."""
    return 1 + sum(os.path.getsize(path) for path in paths) // _SHARD_BYTES


def write_examples(rows: beam.PCollection, name: str, directory: str, shards: int) -> None:
    """Adds the writing of `<directory>/data_tfrecord-<n>-of-<shards>.gz` to a pipeline.

    A row's file and place follow from a hash of its bytes: the same rows give the same files on every runner, and
    they come shuffled, as training wants them.

    Args:
      rows: serialised tf.Example.
      name: prefix of the step names.
      directory: made where it is not there.
      shards: how many files at most; one without rows is not written.
    """
    _ = (
        rows
        | f"{name}Shard" >> beam.Map(lambda row, shards: (zlib.crc32(row) % shards, row), shards)
        | f"{name}Group" >> beam.GroupByKey()
        | f"{name}Write" >> beam.ParDo(_WriteShard(directory, shards))
    )


class _WriteShard(beam.DoFn):
    """(n, rows) -> path of the file, which appears whole or not at all."""

    def __init__(self, directory: str, shards: int) -> None:
        self._directory = directory
        self._shards = shards

    def process(self, element: tuple[int, Iterable[bytes]]) -> Iterator[str]:
        """Writes one file."""
        import tensorflow as tf

        number, rows = element
        path = os.path.join(self._directory, f"data_tfrecord-{number:05d}-of-{self._shards:05d}.gz")
        draft = f"{path}.{os.getpid()}.tmp"
        tf.io.gfile.makedirs(self._directory)
        with tf.io.TFRecordWriter(draft, tf.io.TFRecordOptions("GZIP", compression_level=1)) as writer:
            for row in sorted(rows, key=lambda row: (hashlib.blake2b(row, digest_size=8).digest(), row)):
                writer.write(row)
        tf.io.gfile.rename(draft, path, overwrite=True)
        yield path
