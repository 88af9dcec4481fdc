"""A dataset directory is found and read, or refused with one clear line."""

import os

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.transform.shop_files import EVENTS, ITEMS, USERS, write_shop
from transform.dataset import check_columns, find_dataset, fingerprint, read_events, spans, time_range
from transform.errors import TandemError
from transform.parts import parts, read_file, row_count


def check(directory, items=(), users=(), context=()):
    check_columns(find_dataset(directory), items=items, users=users, context=context)


def columns_missing(directory, **declared):
    """What the check says, "" where it says nothing."""
    try:
        check(directory, **declared)
    except TandemError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("kind", ["parquet", "csv"])
def test_parquet_and_csv_hold_the_same_events(tmp_path, kind):
    shop = write_shop(tmp_path / "shop", kind=kind)
    check(shop, items=["category", "price"], users=["segment"])
    events = read_events(shop, 1)
    assert list(events["item_id"]) == ["a", "b", "a"]
    assert list(events["timestamp"]) == list(EVENTS["timestamp"])
    assert list(events["query"]) == ["", "", ""]
    assert time_range(shop, 1) == (1704067200.0, 1704067200.0 + 2 * 86400)


def test_spans_come_in_order_of_their_numbers_and_gaps_are_fine(tmp_path):
    shop = write_shop(tmp_path)
    for number in (10, 2):
        (tmp_path / f"events/span-{number}").mkdir()
        EVENTS.to_parquet(tmp_path / f"events/span-{number}/part.parquet")
    (tmp_path / "events/notes").mkdir()
    (tmp_path / "events/span-1/_SUCCESS").touch()
    assert spans(shop) == [1, 2, 10]
    assert [os.path.basename(path) for path in find_dataset(shop).spans[1]] == ["events.parquet"]


def test_bad_rows_are_left_out_of_what_reports_read(tmp_path):
    events = EVENTS.astype({"timestamp": str})
    events.loc[1, "timestamp"] = "never"
    assert list(read_events(write_shop(tmp_path, events=events), 1)["item_id"]) == ["a", "a"]


def test_rows_keep_their_numbers_over_row_groups_and_batches(tmp_path):
    table = pa.table({"n": list(range(1, 200_001))})
    pq.write_table(table, tmp_path / "t.parquet", row_group_size=70_000)
    path = str(tmp_path / "t.parquet")
    assert [part.first_row for part in parts(path)] == [1, 70_001, 140_001]
    for first, batch in read_file(path, ["n", "absent"]):
        assert batch["n"][0].as_py() == first
        assert batch.column_names == ["n"]
    assert row_count(path) == 200_000


def test_csv_cells_may_hold_line_breaks_and_long_ids_stay_text(tmp_path):
    (tmp_path / "items.csv").write_text('item_id,title\n007,"Red\nmug"\n12345678901234567890,Lamp\n')
    (first, table), *rest = read_file(str(tmp_path / "items.csv"), ["item_id", "title"])
    assert (first, rest) == (1, [])
    assert table["item_id"].to_pylist() == ["007", "12345678901234567890"]
    assert table["title"].to_pylist()[0] == "Red\nmug"


def test_fingerprint_follows_the_files_that_a_run_reads(tmp_path):
    shop = write_shop(tmp_path)
    before = fingerprint(shop)
    assert fingerprint(shop) == before
    (tmp_path / "events/span-2").mkdir()
    EVENTS.to_parquet(tmp_path / "events/span-2/events.parquet")
    assert fingerprint(shop) != before
    assert fingerprint(shop, newest=1) == before
    ITEMS.head(1).to_parquet(tmp_path / "items.parquet")
    assert fingerprint(shop, newest=1) != before


def missing_directory(root):
    return root / "nowhere"


def without_items(root):
    return write_shop(root / "shop", items=None)


def without_events(root):
    return write_shop(root / "shop", events=None)


def with_empty_span(root):
    shop = write_shop(root / "shop")
    (shop / "events/span-2").mkdir()
    return shop


