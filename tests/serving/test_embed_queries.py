"""Stored rows are taken evenly from all files of a split, and no more of them are held than twice as many."""

from pathlib import Path

import pytest
import tensorflow as tf

from serving.embed_queries import read_examples


def write(directory: Path, rows: int) -> None:
    """Rows 0, 1, ... in two files, the first of them compressed."""
    for name, part in (("a.gz", range(rows // 3)), ("b", range(rows // 3, rows))):
        options = tf.io.TFRecordOptions("GZIP" if name.endswith(".gz") else "")
        with tf.io.TFRecordWriter(str(directory / name), options) as writer:
            for row in part:
                writer.write(str(row).encode())


@pytest.mark.parametrize(
    ("rows", "most"), [(0, 5), (3, 5), (5, 5), (6, 5), (9, 5), (10, 5), (1000, 7), (1000, 64), (1024, 64)]
)
def test_examples_are_as_many_as_wanted_and_spread_evenly(tmp_path: Path, rows: int, most: int) -> None:
    write(tmp_path, rows)
    found = [int(row) for row in read_examples(str(tmp_path), most)]
    assert len(found) == min(rows, most)
    assert found == sorted(set(found))
    gaps = [after - before for before, after in zip([*found, rows], [*found[1:], rows], strict=False)]
    assert all(gap <= max(1, 3 * rows / most) for gap in gaps) and found[:1] == [0][:rows]
