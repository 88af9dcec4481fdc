"""The benchmarks' adapters and profiles fit the dataset contract and the settings."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from benchmarks import adapt_home_depot, adapt_online_retail
from pipeline.settings import load_settings
from transform.errors import TandemError

PROFILES = Path(__file__).parents[2] / "benchmarks" / "profiles"


@pytest.mark.parametrize("profile", sorted(PROFILES.glob("*.yaml")), ids=lambda path: path.stem)
def test_profile_is_valid(profile):
    settings = load_settings(profile)
    assert settings.paths.push_dir != settings.paths.pipeline_root


def judgments(queries, random):
    return pd.DataFrame(
        {
            "query": np.repeat(queries, 2),
            "item_id": random.integers(100, 110, 2 * len(queries)).astype(str),
            "grade": np.tile([3, 1], len(queries)),
        }
    )


def test_dev_queries_are_exactly_the_last_seven_days(tmp_path):
    random = np.random.default_rng(3)
    train = [f"train {n}" for n in range(400)]
    dev = [f"dev {n}" for n in range(100)]
    pd.DataFrame({"item_id": [str(n) for n in range(100, 110)], "title": "x"}).to_parquet(
        tmp_path / "items.parquet"
    )
    judgments(train, random).to_parquet(tmp_path / "judgments_train.parquet")
    judgments(dev, random).to_parquet(tmp_path / "judgments_dev.parquet")
    events = adapt_home_depot.adapt(tmp_path).events
    # Grade 1 is not relevant: one event a query; grade 3 weighs 1.
    assert len(events) == 500
    assert (events["weight"] == 1.0).all()
    cut = events["timestamp"].max() - pd.Timedelta(days=7)
    held_out = events["timestamp"] >= cut
    assert set(events["query"][held_out]) == set(dev)
    assert set(events["query"][~held_out]) == set(train)


def test_returns_stay_as_events_and_empty_columns_go(tmp_path):
    item = {"item_id": ["a"], "title": ["Lamp"], "price": [2.5], "brand": [None], "first_seen": [None]}
    pd.DataFrame(item).to_parquet(tmp_path / "items.parquet")
    pd.DataFrame({"user_id": ["1"], "country": ["France"], "first_seen": [None]}).to_parquet(
        tmp_path / "users.parquet"
    )
    order = {
        "user_id": "1",
        "item_id": "a",
        "timestamp": pd.Timestamp("2011-01-01"),
        "order_id": "7",
        "quantity": 1,
    }
    pd.DataFrame([{**order, "event_type": kind} for kind in ("purchase", "return")]).to_parquet(
        tmp_path / "events.parquet"
    )
    tables = adapt_online_retail.adapt(tmp_path)
    assert list(tables.events["event_type"]) == ["purchase", "return"]
    assert list(tables.events["session_id"]) == ["7", "7"]
    assert list(tables.items.columns) == ["item_id", "title", "price"]
    assert tables.users is not None and list(tables.users.columns) == ["user_id", "country"]


def test_missing_source_is_one_clear_line(tmp_path):
    with pytest.raises(TandemError, match=r"events.parquet|items.parquet is not there; expected"):
        adapt_online_retail.adapt(tmp_path)
