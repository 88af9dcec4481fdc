"""What a value in a shop's file means, whatever type the file gives it."""

import datetime as dt
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from transform.columns import as_number, as_seconds, as_text, is_scalar

NEW_YEAR = 1704067200.0  # 2024-01-01T00:00:00Z
UTC = dt.timezone.utc


@pytest.mark.parametrize(
    ("array", "values", "bad"),
    [
        (pa.array([" a ", "", "  ", None]), ["a", None, None, None], [0, 0, 0, 0]),
        (pa.array(["a", "b"]).dictionary_encode(), ["a", "b"], [0, 0]),
        (pa.array([7, None]), ["7", None], [0, 0]),
        (pa.array([7.0, 7.5, None, np.nan, np.inf]), ["7", None, None, None, None], [0, 1, 0, 0, 1]),
        (pa.array([b"a", b"\xff", None]), ["a", None, None], [0, 1, 0]),
        (pa.array([Decimal("12345678901234567890"), None]), ["12345678901234567890", None], [0, 0]),
        (pa.array([None, None]), [None, None], [0, 0]),
        (pa.chunked_array([], pa.string()), [], []),
        (pa.chunked_array([["a"], ["b"]]), ["a", "b"], [0, 0]),
    ],
    ids=["text", "dictionary", "whole", "float", "bytes", "decimal", "null", "empty", "chunks"],
)
def test_ids_and_words_become_text(array, values, bad):
    column = as_text(array)
    assert list(column.values) == values
    assert list(column.bad) == [bool(one) for one in bad]


@pytest.mark.parametrize(
    ("array", "values", "bad"),
    [
        (pa.array([1, None]), [1, np.nan], [0, 0]),
        (pa.array([1.5, np.nan, np.inf]), [1.5, np.nan, np.nan], [0, 0, 1]),
        (pa.array(["2.5", " 3 ", "", "x", "inf"]), [2.5, 3, np.nan, np.nan, np.nan], [0, 0, 0, 1, 1]),
        (pa.array([True, None]), [1, np.nan], [0, 0]),
        (pa.array([Decimal("1.25")]), [1.25], [0]),
        (pa.array([None]), [np.nan], [0]),
    ],
    ids=["whole", "float", "text", "boolean", "decimal", "null"],
)
def test_numbers_are_finite_or_missing_or_bad(array, values, bad):
    column = as_number(array)
    np.testing.assert_array_equal(column.values, np.array(values, dtype=np.float64))
    assert list(column.bad) == [bool(one) for one in bad]


@pytest.mark.parametrize(
    "array",
    [
        pa.array([dt.datetime(2024, 1, 1)], pa.timestamp("ns")),
        pa.array([dt.datetime(2024, 1, 1, tzinfo=UTC)], pa.timestamp("ms", "Europe/Paris")),
        pa.array([dt.date(2024, 1, 1)]),
        pa.array(["2024-01-01"]),
        pa.array(["2024-01-01 00:00"]),
        pa.array(["2024-01-01T00:00:00Z"]),
        pa.array(["2024-01-01 02:00:00+02:00"]),
        pa.array(["2023-12-31T19:00:00.000-0500"]),
        pa.array([1704067200]),
        pa.array([1704067200.0]),
        pa.array(["1704067200"]),
    ],
    ids=lambda array: f"{array.type} {array[0]}",
)
def test_a_moment_is_the_same_however_it_is_written(array):
    assert list(as_seconds(array).values) == [NEW_YEAR]


@pytest.mark.parametrize(
    "text",
    [
        "03/04/2024",
        "2024-13-01",
        "2024-02-30",
        "yesterday",
        "20240101",
        "2024",
        "1704067200000",
        "9999-12-31",
    ],
)
def test_a_time_that_could_be_misread_is_bad(text):
    # The good neighbour shows that one bad value does not take the others with it.
    column = as_seconds(pa.array([text, "2024-01-01", None]))
    np.testing.assert_array_equal(column.values, [np.nan, NEW_YEAR, np.nan])
    assert list(column.bad) == [True, False, False]


def test_milliseconds_are_not_taken_for_seconds():
    assert list(as_seconds(pa.array([1704067200000])).bad) == [True]


@given(st.datetimes(dt.datetime(1971, 1, 1), dt.datetime(2099, 1, 1)))
def test_text_and_timestamp_agree_to_the_microsecond(moment):
    expected = moment.replace(tzinfo=UTC).timestamp()
    for array in (pa.array([moment.isoformat()]), pa.array([moment], pa.timestamp("us"))):
        assert as_seconds(array).values[0] == pytest.approx(expected, abs=2e-6)


def test_lists_and_structures_are_not_one_value():
    assert not is_scalar(pa.list_(pa.float32()))
    assert not is_scalar(pa.struct([("a", pa.int64())]))
    assert is_scalar(pa.string())
