"""Online Retail (UCI, doi:10.1057/dbm.2012.17) as a dataset directory: purchases and returns, no queries."""

import sys
from pathlib import Path

from benchmarks.adapt import Tables, read_table, run_adapter


def adapt(source: Path) -> Tables:
    """Keeps what the contract has a place for; returns stay as events, so that history knows of them.

    Args:
      source: directory with events.parquet (user_id, item_id, timestamp, event_type, order_id, ...),
        items.parquet (item_id, title, price, ...) and users.parquet (user_id, country, ...).
    """
    items = read_table(source, "items")[["item_id", "title", "price"]]
    users = read_table(source, "users")[["user_id", "country"]]
    events = read_table(source, "events")[["timestamp", "user_id", "item_id", "event_type", "order_id"]]
    return Tables(items, events.rename(columns={"order_id": "session_id"}), users)


if __name__ == "__main__":
    sys.exit(run_adapter("Make a dataset directory of Online Retail: weekly spans, no queries.", adapt))
