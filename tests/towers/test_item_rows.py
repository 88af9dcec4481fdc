"""Rows of items are found in mapped files as in a dict, and an item without one is named."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from towers.item_rows import ItemRows, save_item_rows
from transform.errors import TandemError

IDS = st.text(st.characters(exclude_categories=["Cs"]))


@given(st.lists(IDS, unique=True, min_size=1), st.data())
def test_rows_are_those_of_the_vocabulary(tmp_path_factory, ids, data):
    directory = tmp_path_factory.mktemp("rows")
    save_item_rows(directory, ids)
    rows = ItemRows(directory)
    oracle = {item: row for row, item in enumerate(ids, start=1)}
    asked = data.draw(st.lists(st.sampled_from(ids)))
    assert rows.of([item.encode() for item in asked]).tolist() == [oracle[item] for item in asked]
    other = data.draw(IDS.filter(lambda item: item not in oracle))
    with pytest.raises(TandemError, match="no row for item"):
        rows.of([*(item.encode() for item in asked), other.encode()])


def test_files_are_mapped_and_not_read(tmp_path: Path):
    save_item_rows(tmp_path, ["a", "b"])
    rows = ItemRows(tmp_path)
    assert isinstance(rows._digests, np.memmap) and isinstance(rows._rows, np.memmap)


def test_an_unknown_item_is_named_with_the_number_of_others(tmp_path: Path):
    save_item_rows(tmp_path, ["a"])
    with pytest.raises(TandemError, match="no row for item 'x', and 1 others of 3"):
        ItemRows(tmp_path).of([b"a", b"x", b"y"])
    save_item_rows(tmp_path, [])
    with pytest.raises(TandemError, match="no row for item 'x', and 0 others of 1"):
        ItemRows(tmp_path).of([b"x"])
    assert ItemRows(tmp_path).of([]).tolist() == []


@pytest.mark.parametrize("name", ["item_digests.npy", "item_rows.npy"])
def test_a_missing_or_damaged_file_is_said(tmp_path: Path, name: str):
    save_item_rows(tmp_path, ["a"])
    (tmp_path / name).write_bytes(b"broken")
    with pytest.raises(TandemError, match="rows of items cannot be read.*train again"):
        ItemRows(tmp_path)
    (tmp_path / name).unlink()
    with pytest.raises(TandemError, match="rows of items cannot be read.*train again"):
        ItemRows(tmp_path)
