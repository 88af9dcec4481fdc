"""`tandem prepare csv|parquet`: what was found, what is wrong, and a dataset directory written whole."""

import io
import json

import pandas as pd
import pytest
from rich.console import Console

from tests.mini_shop import write_mini_shop
from tests.transform.shop_files import EVENTS, ITEMS, USERS, write_shop
from transform import rows
from transform.check import check_dataset, prepare_files
from transform.dataset import read_events, spans
from transform.errors import TandemError
from transform.write_dataset import new_directory, span_of

EVENTS_FILE = "events/span-1/events.parquet"


def shown(report):
    console = Console(file=io.StringIO(), width=200, no_color=True)
    console.print(report.table())
    return console.file.getvalue()


def many_events(n=1000, **columns):
    times = pd.date_range("2024-01-01 05:00", periods=n, freq="H")
    return pd.DataFrame(
        {"timestamp": times, "item_id": "a", "event_type": "purchase", "user_id": "u", **columns}
    )


def test_a_sound_shop_has_nothing_wrong(tmp_path):
    report = check_dataset(write_mini_shop(tmp_path / "shop"))
    assert report.problems == []
    assert not report.failed
    text = shown(report)
    assert "events/span-2/events.parquet" in text
    assert "2024-01-01 .. 2024-01-07; purchase" in text
    assert "nothing" in text


@pytest.mark.parametrize(
    ("tables", "what", "where", "row_numbers"),
    [
        ({"items": None}, "the file is missing", "items.parquet|.csv", []),
        ({"events": None}, "there are no events", "events.parquet|.csv or events/span-<n>", []),
        ({"items": ITEMS.drop(columns="title")}, "column title is missing", "items.parquet", []),
        ({"events": EVENTS.drop(columns="timestamp")}, "column timestamp is missing", EVENTS_FILE, []),
        ({"events": EVENTS.head(0)}, "no events; expected at least one", EVENTS_FILE, []),
        ({"items": ITEMS.head(0)}, "no rows; expected at least one", "items.parquet", []),
        ({"items": pd.concat([ITEMS, ITEMS])}, rows.DUPLICATE_ITEM, "items.parquet", [3, 4]),
        ({"users": pd.concat([USERS, USERS])}, rows.DUPLICATE_USER, "users.parquet", [3, 4]),
        ({"items": ITEMS.assign(title=["", "x"])}, "title is missing", "items.parquet", [1]),
        ({"items": ITEMS.assign(price=["3", "cheap"])}, "price is not a number", "items.parquet", [2]),
        ({"items": ITEMS.assign(item_id=["a", "b\nc"])}, "item_id is not one line", "items.parquet", [2]),
        ({"events": EVENTS.assign(item_id=["a", "x", "y"])}, rows.UNKNOWN_ITEM, EVENTS_FILE, [2, 3]),
        ({"events": EVENTS.assign(item_id=["a", None, "a"])}, "item_id is missing", EVENTS_FILE, [2]),
        (
            {"events": EVENTS.assign(timestamp=["2024-01-01", "03/04/24", None])},
            "timestamp does not parse", EVENTS_FILE, [2],
        ),
        (
            {"events": EVENTS.assign(timestamp=["2024-01-01", "2024-01-01", None])},
            "timestamp is missing", EVENTS_FILE, [3],
        ),
        ({"events": EVENTS.assign(event_type=["a", " ", "a"])}, "event_type is missing", EVENTS_FILE, [2]),
        ({"events": EVENTS.assign(weight=[1, 0, -1])}, "weight is not a number above 0", EVENTS_FILE, [2, 3]),
        ({"events": EVENTS.assign(user_id=[1.5, 1, 1])}, "user_id is not a text", EVENTS_FILE, [1]),
        (
            {"events": EVENTS.assign(query=["a", "b " * 5000, None])},
            "query is longer than 1000 characters", EVENTS_FILE, [2],
        ),
        ({"items": ITEMS.assign(price=[[1], [2]])}, "column price holds list", "items.parquet", []),
    ],
)  # fmt: skip
def test_each_fault_is_named_with_its_file_and_rows(tmp_path, tables, what, where, row_numbers):
    report = check_dataset(write_shop(tmp_path, **tables))
    found = [problem for problem in report.problems if problem.what.startswith(what)]
    assert [problem.rows for problem in found] == [row_numbers]
    assert found[0].where == where
    assert report.failed
    text = shown(report)
    assert what in " ".join(text.split())
    assert "cannot be used as they are" in text


def test_an_empty_span_folder_is_named(tmp_path):
    (write_shop(tmp_path) / "events/span-3").mkdir()
    (problem,) = check_dataset(tmp_path).problems
    assert (problem.where, problem.fatal) == ("events/span-3", True)


