"""Columns as shops write them, made into text, numbers and seconds; what does not parse is marked.

Every function takes an Arrow array and returns NumPy arrays of the same length. The check before a run and
the run itself both read through them, so they agree on what a value means.
"""

from typing import NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

# Seconds of 2100-01-01: a larger number is not seconds (milliseconds, most likely).
_MAX_SECONDS = 4102444800.0
_ISO_8601 = r"\d{4}-\d\d-\d\d(?:[T ]\d\d:\d\d(?::\d\d(?:[.,]\d{1,9})?)?\s?(?:Z|[+-]\d\d:?(?:\d\d)?)?)?"


class Column(NamedTuple):
    """A column's values and what is wrong with them.

    Attributes:
      values: [n] object (str or None), or float64 (NaN where missing).
      bad: [n] bool, there was a value but not of the expected kind; values is None or NaN there.
    """

    values: np.ndarray
    bad: np.ndarray


def is_scalar(dtype: pa.DataType) -> bool:
    """Whether a column of this type holds one text, number or time a row."""
    return not (pa.types.is_nested(dtype) or pa.types.is_duration(dtype) or pa.types.is_interval(dtype))


def as_text(array: pa.Array | pa.ChunkedArray) -> Column:
    """Text without surrounding whitespace; "" is a missing value, whole numbers lose their ".0".

    Args:
      array: text, dictionary, whole number, float (whole values only), boolean, date or timestamp.

    Returns:
      values [n] object: str or None.
    """
    array = _plain(array)
    n = len(array)
    bad = np.zeros(n, dtype=bool)
    if pa.types.is_null(array.type):
        return Column(np.full(n, None, dtype=object), bad)
    if pa.types.is_floating(array.type):
        numbers = array.to_numpy(zero_copy_only=False).astype(np.float64)
        whole = np.isfinite(numbers) & (np.floor(numbers) == numbers)
        values = np.full(n, None, dtype=object)
        values[whole] = [str(int(number)) for number in numbers[whole]]
        return Column(values, ~whole & ~np.isnan(numbers))
    if pa.types.is_binary(array.type) or pa.types.is_large_binary(array.type):
        array, bad = _decode(array)
    elif pa.types.is_decimal(array.type):
        array = pa.array(
            [None if v is None else f"{v.normalize():f}" for v in array.to_pylist()], pa.string()
        )
    text = pc.utf8_trim_whitespace(array.cast(pa.string()))
    text = pc.if_else(pc.equal(text, ""), pa.scalar(None, pa.string()), text)
    return Column(text.to_numpy(zero_copy_only=False), bad)


def as_number(array: pa.Array | pa.ChunkedArray) -> Column:
    """Finite numbers; text is parsed ("3.5"), booleans are 0 and 1.

    Returns:
      values [n] float64, NaN where missing or bad.
    """
    array = _plain(array)
    n = len(array)
    if pa.types.is_null(array.type):
        return Column(np.full(n, np.nan), np.zeros(n, dtype=bool))
    if pa.types.is_boolean(array.type) or pa.types.is_integer(array.type) or pa.types.is_decimal(array.type):
        array = array.cast(pa.float64(), safe=False)
    if pa.types.is_floating(array.type):
        numbers = array.to_numpy(zero_copy_only=False).astype(np.float64)
        missing = np.isnan(numbers)
    else:
        text = as_text(array).values
        missing = np.array([value is None for value in text], dtype=bool)
        numbers = pd.to_numeric(pd.Series(text, dtype=object), errors="coerce").to_numpy(np.float64)
    bad = ~missing & ~np.isfinite(numbers)
    return Column(np.where(bad, np.nan, numbers), bad)


def as_seconds(array: pa.Array | pa.ChunkedArray) -> Column:
    """Seconds since 1970-01-01 UTC, from timestamps, dates, ISO 8601 text, or numbers that are such seconds.

    A time without a zone is UTC. Text of nine or ten digits, as in a CSV file, is a number of seconds too.

    Returns:
      values [n] float64 with microseconds, NaN where missing or bad.
    """
    array = _plain(array)
    n = len(array)
    if pa.types.is_null(array.type):
        return Column(np.full(n, np.nan), np.zeros(n, dtype=bool))
    if pa.types.is_date(array.type) or pa.types.is_timestamp(array.type):
        return Column(_microseconds(array) / 1e6, np.zeros(n, dtype=bool))
    if pa.types.is_integer(array.type) or pa.types.is_floating(array.type) or pa.types.is_decimal(array.type):
        seconds, bad = as_number(array)
    else:
        seconds, bad = _parse_times(as_text(array).values)
    outside = ~np.isnan(seconds) & ((seconds < 0) | (seconds >= _MAX_SECONDS))
    return Column(np.where(outside, np.nan, seconds), bad | outside)


def _plain(array: pa.Array | pa.ChunkedArray) -> pa.Array:
    if isinstance(array, pa.ChunkedArray):
        array = array.combine_chunks() if array.num_chunks != 1 else array.chunk(0)
        if isinstance(array, pa.ChunkedArray):
            array = array.chunk(0) if array.num_chunks else pa.array([], array.type)
    if pa.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    return array


def _decode(array: pa.Array) -> tuple[pa.Array, np.ndarray]:
    """Bytes to text; a value that is not UTF-8 is bad."""
    try:
        return array.cast(pa.string()), np.zeros(len(array), dtype=bool)
    except pa.ArrowInvalid:
        texts: list[str | None] = []
        bad = np.zeros(len(array), dtype=bool)
        for n, value in enumerate(array.to_pylist()):
            try:
                texts.append(None if value is None else value.decode("utf-8"))
            except UnicodeDecodeError:
                texts.append(None)
                bad[n] = True
        return pa.array(texts, pa.string()), bad


def _microseconds(array: pa.Array) -> np.ndarray:
    """Timestamps to float64 microseconds since 1970, NaN where null."""
    zone = array.type.tz if pa.types.is_timestamp(array.type) else None
    whole = array.cast(pa.timestamp("us", zone), safe=False).cast(pa.int64())
    return whole.to_numpy(zero_copy_only=False).astype(np.float64)


def _parse_times(text: np.ndarray) -> Column:
    try:
        return Column(
            _microseconds(pa.array(text, pa.string()).cast(pa.timestamp("us"))) / 1e6,
            np.zeros(len(text), bool),
        )
    except pa.ArrowInvalid:
        pass  # A zone, a fraction, or a value that is no time: one by one below.
    series = pd.Series(text, dtype=object)
    iso = series.str.fullmatch(_ISO_8601).fillna(False).astype(bool)
    parsed = pd.to_datetime(series.where(iso), utc=True, errors="coerce")
    seconds = parsed.astype("int64").to_numpy(np.float64) / 1e9
    seconds[parsed.isna().to_numpy()] = np.nan
    digits = series.str.fullmatch(r"\d{9,10}(?:\.\d*)?").fillna(False).to_numpy(bool)
    seconds[digits] = series[digits].astype(np.float64)
    return Column(seconds, series.notna().to_numpy() & np.isnan(seconds))
