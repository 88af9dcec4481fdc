"""InteractionGen through Beam, row by row against an oracle that looks at every event."""

import json
import os
from pathlib import Path

import pandas as pd
import pytest

from tests.mini_shop import write_mini_shop
from tests.transform.conftest import make
from tests.transform.oracle import canonical, expected_rows
from tests.transform.read_split import one, read_split
from tests.transform.run_interaction_gen import run_interaction_gen
from tests.transform.shop_files import EVENTS, ITEMS, write_shop
from transform import rows
from transform.errors import TandemError
from transform.features import HISTORIES, QUERY_GROUPS, USER_GROUPS, VIEWS
from transform.settings import DataSettings, FeatureSettings


def report_of(run):
    return json.loads(Path(run.examples.uri, "interactions.json").read_text())


@pytest.mark.parametrize("name", ["first_run", "warm_run", "search_run", "purchase_run"])
def test_every_row_is_what_the_oracle_says(name, request):
    run = request.getfixturevalue(name)
    train, held = expected_rows(run.shop, run.features, run.data, run.newest, run.previous)
    assert canonical(read_split(run.examples, "train")) == canonical(train)
    assert canonical(read_split(run.examples, "eval")) == canonical(held)
    counts = report_of(run)["counts"]
    assert (counts["train_rows"], counts["eval_rows"]) == (len(train), len(held))
    assert counts["train_targets"] == sum(len(row["target_item_ids"]) for row in train)
    assert counts["rejected"] == {}


def test_the_oracle_sees_a_wrong_cut(first_run):
    """Negative control: the same comparison fails when the held-out time is an hour longer."""
    data = first_run.data.model_copy(update={"holdout_days": 2 + 1 / 24})
    train, _ = expected_rows(first_run.shop, first_run.features, data, first_run.newest)
    assert canonical(read_split(first_run.examples, "train")) != canonical(train)


def test_every_slice_that_is_judged_has_rows(first_run):
    held = read_split(first_run.examples, "eval")
    assert {one(row, "view") for row in held} == set(VIEWS) - {"anchor"}
    assert {one(row, "user_group") for row in held} == set(USER_GROUPS) - {"none"}
    assert {one(row, "query_group") for row in held} == set(QUERY_GROUPS)


def test_the_catalogue_is_whole_and_each_item_once(first_run):
    items = read_split(first_run.examples, "items")
    table = pd.read_parquet(os.path.join(first_run.shop, "items.parquet")).set_index("item_id")
    assert sorted(one(row, "item_id") for row in items) == sorted(table.index)
    for row in items:
        item = table.loc[one(row, "item_id")]
        assert one(row, "title") == item["title"]
        assert one(row, "brand") == item["brand"]
        price = one(row, "price")
        assert (price is None and pd.isna(item["price"])) or price == pytest.approx(item["price"], rel=1e-6)


def test_a_warm_start_learns_only_what_the_push_before_has_not(first_run, warm_run):
    first, warm = report_of(first_run), report_of(warm_run)
    times = [one(row, "timestamp") for row in read_split(warm_run.examples, "train")]
    assert min(times) >= int(first["trained_until"])
    assert max(times) < warm["trained_until"]
    assert warm["train_from"] == first["trained_until"]
    assert (first["spans"], warm["spans"]) == ([1, 2], [1, 2, 3])
    # What was held out from the first push is learnt from by the second.
    assert any(time < first["eval_until"] for time in times)


def test_new_and_replayed_requests_are_together_those_of_a_first_run(replay_run, shop, tmp_path):
    """Where all that is old is learnt again, a warm start sees what a run from scratch sees, anchors included."""
    scratch = make(tmp_path, shop, newest=3, anchor_share=0.2)
    for split in ("train", "eval"):
        ours, theirs = (canonical(read_split(run.examples, split)) for run in (replay_run, scratch))
        assert ours == theirs
    counts, all_new = report_of(replay_run)["counts"], report_of(scratch)["counts"]
    assert 0 < counts["replayed_rows"] < counts["train_rows"] == all_new["train_rows"]
    assert all_new["replayed_rows"] == 0 < all_new["anchor_rows"] == counts["anchor_rows"]
    anchors = {(one(r, "user_id"), one(r, "timestamp"), one(r, "query")) for r in _view(replay_run, "anchor")}
    learnt = read_split(replay_run.examples, "train")
    assert not anchors & {(one(r, "user_id"), one(r, "timestamp"), one(r, "query")) for r in learnt}


def _view(run, view):
    return [row for row in read_split(run.examples, "eval") if one(row, "view") == view]


def test_the_window_bounds_targets_but_not_history(shop, tmp_path):
    run = make(tmp_path, shop, newest=3, window_spans=1, history_spans=1)
    week_3 = pd.Timestamp("2024-01-15").timestamp()
    train = read_split(run.examples, "train")
    assert min(one(row, "timestamp") for row in train) >= week_3
    oldest = max(max(row.get("history_ages", [0.0])) for row in train)
    assert oldest > 7  # week 2 is history
    assert report_of(run)["history_spans"] == [2, 3]


def test_two_runs_write_the_same_bytes(shop, first_run, tmp_path):
    again = make(tmp_path, shop, newest=2)
    for split in ("train", "eval", "items"):
        mine, theirs = (
            [path.read_bytes() for path in sorted(Path(run.examples.uri, f"Split-{split}").iterdir())]
            for run in (again, first_run)
        )
        assert mine == theirs


def test_many_shards_and_users_sent_on_in_pieces_hold_the_same_rows(shop, first_run, tmp_path, monkeypatch):
    monkeypatch.setattr("transform.write_examples._SHARD_BYTES", 8192)
    monkeypatch.setattr("transform.interactions._HELD_EVENTS", 7)
    run = make(tmp_path, shop, newest=2)
    assert len(list(Path(run.examples.uri, "Split-train").iterdir())) > 2
    for split in ("train", "eval"):
        assert canonical(read_split(run.examples, split)) == canonical(read_split(first_run.examples, split))


