"""A dataset directory's held-out requests without a run: the pipeline's own joins, and what baselines may know of them."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from benchmarks.baselines.task import Task
from transform import dataset as datasets
from transform import features
from transform.parts import read_file
from transform.requests import Event, Request, Rules, requests_of
from transform.rows import EVENT_FILE_COLUMNS, KeyedRows, event_rows, item_rows, user_rows
from transform.settings import DataSettings, Feature, FeatureSettings
from transform.window import plan_window

_DAY = 86400.0


class HeldOut(NamedTuple):
    """What a run would hold out, and what a ranking of it is scored against.

    Attributes:
      item_ids: [N], in the task's order.
      task: what baselines are given.
      views: [R], which targets a row holds; several rows share a request of the task.
      user_groups: [R], "new", "returning" or "none".
      requests: int64 [R], the row's request in the task.
      targets: [R], distinct item ids.
      examples: [R], the row as InteractionGen would write it, for a bundle.
      cut: start of the held-out time, seconds UTC.
    """

    item_ids: list[str]
    task: Task
    views: np.ndarray
    user_groups: np.ndarray
    requests: np.ndarray
    targets: list[tuple[str, ...]]
    examples: list[bytes]
    cut: float


def read_held_out(data: DataSettings, declared: FeatureSettings) -> HeldOut:
    """Makes the held-out requests of a first run, without older days' anchors.

    Args:
      data: where the dataset is and how it is split by time.
      declared: features, as the profile declares them.

    Raises:
      TandemError: the dataset cannot be read.
    """
    found = datasets.find_dataset(data.dataset)
    window = plan_window(data)
    columns = [Feature(name=n, kind=k) for n, k in features.item_columns(declared).items()]  # type: ignore[arg-type]
    catalogue = _keyed(found.items, features.ITEM_ID, columns)
    events = _events(found, window.spans, window.until, declared, set(catalogue))
    is_before = events["seconds"].to_numpy() < window.cut
    is_target = events["event_type"].isin(list(declared.event_types)).to_numpy()
    times = Counter(events["item_id"][is_before])
    learnt = events[is_before & is_target]
    by = learnt["user_id"].where(learnt["user_id"] != "", learnt["query"])
    acted_on = learnt["item_id"].groupby([learnt["item_id"], by]).size().groupby(level=0).size()
    item_ids = sorted(catalogue, key=lambda item: (-acted_on.get(item, 0), item))

    def item_class(item: str) -> str:
        return "new" if not times[item] else "tail" if times[item] <= data.tail_max_events else "head"

    groups: dict[tuple[str, str], list[Event]] = defaultdict(list)
    held = {(user, "" if user else query) for user, query in zip(
        events["user_id"][~is_before], events["query"][~is_before], strict=True)}  # fmt: skip
    for row in events.itertuples(index=False):
        key = (row.user_id, "" if row.user_id else row.query)
        if key in held:
            # Only what is held out is asked for here: older events are history.
            role: Any = "new" if row.seconds >= window.cut else "past"
            groups[key].append(
                Event(
                    row.seconds,
                    row.item_id,
                    row.event_type,
                    row.query,
                    row.weight,
                    row.context,
                    role,
                    item_class(row.item_id),
                )
            )
    rules = Rules(declared.event_types, declared.history_length, data.known_positive_days)
    made = [r for (user, _), group in sorted(groups.items()) for r in requests_of(user, group, window, rules)]
    texts = [_text(columns, catalogue[item], declared.item_text) for item in item_ids]
    task, rows = _task(made, item_ids, texts, learnt, window.cut)
    people = _keyed(found.users, features.USER_ID, declared.user) if found.users and declared.user else {}
    return HeldOut(
        item_ids,
        task,
        np.array([request.view for request in made]),
        np.array([request.user_group for request in made]),
        rows,
        [tuple(request.targets) for request in made],
        _examples(made, people, declared),
        window.cut,
    )


def _keyed(path: str, key: str, columns: Sequence[Feature]) -> dict[str, tuple[Any, ...]]:
    """Key -> values of the declared columns, None where missing, of the good rows; the first of two counts."""
    found: dict[str, tuple[Any, ...]] = {}
    for _, table in read_file(path, [key, *(column.name for column in columns)]):
        rows: KeyedRows = (item_rows if key == features.ITEM_ID else user_rows)(table, columns)
        values = [_plain(column) for column in rows.values]
        for n in np.flatnonzero(pd.isna(rows.reason)).tolist():
            found.setdefault(rows.key[n], tuple(column[n] for column in values))
    return found


def _events(
    found: datasets.Dataset, spans: Sequence[int], until: float, declared: FeatureSettings, known: set[str]
) -> pd.DataFrame:
    """Good events of known items, by somebody or with a query, up to the newest."""
    frames = []
    names = [feature.name for feature in declared.context]
    for path in (path for span in spans for path in found.spans[span]):
        for _, table in read_file(path, [*EVENT_FILE_COLUMNS, *names]):
            rows = event_rows(table, declared.context)
            values = [_plain(column) for column in rows.context]
            frame = pd.DataFrame(
                {
                    "seconds": rows.seconds,
                    "item_id": rows.item,
                    "event_type": rows.kind,
                    "user_id": rows.user,
                    "query": rows.query,
                    "weight": rows.weight,
                    "context": list(zip(*values, strict=True)) if values else [()] * len(rows.item),
                }
            )
            somebody = (rows.user != "") | (rows.query != "")
            frames.append(frame[pd.isna(rows.reason) & somebody & (rows.seconds <= until)])
    events = pd.concat(frames, ignore_index=True)
    return events[events["item_id"].isin(known)]


def _task(
    made: Sequence[Request], item_ids: Sequence[str], texts: Sequence[str], learnt: pd.DataFrame, cut: float
) -> tuple[Task, np.ndarray]:
    """The requests without their targets, each once, and the request of each row."""
    item_rows_ = {item: n for n, item in enumerate(item_ids)}
    user_rows_ = {user: n for n, user in enumerate(sorted(set(learnt["user_id"]) - {""}))}
    places: dict[tuple[str, str, tuple[str, ...]], int] = {}
    rows = [
        places.setdefault((request.user_id, request.query, request.known_positives), len(places))
        for request in made
    ]
    excluded = [np.array([item_rows_[item] for item in known], np.int64) for _, _, known in places]
    task = Task(
        texts=np.array(texts),
        users=np.array([user_rows_.get(user, -1) for user, _, _ in places], np.int64),
        queries=np.array([query for _, query, _ in places], np.str_),
        excluded=np.concatenate([np.empty(0, np.int64), *excluded]),
        excluded_offsets=np.concatenate([[0], np.cumsum([len(e) for e in excluded], dtype=np.int64)]),
        event_users=learnt["user_id"].map(lambda user: user_rows_.get(user, -1)).to_numpy(np.int64),
        event_items=learnt["item_id"].map(item_rows_).to_numpy(np.int64),
        event_days=(cut - learnt["seconds"].to_numpy(np.float64)) / _DAY,
        event_queries=learnt["query"].to_numpy(np.str_),
    )
    return task, np.array(rows, np.int64)


def _examples(
    made: Sequence[Request], people: dict[str, tuple[Any, ...]], declared: FeatureSettings
) -> list[bytes]:
    from transform.examples import request_example

    names = [feature.name for feature in declared.user]
    context = [feature.name for feature in declared.context]
    return [
        request_example(request, dict(zip(names, people.get(request.user_id, ()), strict=False)), context)
        for request in made
    ]


def _text(columns: Sequence[Feature], values: Sequence[Any], wanted: Sequence[str]) -> str:
    """What the encoder reads of an item: the columns that it has, joined with spaces."""
    by_name = dict(zip((column.name for column in columns), values, strict=True))
    return " ".join(str(by_name[name]) for name in wanted if by_name[name] is not None)


def _plain(values: np.ndarray) -> list[Any]:
    """A column as Python values; "" and NaN become None."""
    return [None if value == "" or value != value else value for value in values.tolist()]