def test_many_bad_rows_are_counted_and_the_first_few_numbered(tmp_path):
    events = many_events(2000)
    events.loc[100:149, "item_id"] = "gone"
    (problem,) = check_dataset(write_shop(tmp_path, events=events)).problems
    assert (problem.count, problem.rows) == (50, [101, 102, 103, 104, 105])
    assert "rows 101, 102, 103, 104, 105, ..." in shown(check_dataset(tmp_path))


def test_a_few_bad_rows_are_left_out_and_kept_aside(tmp_path):
    events = many_events()
    events.loc[[3, 7], "item_id"] = "gone"
    source = write_shop(tmp_path / "source", events=events, flat=True)
    report = prepare_files("parquet", str(source), str(tmp_path / "out"))
    # 2 of 1,004 rows are less than the 1 % that stops a run.
    assert (report.bad_rows, report.failed, report.written) == (2, False, str(tmp_path / "out"))
    kept = sum(len(read_events(tmp_path / "out", span)) for span in spans(tmp_path / "out"))
    assert kept == 998
    aside = [json.loads(line) for line in (tmp_path / "out/rejected.jsonl").read_text().splitlines()]
    assert aside == [{"file": "events.parquet", "row": n, "reason": rows.UNKNOWN_ITEM} for n in (4, 8)]
    assert check_dataset(tmp_path / "out").problems == []


@pytest.mark.parametrize("kind", ["parquet", "csv"])
@pytest.mark.parametrize(("span_length", "numbers"), [("day", [1, 2, 3]), ("week", [1])])
def test_a_flat_events_file_is_split_into_spans(tmp_path, kind, span_length, numbers):
    source = write_shop(tmp_path / "source", flat=True, kind=kind)
    report = prepare_files(kind, str(source), str(tmp_path / "out"), span_length=span_length)
    assert report.problems == []
    assert spans(tmp_path / "out") == numbers
    events = pd.concat([read_events(tmp_path / "out", n) for n in numbers])
    assert list(events["item_id"]) == ["a", "b", "a"]
    assert list(events["timestamp"]) == list(EVENTS["timestamp"])
    assert not (tmp_path / "out/rejected.jsonl").exists()
    assert check_dataset(tmp_path / "out").problems == []
    segments = pd.read_parquet(tmp_path / "out/users.parquet")["segment"]
    assert segments[0] == "family"


def test_spans_keep_their_numbers_and_other_columns_are_copied(tmp_path):
    source = write_mini_shop(tmp_path / "source")
    prepare_files("parquet", str(source), str(tmp_path / "out"))
    for span in (1, 2):
        path = f"events/span-{span}/events.parquet"
        pd.testing.assert_frame_equal(
            pd.read_parquet(tmp_path / "out" / path), pd.read_parquet(source / path)
        )


def test_a_week_starts_with_the_first_day_at_midnight():
    noon = 1704067200.0 + 43200  # 2024-01-01T12:00Z
    times = noon + pd.Series([0, 0.49, 0.5, 6.49, 6.5, 13.5]).to_numpy() * 86400
    assert list(span_of(times, noon, "day")) == [1, 1, 2, 7, 8, 15]
    assert list(span_of(times, noon, "week")) == [1, 1, 1, 1, 2, 3]


def test_nothing_is_written_when_the_check_fails(tmp_path):
    source = write_shop(tmp_path / "source", items=pd.concat([ITEMS, ITEMS]))
    report = prepare_files("parquet", str(source), str(tmp_path / "out"))
    assert report.failed
    assert [path.name for path in tmp_path.iterdir()] == ["source"]


def test_a_crash_while_writing_leaves_nothing_behind(tmp_path):
    with pytest.raises(RuntimeError), new_directory(tmp_path / "out") as draft:
        (draft / "items.parquet").touch()
        assert not (tmp_path / "out").exists()
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []


def test_an_output_that_is_there_is_not_touched(tmp_path):
    source = write_shop(tmp_path / "source")
    out = tmp_path / "out"
    out.mkdir()
    with pytest.raises(TandemError, match="is there already; expected a new directory"):
        prepare_files("parquet", str(source), str(out))
    assert list(out.iterdir()) == []


def test_a_source_that_is_not_there_gets_one_line(tmp_path):
    with pytest.raises(TandemError, match="is not a directory; expected one with items, events"):
        prepare_files("csv", str(tmp_path / "nowhere"))


def test_only_files_of_the_kind_asked_for_count(tmp_path):
    report = prepare_files("csv", str(write_shop(tmp_path)))
    assert "items.csv" in [problem.where for problem in report.problems]
