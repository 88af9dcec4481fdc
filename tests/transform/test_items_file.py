"""One file of items is read as a run reads the catalogue: the same texts, the same ids, the same refusals."""

import json
from pathlib import Path

import pandas as pd
import pytest

from transform.errors import TandemError
from transform.items_file import read_items_file

COLUMNS = {"item_id": False, "title": False, "brand": False, "price": True}
EXPECTED = [
    {"item_id": "17", "title": "red mug", "brand": "acme", "price": 3.5},
    {"item_id": "b", "title": "12"},
]


def write(folder: Path, suffix: str) -> str:
    path = folder / f"items{suffix}"
    if suffix == ".parquet":
        table = {
            "item_id": ["17", "b"],
            "title": ["red mug ", "12"],
            "brand": ["acme", None],
            "price": [3.5, None],
        }
        pd.DataFrame(table | {"colour": ["red", ""]}).to_parquet(path)
    elif suffix == ".csv":
        path.write_text("item_id,title,brand,price,colour\n17,red mug ,acme,3.5,red\nb,12,,,\n")
    else:
        rows = [{"item_id": 17.0, "title": "red mug ", "brand": "acme", "price": 3.5, "colour": "red"}]
        path.write_text(
            "".join(json.dumps(row) + "\n" for row in [*rows, {"item_id": "b", "title": 12, "brand": None}])
        )
    return str(path)


@pytest.mark.parametrize("suffix", [".csv", ".parquet", ".jsonl"])
def test_every_kind_of_file_gives_the_same_items(tmp_path: Path, suffix: str) -> None:
    assert read_items_file(write(tmp_path, suffix), COLUMNS) == (EXPECTED, ["colour"])


@pytest.mark.parametrize(
    ("name", "text", "reason"),
    [
        ("a.csv", "item_id,title\na,\n,b\n", "row 1: title is missing; row 2: item_id is missing: mend"),
        ("a.csv", "item_id,title\na,b\na,c\n", "row 2: item_id stands more than once"),
        ("a.csv", "item_id,title,price\na,b,three\n", "row 1: price is not a number"),
        ("a.csv", "item_id,name\na,b\n", "has no column 'title'"),
        ("a.csv", "item_id,title\n", "holds no item"),
        ("a.csv", "item_id,title\n" + ",b\n" * 7, "and 2 more"),
        (
            "a.jsonl",
            '{"item_id": "a", "title": ["b"]}\n',
            "row 1: column 'title' is neither text nor a number",
        ),
        ("a.jsonl", "[]\n", "row 1 is no object"),
        ("a.jsonl", "{\n", "cannot be read"),
        ("a.txt", "item_id\n", "expected one of items"),
    ],
)
def test_wrong_file_is_named_with_its_rows(tmp_path: Path, name: str, text: str, reason: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(TandemError, match=reason):
        read_items_file(str(tmp_path / name), COLUMNS)


def test_file_that_is_not_there(tmp_path: Path) -> None:
    for suffix in (".csv", ".parquet", ".jsonl"):
        with pytest.raises(TandemError, match="cannot be read"):
            read_items_file(str(tmp_path / f"gone{suffix}"), COLUMNS)
