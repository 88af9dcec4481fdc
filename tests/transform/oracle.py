"""What InteractionGen has to make of a dataset, worked out event by event over whole tables, without Beam."""

import glob
import os

import numpy as np
import pandas as pd

DAY = 86400.0


def load(shop, newest, ignored=()):
    """All events up to span `newest`: seconds, span, and "" for what is missing or not declared."""
    frames = []
    for path in glob.glob(os.path.join(shop, "events/span-*/*.parquet")):
        span = int(path.split("span-")[1].split("/")[0])
        if span <= newest:
            frames.append(pd.read_parquet(path).assign(span=span))
    events = pd.concat(frames, ignore_index=True)
    events["seconds"] = (events["timestamp"] - pd.Timestamp(0)) / pd.Timedelta(seconds=1)
    for name in ("user_id", "query", "device"):
        there = name in events and name not in ignored
        events[name] = events[name].fillna("").astype(str) if there else ""
    if "weight" not in events:
        events["weight"] = 1.0
    return events.to_dict("records")


def expected_rows(shop, settings, data, newest, previous=None):
    """(train rows, eval rows), each a dict as `read_split` gives it, numbers in float64."""
    events = load(shop, newest, ignored=() if settings.context else ("device",))
    until = max(e["seconds"] for e in events if e["span"] == newest)
    cut = until - data.holdout_days * DAY
    wanted = [e for e in events if e["event_type"] in settings.event_types and e["seconds"] <= until]
    learnt = [e for e in wanted if e["seconds"] < cut]
    if previous:
        learnt = [
            e
            for e in learnt
            if e["span"] not in previous["spans"] or e["seconds"] >= previous["trained_until"]
        ]
    held_out = [e for e in wanted if e["seconds"] >= cut]
    profiles = _profiles(shop)
    train = [
        {
            **_common(user, query, int(time), device, profiles, settings),
            **_history(
                [e for e in events if e["user_id"] == user and e["seconds"] < time], time, settings, user
            ),
            **_targets(group, settings),
            "known_positive_ids": _known(user, query, time, events, learnt, cut, data),
        }
        for (user, time, query, device), group in _grouped(learnt, "user_id", "seconds", "query", "device")
    ]
    before = pd.Series([e["item_id"] for e in events if e["seconds"] < cut], dtype=object).value_counts()
    held = []
    for (user, query), group in _grouped(held_out, "user_id", "query"):
        mine = [e for e in events if e["user_id"] == user and e["seconds"] < cut] if user else []
        seen = {e["item_id"] for e in mine}
        views = {
            "all": group,
            "unseen": [e for e in group if e["item_id"] not in seen] if user else [],
            "new_item": [e for e in group if before.get(e["item_id"], 0) == 0],
            "tail_item": [e for e in group if 1 <= before.get(e["item_id"], 0) <= data.tail_max_events],
        }
        first = min(group, key=_order)
        for view, kept in views.items():
            if kept:
                held.append(
                    {
                        **_common(user, query, int(cut), first["device"], profiles, settings),
                        **_history(mine, cut, settings, user),
                        **_targets(kept, settings),
                        "known_positive_ids": sorted(seen) if view == "unseen" else [],
                        "view": [view],
                        "user_group": [("returning" if seen else "new") if user else "none"],
                        "query_group": ["with_query" if query else "without_query"],
                    }
                )
    return train, held


def canonical(rows):
    """Rows in an order of their own, fractions as float32, features without values left out."""
    tidy = []
    for row in rows:
        plain = {}
        for name, values in row.items():
            if len(values):
                is_float = isinstance(values[0], float)
                plain[name] = [float(np.float32(value)) for value in values] if is_float else list(values)
        tidy.append(plain)
    return sorted(tidy, key=lambda row: str(sorted(row.items())))


def _order(event):
    return event["seconds"], event["item_id"], event["event_type"], event["query"]


def _grouped(events, *names):
    groups = {}
    for event in sorted(events, key=_order):
        groups.setdefault(tuple(event[name] for name in names), []).append(event)
    return groups.items()


def _profiles(shop):
    path = os.path.join(shop, "users.parquet")
    return pd.read_parquet(path).set_index("user_id").to_dict("index") if os.path.exists(path) else {}


def _common(user, query, time, device, profiles, settings):
    row = {"user_id": [user] if user else [], "query": [query] if query else [], "timestamp": [time]}
    for feature in settings.user:
        value = profiles.get(user, {}).get(feature.name)
        row[feature.name] = [] if value is None or value != value else [value]
    for feature in settings.context:
        row[feature.name] = [device] if device else []
    return row


def _history(events, time, settings, user):
    newest = sorted(events, key=_order)[::-1][: settings.history_length] if user else []
    return {
        "history_item_ids": [e["item_id"] for e in newest],
        "history_event_types": [e["event_type"] for e in newest],
        "history_ages": [(time - e["seconds"]) / DAY for e in newest],
    }


def _targets(events, settings):
    weights = {}
    for event in events:
        weight = settings.event_types[event["event_type"]] * event["weight"]
        weights[event["item_id"]] = weights.get(event["item_id"], 0.0) + weight
    return {"target_item_ids": sorted(weights), "target_weights": [weights[item] for item in sorted(weights)]}


def _known(user, query, time, events, learnt, cut, data):
    if query:
        return sorted({e["item_id"] for e in learnt if e["query"].lower() == query.lower()})
    reach = data.known_positive_days * DAY
    near = [e for e in events if e["user_id"] == user and abs(e["seconds"] - time) <= reach]
    return sorted({e["item_id"] for e in near if e["seconds"] < cut})
