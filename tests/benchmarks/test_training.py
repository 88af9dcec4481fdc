"""The training benchmark: equal pairs on both sides, every way trained on a tiny encoder, ratios written out."""

import numpy as np
import pandas as pd
import pytest

from benchmarks.training import summary, train
from benchmarks.training_pairs import read_pairs, requests_of, task_of
from tests.tiny_encoder import WORDS, write_tiny_preset
from transform.errors import TandemError

DAY = pd.Timestamp("2020-01-10")


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    """400 items, each asked for by a query of its own; 40 more after the training time."""
    directory = tmp_path_factory.mktemp("pairs")
    titles = [f"{WORDS[n % 28]} {WORDS[n // 28]} {n}" for n in range(440)]
    items = pd.DataFrame({"item_id": [f"i{n}" for n in range(440)], "title": titles})
    items.to_parquet(directory / "items.parquet")
    (directory / "events/span-1").mkdir(parents=True)
    days = pd.Series([DAY] * 400 + [DAY + pd.Timedelta(days=30)] * 40)
    events = pd.DataFrame({"timestamp": days, "item_id": items["item_id"], "query": "late " + items["title"]})
    events.loc[:399, "query"] = [f"{WORDS[n % 28]} {n}" for n in range(400)]
    events.to_parquet(directory / "events/span-1/events.parquet")
    return directory


def test_both_sides_get_the_same_pairs_none_of_them_held_out(dataset, tmp_path):
    pairs = read_pairs(dataset, 300, DAY + pd.Timedelta(days=1))
    assert pairs.epoch == 400 and len(set(pairs.queries)) == len(set(pairs.titles)) == 300
    assert not any(query.startswith("late") for query in pairs.queries)
    task = task_of(pairs)
    seen = [(str(q), str(task.texts[n])) for q, n in zip(task.event_queries, task.event_items, strict=True)]
    assert seen == list(zip(pairs.queries, pairs.titles, strict=True))
    preset = write_tiny_preset(tmp_path / "preset")
    requests, catalogue, _ = requests_of(pairs, preset)
    assert requests.size == 300 and len(catalogue.tokens) == 301
    asked = requests.columns["query_tokens"].padded(np.arange(300))
    assert len(np.unique(asked, axis=0)) == 300
    np.testing.assert_array_equal(requests.columns["target_items"].values, np.arange(1, 301))
    with pytest.raises(TandemError, match="400 pairs of distinct texts, expected 500"):
        read_pairs(dataset, 500, DAY + pd.Timedelta(days=1))


def test_every_way_is_trained_and_taken_apart(dataset, tmp_path):
    preset = write_tiny_preset(tmp_path / "preset", layers=3)
    pairs = read_pairs(dataset, 320, DAY + pd.Timedelta(days=1))
    for trainable in ("all", "last_layers", "frozen"):
        found = train(pairs, preset, trainable, steps=2, parts=1)
        assert len(found["seconds"]) == len(found["processor_seconds"]) == 2
        assert min(found["seconds"]) > 0
        assert set(found["parts"]) == {"input", "encoder", "rest of forward", "backward", "optimizer"}
        assert (found["matmul"] > 0) == (trainable != "frozen")


def test_ratios_are_those_of_median_steps():
    theirs = {"seconds": [2.0, 1.0, 9.0], "processor_seconds": [4.0, 4.0, 4.0]}
    ours = {"all": {"seconds": [1.0, 0.5, 1.0], "processor_seconds": [1.0, 1.0, 8.0]}}
    found = summary(theirs, ours, epoch=640)["all"]
    # 64 pairs a step: 32 and 64 pairs a second; an epoch is 10 steps.
    assert found["pairs_per_second"] == 64.0 and found["times_sentence_transformers"] == 2.0
    assert found["times_in_processor_time"] == 4.0 and found["epoch_seconds"] == 10.0
