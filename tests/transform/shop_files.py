"""A dataset directory of a few rows, and ways to break it."""

import pandas as pd

ITEMS = pd.DataFrame({"item_id": ["a", "b"], "title": ["Red mug", "Blue lamp"], "price": [3.0, None]})
EVENTS = pd.DataFrame(
    {
        "timestamp": pd.to_datetime(["2024-01-01", "2024-01-02", "2024-01-03"]),
        "item_id": ["a", "b", "a"],
        "event_type": "purchase",
        "user_id": ["u", "u", "v"],
    }
)
USERS = pd.DataFrame({"user_id": ["u", "v"], "segment": ["family", None]})


def write_shop(directory, *, items=ITEMS, events=EVENTS, users=USERS, kind="parquet", flat=False):
    """Writes the tables that are not None; events go to span 1, or next to the others with `flat`."""
    directory.mkdir(parents=True, exist_ok=True)
    tables = {"items": items, "users": users, "events" if flat else "events/span-1/events": events}
    for name, table in tables.items():
        if table is None:
            continue
        path = directory / f"{name}.{kind}"
        path.parent.mkdir(parents=True, exist_ok=True)
        if kind == "csv":
            table.to_csv(path, index=False)
        else:
            table.to_parquet(path, index=False)
    return directory