def with_two_item_files(root):
    shop = write_shop(root / "shop")
    ITEMS.to_csv(shop / "items.csv")
    return shop


def with_a_span_twice(root):
    shop = write_shop(root / "shop")
    (shop / "events/span-01").mkdir()
    EVENTS.to_parquet(shop / "events/span-01/events.parquet")
    return shop


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (missing_directory, "is not a directory; expected items, users and events"),
        (without_items, "holds neither items.parquet nor items.csv"),
        (without_events, "holds no span; expected folders such as span-1"),
        (with_empty_span, "span-2 is empty; expected a .parquet or .csv file"),
        (with_two_item_files, "both items.parquet and items.csv"),
        (with_a_span_twice, "holds span 1 twice"),
    ],
)
def test_a_directory_that_is_not_a_dataset_gets_one_line(tmp_path, make, says):
    with pytest.raises(TandemError, match=says) as caught:
        spans(make(tmp_path))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("tables", "declared", "says"),
    [
        (
            {"items": ITEMS.drop(columns="title")},
            {},
            "items.parquet has columns item_id, price; expected also title",
        ),
        ({"events": EVENTS.drop(columns="event_type")}, {}, "expected also event_type"),
        ({"users": USERS.rename(columns={"user_id": "id"})}, {}, "expected also user_id"),
        ({}, {"items": ["colour"]}, "expected also colour"),
        ({}, {"users": ["income"]}, "expected also income"),
        ({}, {"context": ["device"]}, "expected also device"),
        ({"items": ITEMS.assign(tags=[["x"], []])}, {"items": ["tags"]}, "column tags holds list"),
        ({"events": EVENTS.assign(user_id=[["u"], [], []])}, {}, "column user_id holds list"),
    ],
)
def test_a_missing_or_nested_column_gets_one_line(tmp_path, tables, declared, says):
    shop = write_shop(tmp_path, **tables)
    with pytest.raises(TandemError, match=says):
        check(shop, **declared)


def test_a_shop_without_users_or_categories_needs_no_other_declaration(tmp_path):
    declared = {"items": ["category", "brand", "price"], "users": ["segment"]}
    assert columns_missing(write_shop(tmp_path / "none", users=None), **declared) == ""
    # Where there are users, what is declared of them must be there.
    assert "segment" in columns_missing(write_shop(tmp_path / "some", users=USERS[["user_id"]]), **declared)


def test_a_context_column_may_be_newer_than_the_oldest_span(tmp_path):
    shop = write_shop(tmp_path)
    (tmp_path / "events/span-2").mkdir()
    EVENTS.assign(device="phone").to_parquet(tmp_path / "events/span-2/events.parquet")
    assert columns_missing(shop, context=["device"]) == ""
    assert "colour" in columns_missing(shop, context=["colour"])


def test_unknown_span_and_span_without_times_get_one_line(tmp_path):
    shop = write_shop(tmp_path, events=EVENTS.assign(timestamp="never"))
    with pytest.raises(TandemError, match="span-1 has no row with a timestamp that parses"):
        time_range(shop, 1)
    for read in (time_range, read_events):
        with pytest.raises(TandemError, match="span 7 is not in .*expected one of 1"):
            read(shop, 7)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("items.parquet", b"hello"),
        ("items.csv", b"item_id,title\n1,2,3\n"),
        ("items.csv", b""),
        ("items.csv", b"a\n\xff\n"),
    ],
)
def test_a_file_that_is_not_what_its_name_says_gets_one_line(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(TandemError, match=f"{name} cannot be read .*write the file again") as caught:
        list(read_file(str(tmp_path / name), ["item_id", "a"]))
    assert "\n" not in str(caught.value)


def test_float_ids_are_read_as_whole_numbers(tmp_path):
    events = EVENTS.assign(user_id=[1.0, 2.0, None])
    assert list(read_events(write_shop(tmp_path, events=events), 1)["user_id"]) == ["1", "2", ""]
    assert pd.api.types.is_datetime64_ns_dtype(read_events(tmp_path, 1)["timestamp"])