def test_tfx_can_read_the_artifact(first_run):
    from tfx.components.util import examples_utils
    from tfx.proto import example_gen_pb2
    from tfx.types import artifact_utils

    examples = first_run.examples
    assert artifact_utils.decode_split_names(examples.split_names) == ["train", "eval", "items"]
    assert examples.span == 2
    assert examples_utils.get_payload_format(examples) == example_gen_pb2.FORMAT_TF_EXAMPLE
    assert examples_utils.get_file_format(examples) == "tfrecords_gzip"


def test_csv_files_make_the_same_rows_as_parquet(tmp_path):
    made = []
    for kind in ("parquet", "csv"):
        shop = write_shop(tmp_path / kind / "shop", kind=kind)
        data = DataSettings(dataset=str(shop), holdout_days=1)
        examples = run_interaction_gen(tmp_path / kind, data)
        made.append([canonical(read_split(examples, split)) for split in ("train", "eval", "items")])
    assert made[0] == made[1]


def test_bad_rows_are_kept_aside_with_file_and_row(tmp_path):
    many = pd.concat([EVENTS] * 100, ignore_index=True)
    many.loc[4, "item_id"] = "gone"
    many.loc[[7, 9], "user_id"] = None
    shop = write_shop(tmp_path / "shop", events=many)
    data = DataSettings(dataset=str(shop), holdout_days=1)
    examples = run_interaction_gen(tmp_path, data)
    lines = [
        json.loads(s) for p in Path(examples.uri, "rejected").iterdir() for s in p.read_text().splitlines()
    ]
    assert sorted((line["row"], line["reason"]) for line in lines) == [
        (5, rows.UNKNOWN_ITEM),
        (8, "neither user_id nor query"),
        (10, "neither user_id nor query"),
    ]
    assert {line["file"] for line in lines} == {str(shop / "events/span-1/events.parquet")}
    counts = json.loads(Path(examples.uri, "interactions.json").read_text())["counts"]
    assert counts["rejected"] == {rows.UNKNOWN_ITEM: 1, "neither user_id nor query": 2}


@pytest.mark.parametrize(
    ("tables", "settings", "says"),
    [
        ({"items": None}, {}, "neither items.parquet nor items.csv"),
        ({"items": ITEMS.drop(columns="title")}, {}, "expected also title"),
        ({"items": pd.concat([ITEMS, ITEMS])}, {}, r"2 item_id stands more than once .* rows [1-4], [1-4]"),
        (
            {"events": EVENTS.assign(item_id=["a", "b", "gone"], timestamp=["2024-01-01", "x", "2024-01-03"])}, {},
            r"2 of 3 rows of events .* 1 x item_id is not in items \(span-1/events.parquet rows 3",
        ),
        ({"events": EVENTS.assign(timestamp="never")}, {}, "no row with a timestamp that parses"),
        ({}, {"holdout_days": 30}, "nothing to learn from: spans 1 hold no target event before 2023-12-04"),
        (
            {"events": EVENTS.assign(event_type=["purchase", "purchase", "view"])}, {},
            "nothing to judge by: spans 1 hold no target event from 2024-01-02",
        ),
    ],
)  # fmt: skip
def test_data_that_cannot_be_used_stops_the_run_with_one_line(tmp_path, tables, settings, says):
    shop = write_shop(tmp_path / "shop", **tables)
    data = DataSettings(dataset=str(shop), **{"holdout_days": 0.5, **settings})
    with pytest.raises(TandemError, match=says) as caught:
        run_interaction_gen(tmp_path, data)
    assert "\n" not in str(caught.value)


def test_every_users_history_at_the_cut_is_written_where_it_is_asked_for(shop, first_run, tmp_path):
    features = first_run.features.model_copy(update={"cooccurrence_items": 10})
    run = make(tmp_path, shop, newest=2, features=features)
    assert run.examples.split_names == '["train", "eval", "items", "histories"]'
    assert canonical(read_split(run.examples, "train")) == canonical(read_split(first_run.examples, "train"))
    histories = {one(row, "user_id"): row for row in read_split(run.examples, HISTORIES)}
    # What a held-out request without a query knows of its user is the history at the cut.
    asked = {
        one(row, "user_id"): row
        for row in read_split(run.examples, "eval")
        if one(row, "user_id") and row.get("history_item_ids")
    }
    assert asked and set(asked) <= set(histories)
    for user, row in asked.items():
        for name in ("history_item_ids", "history_event_types", "history_ages"):
            assert histories[user][name] == row[name]
    assert not read_split(first_run.examples, HISTORIES)


def test_histories_of_nobody_stop_the_run(tmp_path):
    shop = write_mini_shop(tmp_path / "shop", with_users=False)
    features = FeatureSettings(cooccurrence_items=10)
    with pytest.raises(
        TandemError, match="cooccurrence_items is 10, and no event .* names a user.*: set it to 0"
    ):
        run_interaction_gen(tmp_path, str(shop), features)


def test_a_span_that_has_been_learnt_stops_the_run(shop, warm_run, tmp_path):
    report = report_of(warm_run)
    previous = {"version": 2, "trained_until": report["trained_until"], "spans": report["spans"]}
    with pytest.raises(TandemError, match="nothing to learn from"):
        make(tmp_path, shop, newest=3, previous=previous)


def test_an_unknown_span_stops_the_run(shop, tmp_path):
    with pytest.raises(TandemError, match="span 9 is not in .*spans 1-3"):
        make(tmp_path, shop, newest=9)
