"""Queries of like length are encoded together, at the least cost there is."""

import itertools

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from serving.length_buckets import _CALL, estimated_tokens, length_buckets


def cost(calls: list[list[int]]) -> int:
    return sum(_CALL + len(call) * max(call) for call in calls)


def every_split(lengths: list[int]) -> list[list[list[int]]]:
    """All ways to cut the sorted rows into calls: no other grouping is cheaper than one of neighbours."""
    rows = sorted(lengths)
    cuts = itertools.chain.from_iterable(
        itertools.combinations(range(1, len(rows)), count) for count in range(len(rows))
    )
    return [
        [rows[a:b] for a, b in itertools.pairwise((0, *cut, len(rows)))] if cut else [rows] for cut in cuts
    ]


@given(st.lists(st.integers(1, 60), min_size=1, max_size=8))
def test_every_row_is_in_one_call_and_no_split_is_cheaper(lengths: list[int]) -> None:
    calls = length_buckets(np.array(lengths))
    assert sorted(np.concatenate(calls).tolist()) == list(range(len(lengths)))
    received = cost([[lengths[row] for row in call] for call in calls])
    assert received == min(map(cost, every_split(lengths)))


def test_a_text_is_as_long_whichever_way_it_came() -> None:
    assert estimated_tokens("4-in. unbelievable café") == estimated_tokens("4-in. unbelievable café".encode())
    assert estimated_tokens("") == estimated_tokens(b"") == 1


def test_few_rows_share_a_call_and_many_do_not() -> None:
    # Apart: 2 * 40 + 2 * 3 + 2 * 15 = 116; together: 40 + 4 * 15 = 100.
    assert [call.tolist() for call in length_buckets(np.array([15, 3, 3, 15]))] == [[1, 2, 0, 3]]
    # Apart: 2 * 40 + 8 * 3 + 8 * 15 = 224; together: 40 + 16 * 15 = 280.
    calls = length_buckets(np.array([15, 3] * 8))
    assert [call.tolist() for call in calls] == [list(range(1, 16, 2)), list(range(0, 16, 2))]


def test_tokens_are_estimated_by_words_numbers_and_signs() -> None:
    assert estimated_tokens(b"") == 1
    assert estimated_tokens(b"red mug") == 4  # with the two ends
    assert estimated_tokens(b"1/2 in. x 3/4") == 2 + 9
    assert estimated_tokens(b"12345") == 2 + 2
    assert estimated_tokens(b"weatherproofing") == 2 + 2
    assert estimated_tokens("ведро".encode()) == 2 + 10  # every byte of another script
    assert estimated_tokens(b"a " * 1_000) == 128
