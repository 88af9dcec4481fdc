"""What the measurement of growth is fed with, and what it makes of its figures."""

import argparse
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
import pytest

from benchmarks.grown_dataset import write_grown
from benchmarks.scale import STAGES, bars, measure_size, section
from tests.mini_shop import write_mini_shop


def test_a_grown_dataset_is_the_same_events_by_new_users_of_new_items(tmp_path):
    base = write_mini_shop(tmp_path / "base", spans=2)
    small, large = (tmp_path / name for name in ("x1", "x3"))
    written = [write_grown(str(base), where, times, 400, 2) for where, times in ((small, 1), (large, 3))]
    assert written[1] == 3 * written[0] and 400 <= written[0] < 500
    for name in (
        "events/span-1/events.parquet",
        "events/span-2/events.parquet",
        "items.parquet",
        "users.parquet",
    ):
        one, three = pd.read_parquet(small / name), pd.read_parquet(large / name)
        assert pq.read_metadata(large / name).num_row_groups == 3
        pd.testing.assert_frame_equal(three.iloc[: len(one)].reset_index(drop=True), one)
        for column in {"user_id", "item_id", "session_id", "title"} & set(one.columns):
            assert three[column].nunique() == 3 * one[column].nunique()
    events, items = (
        pd.read_parquet(large / "events/span-1/events.parquet"),
        pd.read_parquet(large / "items.parquet"),
    )
    assert set(events["item_id"]) <= set(items["item_id"])


def size(times, seconds_a_row, memory_mb):
    events, items = 1000 * times, 100 * times
    rows = {stage: items if stage == "CatalogIndexer" else events for stage in STAGES}
    cost = {
        stage: {"seconds": seconds_a_row * n, "cpu_seconds": 2 * seconds_a_row * n, "memory_mb": memory_mb}
        for stage, n in rows.items()
    }
    return {"times": times, "events": events, "items": items, **cost}


def test_bars_compare_rows_and_memory_from_x3_to_x30():
    found = bars([size(1, 9.0, 9.0), size(3, 0.001, 800.0), size(30, 0.0011, 1000.0)])
    assert found["time_a_row"] == found["cpu_a_row"] == dict.fromkeys(STAGES, 1.1)
    assert set(found["driver_memory"]) == set(STAGES) - {"Trainer"}
    assert set(found["driver_memory"].values()) == {1.25}
    # From 3 s for 3,000 events to 33 s for 30,000; CatalogIndexer's rows are items, a tenth of it.
    assert found["further_row_us"] == dict.fromkeys(STAGES, 1111.1)
    assert found["events_per_second"] == pytest.approx(1 / 0.0022, abs=1)  # two stages of 1.1 ms an event
    assert bars([size(1, 1.0, 1.0), size(3, 1.0, 1.0)]) == {}


def test_the_document_shows_every_stage_at_every_size_and_the_bars():
    rows = [size(times, 0.001, 800.0) for times in (1, 3, 10, 30)]
    text = section({"in_memory": {"command": "python -m benchmarks.scale", "rows": rows, "bars": bars(rows)}})
    assert "| stage | x1, 1,000 events | x3, 3,000 events | x10, 10,000 events | x30, 30,000 events |" in text
    assert "| Transform | 1 s, 2 CPU s, 2,000 us, 800 MB | 3 s, 6 CPU s, 2,000 us, 800 MB |" in text
    assert "| time a row (bar 1.2) | 1.00 | 1.00 | 1.00 | 1.00 | 1.00 |" in text
    assert "| memory of the driver (bar 1.5) | 1.00 | 1.00 | 1.00 | - | 1.00 |" in text
    assert "x30: 500 events a second" in text and text.count("xychart-beta") == 2


def test_a_stage_that_was_not_measured_is_shown_and_judges_nothing():
    rows = [size(3, 0.001, 800.0), size(30, 0.001, 800.0)]
    del rows[1]["Trainer"], rows[1]["CatalogIndexer"]
    found = bars(rows)
    assert set(found["time_a_row"]) == {"InteractionGen", "StatisticsGen", "Transform"}
    text = section({"portable": {"command": "python -m benchmarks.scale", "rows": rows, "bars": found}})
    assert "| Trainer | 3 s, 6 CPU s, 2,000 us, 800 MB | - |" in text
    assert "| time a row (bar 1.2) | 1.00 | 1.00 | 1.00 | - | - |" in text


@pytest.fixture
def scale_options(tmp_path):
    base = write_mini_shop(tmp_path / "base", spans=2)
    return argparse.Namespace(
        dataset=str(base), work=str(tmp_path / "work"), runner="in_memory", base_events=100, spans=2
    )


def test_a_measurement_goes_on_from_what_it_has(scale_options):
    row, saved = {"times": 1}, []
    scale_options.stages = STAGES
    # No time at all: the dataset is there, and no stage was begun.
    assert not measure_size(scale_options, row, lambda: saved.append(dict(row)), deadline=0)
    assert saved == [{"times": 1, "events": row["events"]}] and row["events"] >= 100
    # Everything is there: nothing is begun, and what was needed for it goes.
    row |= dict.fromkeys(STAGES, {})
    assert measure_size(scale_options, row, lambda: pytest.fail("nothing is new"), deadline=0)
    assert list(Path(scale_options.work).iterdir()) == []
