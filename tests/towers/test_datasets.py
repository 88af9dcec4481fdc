"""Tests of towers.datasets."""

import itertools

import numpy as np
import pytest

from tests.towers.shop import FEATURES, ITEMS, batches, requests
from towers.datasets import Batches
from towers.examples import Column, Requests
from transform.errors import TandemError


def test_padding_puts_values_first_and_zeros_behind():
    column = Column(np.array([4, 5, 6, 7], np.int32), np.array([0, 2, 2, 4]))
    assert column.padded(np.array([2, 1, 0])).tolist() == [[6, 7], [0, 0], [4, 5]]
    assert column.padded(np.array([0]), width=1).tolist() == [[4]]
    empty = Column(np.zeros(0, np.int32), np.array([0, 0]))
    assert empty.padded(np.array([0])).tolist() == [[0]]


def test_every_request_comes_once_an_epoch_in_another_order():
    stream = Batches(requests(rows=24), FEATURES, pairs=1, targets_per_request=3, replicas=12)
    assert stream.requests_per_batch == 12
    two_epochs = list(itertools.islice(stream.stream(), 4))
    segment_free = [tuple(map(tuple, batch["history_items"][:, :2])) for batch in two_epochs]
    assert sorted(segment_free[0] + segment_free[1]) == sorted(segment_free[2] + segment_free[3])
    assert segment_free[0] != segment_free[2]


def test_targets_are_drawn_from_the_request_without_repeats():
    rows = requests()
    stream = Batches(rows, FEATURES, pairs=400, targets_per_request=2)
    column = rows.columns["target_items"]
    everything = np.arange(rows.size)
    batch = stream.batch(everything, stream.draw_targets(everything, np.random.default_rng(0)))
    assert batch["target_items"].shape[1] == 2
    for row in range(rows.size):
        own = column.values[column.offsets[row] : column.offsets[row + 1]].tolist()
        drawn = [item for item in batch["target_items"][row] if item]
        assert len(drawn) == min(2, len(own))
        for item in set(drawn):
            assert drawn.count(item) <= own.count(item)


def test_slots_are_those_of_the_stream():
    stream = batches()
    counted = np.zeros(ITEMS + 1)
    number = 600
    for batch in itertools.islice(stream.stream(), number):
        counted += np.bincount(batch["target_items"].ravel(), minlength=ITEMS + 1)
    expected = stream.own_slots(ITEMS + 1)
    np.testing.assert_allclose(counted[1:] / number, expected[1:], atol=0.12)
    assert expected.sum() == pytest.approx(stream.pairs_per_batch)
    # Negative control: plain counts, which forget that a long basket gives only 3 of its items.
    column = requests().columns["target_items"]
    plain = np.bincount(column.values, minlength=ITEMS + 1) / len(column.values) * stream.pairs_per_batch
    assert np.abs(counted / number - plain)[1:].max() > np.abs(counted / number - expected)[1:].max()


def test_stream_goes_on_from_any_batch():
    def nth(start):
        return next(batches().stream(start))

    later = list(itertools.islice(batches().stream(), 8))[7]
    for name, value in nth(7).items():
        np.testing.assert_array_equal(value, later[name])


def test_rows_without_any_target_are_one_clear_line():
    columns = {name: Column(np.zeros(0, np.int32), np.zeros(3, int)) for name in requests().columns}
    with pytest.raises(TandemError, match="2 training rows, none with a target"):
        Batches(Requests(columns), FEATURES, 10, 3)
