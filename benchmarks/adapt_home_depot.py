"""Home Depot search relevance as a dataset directory: relevant judgments become events without users."""

import hashlib
import sys
from pathlib import Path

import pandas as pd

from benchmarks.adapt import Tables, read_table, run_adapter

RELEVANT = 2  # grade from which a judgment counts
HIGHEST = 3  # grade whose event weighs 1
START = pd.Timestamp("2020-01-06")
DAY = 86400
# Training queries lie before day 27, dev queries within day 34. A hold-out of the last 7 days starts within
# day 27, so it holds every dev query and no training query.
TRAIN_DAYS = 27
DEV_DAY = 34


def adapt(source: Path) -> Tables:
    """Gives each query one time, worked out from its text, and each relevant item an event at that time.

    Args:
      source: directory with items.parquet (item_id, title), judgments_train.parquet and judgments_dev.parquet
        (query, item_id, grade 0..3).
    """
    items = read_table(source, "items")[["item_id", "title"]]
    train = _events(read_table(source, "judgments_train"), first_day=0, days=TRAIN_DAYS)
    dev = _events(read_table(source, "judgments_dev"), first_day=DEV_DAY, days=1)
    return Tables(items, pd.concat([train, dev], ignore_index=True))


def _events(judgments: pd.DataFrame, *, first_day: int, days: int) -> pd.DataFrame:
    relevant = judgments[judgments["grade"] >= RELEVANT]
    seconds = first_day * DAY + relevant["query"].map(lambda query: _hash(query) % (days * DAY))
    return pd.DataFrame(
        {
            "timestamp": START + pd.to_timedelta(seconds, unit="s"),
            "item_id": relevant["item_id"],
            "event_type": "relevant",
            "query": relevant["query"],
            "weight": relevant["grade"] / HIGHEST,
        }
    )


def _hash(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")


if __name__ == "__main__":
    sys.exit(run_adapter("Make a dataset directory of Home Depot judgments: queries without users.", adapt))
