"""A generated mini shop, as a dataset directory: small, seeded, and with something to learn."""

from pathlib import Path

import numpy as np
import pandas as pd

# leaf -> path; every word is in the tiny encoder's vocabulary.
CATEGORIES = {
    "mug": "Home > Kitchen > Mug",
    "plate": "Home > Kitchen > Plate",
    "lamp": "Home > Light > Lamp",
    "shirt": "Clothes > Top > Shirt",
    "sock": "Clothes > Foot > Sock",
    "tea": "Food > Drink > Tea",
}
ADJECTIVES = ("red", "blue", "green", "small", "large", "cotton", "glass", "paper", "orange", "silk")
BRANDS = ("Star", "Heart", "Apple", "Light")
SEGMENTS = ("single", "couple", "family")
FIRST_DAY = pd.Timestamp("2024-01-01")
DAY = 86400


def write_mini_shop(directory, *, items=60, users=40, spans=2, with_queries=True, with_users=True, seed=0):
    """Writes items.parquet, users.parquet and events/span-<n>/events.parquet (n from 1, a week each).

    What can be learned: a user has a favourite category (0.8 of what is new to them) and buys items again
    (half of all purchases); a query is words of a title, or a category's leaf, and leads to an item that has
    them. In every span from the second a few items are sold, and a few users seen, for the first time: half
    of them from the span's start, half in its last two days.

    Args:
      directory: made where it is not there.
      items, users: how many, at least 20 each.
      spans: how many weeks, about 700 events each for 40 users.
      with_queries: False for a pure purchase shop (no query column).
      with_users: False for a pure search shop (no user_id column, no users.parquet).
      seed: the same seed gives the same files.

    Returns:
      The directory as a Path.
    """
    directory = Path(directory)
    random = np.random.default_rng(seed)
    catalogue = _items(items, random)
    people = _users(users, random)
    catalogue_starts = _starts(items, spans, max(2, items // 20), random)
    user_starts = _starts(users, spans, max(2, users // 10), random)
    directory.mkdir(parents=True, exist_ok=True)
    catalogue.to_parquet(directory / "items.parquet", index=False)
    if with_users:
        people.drop(columns="leaf").to_parquet(directory / "users.parquet", index=False)
    rows = _events(catalogue, people, catalogue_starts, user_starts, spans, with_queries, with_users, random)
    events = pd.DataFrame(rows).sort_values(["seconds", "session_id", "item_id"], kind="stable")
    events.insert(0, "timestamp", FIRST_DAY + pd.to_timedelta(events["seconds"], unit="s"))
    absent = [*([] if with_queries else ["query"]), *([] if with_users else ["user_id"])]
    for number, span in events.groupby(events["seconds"] // (7 * DAY)):
        target = directory / "events" / f"span-{number + 1}"
        target.mkdir(parents=True, exist_ok=True)
        span.drop(columns=["seconds", *absent]).to_parquet(target / "events.parquet", index=False)
    return directory


def _items(count, random):
    leaves = list(CATEGORIES)
    rows = []
    for n in range(count):
        leaf = leaves[n % len(leaves)]
        adjective = ADJECTIVES[(n // len(leaves)) % len(ADJECTIVES)]
        second = ADJECTIVES[int(random.integers(len(ADJECTIVES)))]
        rows.append(
            {
                "item_id": f"i{n:03d}",
                "title": f"{adjective.capitalize()} {second} {leaf}",
                "category": CATEGORIES[leaf],
                "brand": BRANDS[int(random.integers(len(BRANDS)))] if n % 7 else None,
                "price": round(float(random.lognormal(1.5, 0.6)), 2) if n % 11 else np.nan,
            }
        )
    return pd.DataFrame(rows)


def _users(count, random):
    leaves = list(CATEGORIES)
    return pd.DataFrame(
        {
            "user_id": [f"u{n:03d}" for n in range(count)],
            "segment": [SEGMENTS[n % len(SEGMENTS)] if n % 9 else None for n in range(count)],
            "household": random.integers(1, 6, count).astype(float),
            "leaf": [leaves[n % len(leaves)] for n in range(count)],
        }
    )


def _starts(count, spans, late_per_span, random):
    """Second from which each item or user is there; the last ones come with later spans."""
    starts = np.zeros(count, dtype=np.int64)
    late = iter(range(count - 1, 0, -1))
    for span in range(1, spans):
        for k in range(late_per_span):
            days = 0 if k % 2 else 5
            starts[next(late)] = (7 * span + days) * DAY + int(random.integers(DAY // 2))
    return starts


def _events(catalogue, people, item_starts, user_starts, spans, with_queries, with_users, random):
    leaf_of = [title.split()[-1] for title in catalogue["title"]]
    popularity = random.zipf(1.6, len(catalogue)).clip(1, 30).astype(float)
    rows = []
    for user, person in enumerate(people.itertuples()):
        visits = int(random.integers(5, 9)) * spans
        times = np.sort(random.integers(0, 7 * spans * DAY, visits))
        times = [int(t) for t in times if t >= user_starts[user]] or [int(user_starts[user]) + DAY]
        own = []
        for visit, time in enumerate(times):
            there = item_starts <= time
            favourite = np.array([leaf == person.leaf for leaf in leaf_of])
            for _ in range(int(random.integers(1, 4))):
                if own and random.random() < 0.5:
                    item = own[int(random.integers(len(own)))]
                else:
                    chance = there * popularity * np.where(favourite, 0.8, 0.2 / (len(CATEGORIES) - 1))
                    item = int(random.choice(len(catalogue), p=chance / chance.sum()))
                own.append(item)
                searched = with_queries and (not with_users or random.random() < 0.4)
                row = {
                    "seconds": time,
                    "item_id": catalogue["item_id"][item],
                    "event_type": "purchase",
                    "user_id": person.user_id,
                    "query": _query(catalogue["title"][item], random) if searched else None,
                    "session_id": f"s{user:03d}-{visit:03d}",
                    "device": ("phone", "desk")[int(random.integers(2))],
                }
                if random.random() < 0.3:
                    rows.append({**row, "seconds": max(time - 600, user_starts[user]), "event_type": "view"})
                rows.append(row)
    for item in np.flatnonzero(item_starts):
        for k in range(3):
            after = int(item_starts[item]) + int(random.integers(1, DAY))
            seen = np.flatnonzero(user_starts <= after)
            user = int(seen[int(random.integers(len(seen)))])
            rows.append(
                {
                    "seconds": after,
                    "item_id": catalogue["item_id"][item],
                    "event_type": "purchase",
                    "user_id": people["user_id"][user],
                    "query": _query(catalogue["title"][item], random) if with_queries else None,
                    "session_id": f"n{item:03d}-{k}",
                    "device": "phone",
                }
            )
    return rows


def _query(title, random):
    words = title.lower().split()
    return (words[-1], f"{words[0]} {words[-1]}", " ".join(words))[int(random.integers(3))]
