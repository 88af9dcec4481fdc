"""Transformed examples in memory: every column as values and offsets, read once from TFRecord files."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from towers.catalogue import Catalogue
from transform.errors import TandemError
from transform.features import (
    HISTORY_AGES,
    HISTORY_ITEMS,
    HISTORY_TYPES,
    ITEM,
    ITEM_LEXEME_WORDS,
    ITEM_LEXEMES,
    ITEM_TOKENS,
    ITEM_WORD_NUMBERS,
    ITEM_WORD_TOKENS,
    KNOWN_POSITIVES,
    PATH_LEVELS,
    QUERY_LEXEMES,
    QUERY_TOKENS,
    TARGET_ITEMS,
    TARGET_WEIGHTS,
    query_features,
)
from transform.settings import FeatureSettings


class Column(NamedTuple):
    """Values of any number a row: row r holds values[offsets[r] : offsets[r + 1]]."""

    values: np.ndarray
    offsets: np.ndarray

    def lengths(self, rows: np.ndarray) -> np.ndarray:
        """int64 [len(rows)], how many values each of the rows has."""
        return self.offsets[rows + 1] - self.offsets[rows]

    def places(self, rows: np.ndarray) -> np.ndarray:
        """int64, where the values of the rows lie, row after row."""
        lengths = self.lengths(rows)
        ends = np.cumsum(lengths)
        return np.arange(ends[-1] if len(ends) else 0) + np.repeat(
            self.offsets[rows] - ends + lengths, lengths
        )

    def take(self, rows: np.ndarray) -> "Column":
        """The same of some rows."""
        return Column(self.values[self.places(rows)], np.concatenate([[0], np.cumsum(self.lengths(rows))]))

    def padded(self, rows: np.ndarray, width: int | None = None) -> np.ndarray:
        """Returns [len(rows), W]: the rows' first W values, 0 behind them; W is the longest row's by default."""
        lengths = self.lengths(rows)
        width = max(int(lengths.max(initial=0)), 1) if width is None else width
        there = np.arange(width) < lengths[:, np.newaxis]
        place = np.where(there, self.offsets[rows][:, np.newaxis] + np.arange(width), 0)
        values = self.values if len(self.values) else np.zeros(1, self.values.dtype)
        return np.where(there, values[place], 0).astype(self.values.dtype)


class Requests(NamedTuple):
    """Transformed rows of split train or eval; row = one request with all its targets."""

    columns: dict[str, Column]

    @property
    def size(self) -> int:
        """Number of rows."""
        return len(self.columns[TARGET_ITEMS].offsets) - 1

    def take(self, rows: np.ndarray) -> "Requests":
        """Some rows: int [n], in that order."""
        return Requests({name: column.take(rows) for name, column in self.columns.items()})


def request_columns(features: FeatureSettings) -> tuple[str, ...]:
    """Names of the query tower's inputs, without targets."""
    declared = tuple(feature.name for feature in query_features(features))
    texts = (QUERY_TOKENS, QUERY_LEXEMES) if features.lexical_buckets else (QUERY_TOKENS,)
    return (*texts, HISTORY_ITEMS, HISTORY_TYPES, HISTORY_AGES, *declared)


def read_requests(patterns: list[str], features: FeatureSettings) -> Requests:
    """Reads transformed examples of split train or eval.

    Args:
      patterns: globs of TFRecord files.
      features: declared features.

    Raises:
      TandemError: no file matches, or a file is damaged.
    """
    names = (*request_columns(features), TARGET_ITEMS, TARGET_WEIGHTS, KNOWN_POSITIVES)
    return Requests(_read(patterns, names))


def read_histories(patterns: Sequence[str]) -> dict[str, Column]:
    """Reads the histories of split histories, newest event first: `HISTORY_ITEMS`, `HISTORY_TYPES`, `HISTORY_AGES`.

    Args:
      patterns: globs of TFRecord files.

    Raises:
      TandemError: no file matches, or a file is damaged.
    """
    return _read(patterns, (HISTORY_ITEMS, HISTORY_TYPES, HISTORY_AGES))


def read_catalogue(patterns: list[str], features: FeatureSettings, rows: int) -> Catalogue:
    """Reads transformed examples of split items into tables by item row.

    Args:
      patterns: globs of TFRecord files.
      features: declared features.
      rows: rows of the item vocabulary, row 0 included.

    Raises:
      TandemError: no file matches, or a file is damaged.
    """
    widths = {feature.name: PATH_LEVELS if feature.kind == "path" else 1 for feature in features.item}
    lexical = (ITEM_LEXEMES, ITEM_LEXEME_WORDS) if features.lexical_buckets else ()
    columns = _read(patterns, (ITEM, ITEM_TOKENS, ITEM_WORD_TOKENS, ITEM_WORD_NUMBERS, *lexical, *widths))
    place = np.arange(len(columns[ITEM].offsets) - 1)
    item = columns[ITEM].padded(place, 1)[:, 0]

    def table(name: str, width: int | None = None) -> np.ndarray:
        padded = columns[name].padded(place, width)
        values = np.zeros((rows, padded.shape[1]), np.int32)
        values[item] = padded
        values[0] = 0
        return values

    return Catalogue(
        tokens=table(ITEM_TOKENS, features.item_tokens),
        features={name: table(name, width) for name, width in widths.items()},
        word_tokens=table(ITEM_WORD_TOKENS),
        word_numbers=table(ITEM_WORD_NUMBERS),
        lexemes=table(ITEM_LEXEMES) if lexical else None,
        lexeme_words=table(ITEM_LEXEME_WORDS) if lexical else None,
    )


def _read(patterns: Sequence[str], names: tuple[str, ...]) -> dict[str, Column]:
    files = sorted(path for pattern in patterns for path in tf.io.gfile.glob(pattern))
    if not files:
        raise TandemError(
            f"{', '.join(patterns)}: no file matches, expected transformed examples; run Transform first."
        )
    spec = {
        name: tf.io.RaggedFeature(
            tf.float32 if name == TARGET_WEIGHTS else tf.int64, name, row_splits_dtype=tf.int64
        )
        for name in names
    }
    compression = "GZIP" if files[0].endswith(".gz") else ""
    examples = tf.data.TFRecordDataset(files, compression_type=compression).batch(1024)
    examples = examples.map(lambda e: tf.io.parse_example(e, spec), num_parallel_calls=2).prefetch(2)
    values: dict[str, list[np.ndarray]] = {name: [] for name in names}
    lengths: dict[str, list[np.ndarray]] = {name: [] for name in names}
    try:
        for batch in examples:
            for name in names:
                kind = np.float32 if name == TARGET_WEIGHTS else np.int32
                values[name].append(batch[name].values.numpy().astype(kind))
                lengths[name].append(batch[name].row_lengths().numpy())
    except tf.errors.OpError as error:
        detail = str(error.message).splitlines()[0]
        raise TandemError(
            f"{', '.join(patterns)}: not readable as transformed examples ({detail}); run Transform again."
        ) from None
    if not values[names[0]]:
        raise TandemError(
            f"{', '.join(patterns)}: no example inside, expected at least one; check the spans."
        )
    return {
        name: Column(
            np.concatenate(values[name]), np.concatenate([[0], np.cumsum(np.concatenate(lengths[name]))])
        )
        for name in names
    }
