"""The benchmark of warm starts: weeks are what the pipeline's joins say, and an interrupted measurement is taken up."""

import time
from collections import Counter

import numpy as np
import pandas as pd
import pytest

from benchmarks import incremental, ways
from benchmarks.weeks import FEATURES, Journey
from tests.mini_shop import write_mini_shop
from tests.tiny_encoder import write_tiny_preset
from towers.encoder import load_encoder
from towers.settings import EncoderSettings
from transform.errors import TandemError
from transform.settings import DataSettings
from transform.text import load_tokenizer


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    directory = write_mini_shop(tmp_path_factory.mktemp("journey") / "shop", spans=4, with_queries=False)
    preset = write_tiny_preset(tmp_path_factory.mktemp("journey") / "preset")
    data = DataSettings(dataset=str(directory), anchor_share=0.2)
    journey = Journey(data.dataset, load_tokenizer(preset, FEATURES.item_tokens), data)
    return journey, data, load_encoder(EncoderSettings(preset=preset), "float32")


def test_a_weeks_rows_say_which_items_were_bought(shop):
    journey, data, _ = shop
    texts = np.arange(len(journey.tokens), dtype=np.float32)[:, np.newaxis]
    week = journey.week(3, texts)
    items = week.vocabularies["item_id"]
    parts = [pd.read_parquet(f"{data.dataset}/events/span-{span}/events.parquet") for span in (1, 2, 3)]
    events = pd.concat(parts).drop_duplicates(["user_id", "timestamp", "item_id"])
    bought = events["item_id"][events["timestamp"] < pd.Timestamp(week.window.cut, unit="s")]

    def targets(requests, rows):
        column = requests.columns["target_items"]
        return [
            items.keys[n - 1] for r in rows for n in column.values[column.offsets[r] : column.offsets[r + 1]]
        ]

    learnt = Counter(targets(week.train, range(week.train.size)))
    anchors = targets(week.held_out, np.flatnonzero(week.views == "anchor"))
    assert learnt + Counter(anchors) == Counter(bought) and anchors
    assert np.all(np.diff(items.counts) <= 0)
    assert items.counts.tolist() == [1 + learnt[item] for item in items.keys]
    place = {item: n for n, item in enumerate(journey._items)}
    assert week.catalogue.text[1:, 0].tolist() == [place[item] for item in items.keys]
    assert {"all", "unseen", "anchor"} <= set(week.views)


def test_an_interrupted_measurement_is_taken_up(shop, tmp_path, monkeypatch):
    journey, data, encoder = shop
    warm = ways.WAYS[ways.WARM]
    monkeypatch.setattr(incremental, "WAYS", {ways.WARM: warm, ways.SCRATCH: ways.WAYS[ways.SCRATCH]})
    monkeypatch.setattr(ways, "TRAINING", ways.TRAINING.model_copy(update={"batch_size": 64}))
    spans = range(2, 4)

    def ends_before_the_second_week(week, *rest):
        if week.window.spans[-1] == 3:
            raise KeyboardInterrupt
        return ways.train(week, *rest)

    monkeypatch.setattr(incremental, "train", ends_before_the_second_week)
    with pytest.raises(KeyboardInterrupt):
        incremental.run(journey, data, encoder, tmp_path, spans, float("inf"))
    base = tmp_path / f"2 {ways.SCRATCH}.json"
    before = base.read_text()
    monkeypatch.setattr(incremental, "train", ways.train)
    assert incremental.run(journey, data, encoder, tmp_path, spans, time.monotonic()) is None
    rows = incremental.run(journey, data, encoder, tmp_path, spans, float("inf"))
    assert base.read_text() == before
    by_way = {row["way"]: row for row in rows}
    assert len(rows) == 2 and all(row["week"] == 3 and row["requests"]["all"] > 10 for row in rows)
    assert 0 < by_way[ways.WARM]["examples"] < 0.8 * by_way[ways.SCRATCH]["examples"]
    assert rows == incremental.run(journey, data, encoder, tmp_path, spans, time.monotonic())


def test_a_directory_of_other_settings_is_refused(tmp_path):
    incremental._same_settings(tmp_path / "work", {"model": {"dimension": 8}, "data": {}})
    incremental._same_settings(tmp_path / "work", {"model": {"dimension": 8}, "data": {}})
    with pytest.raises(TandemError, match=r"other settings \(model\)"):
        incremental._same_settings(tmp_path / "work", {"model": {"dimension": 16}, "data": {}})
