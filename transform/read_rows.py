"""Beam DoFns that read items, users and events, and set aside what breaks the contract.

A rejected row is (reason, file, row number); everything else is a compact tuple keyed for the first join.
"""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterator
from typing import Any

import apache_beam as beam
import numpy as np
import pandas as pd

from transform import features
from transform.parts import Part, read_part
from transform.rows import EVENT_FILE_COLUMNS, event_rows, item_rows, user_rows
from transform.settings import Feature, FeatureSettings
from transform.window import Window

REJECTED = "rejected"
COUNTS = "counts"
SPAN_ITEMS = "span items"
LATER = "left for later"


class ReadEvents(beam.DoFn):
    """(span, Part) -> (item_id, list of events) a batch; REJECTED; COUNTS: (name, number).

    SPAN_ITEMS, of the spans that are counted: ((span, item_id), rows), rejected or not, "" for no item.
    An event is (timestamp, event_type, query, user_id, weight, context values, role, file, row).
    """

    def __init__(self, settings: FeatureSettings, window: Window, counted: Collection[int]) -> None:
        self._context = settings.context
        self._window = window
        self._counted = frozenset(counted)

    def process(self, element: tuple[int, Part]) -> Iterator[Any]:
        """Reads one part batch by batch."""
        span, part = element
        path = part.path
        for first, table in read_part(part, [*EVENT_FILE_COLUMNS, *(f.name for f in self._context)]):
            rows = event_rows(table, self._context)
            _mark_nobody(rows.reason, rows.user, rows.query)
            yield beam.pvalue.TaggedOutput(COUNTS, ("events", table.num_rows))
            if span in self._counted:
                for item, number in Counter(rows.item.tolist()).items():
                    yield beam.pvalue.TaggedOutput(SPAN_ITEMS, ((span, item or ""), number))
            yield from _rejected(rows.reason, path, first)
            good = pd.isna(rows.reason)
            later = good & (rows.seconds > self._window.until)
            if later.any():
                yield beam.pvalue.TaggedOutput(COUNTS, (LATER, int(later.sum())))
            columns = (rows.seconds, rows.item, rows.kind, rows.query, rows.user, rows.weight)
            context = [_plain(values) for values in rows.context]
            kept = np.flatnonzero(good & ~later)
            by_item = defaultdict(list)
            for n, second, item, kind, query, user, weight in zip(
                kept.tolist(), *(column[kept].tolist() for column in columns), strict=True
            ):
                role = self._window.role(span, second)
                values = tuple(column[n] for column in context)
                by_item[item].append((second, kind, query, user, weight, values, role, path, first + n))
            yield from by_item.items()


class ReadItems(beam.DoFn):
    """Part -> (item_id, (serialised tf.Example of split items, file, row)); REJECTED and COUNTS as above."""

    def __init__(self, settings: FeatureSettings) -> None:
        self._columns = [
            Feature(name=name, kind=kind)  # type: ignore[arg-type]
            for name, kind in features.item_columns(settings).items()
        ]

    def process(self, part: Part) -> Iterator[Any]:
        """Reads the catalogue batch by batch."""
        from transform.examples import to_example

        names = [column.name for column in self._columns]
        for first, table in read_part(part, [features.ITEM_ID, *names]):
            rows = item_rows(table, self._columns)
            yield beam.pvalue.TaggedOutput(COUNTS, ("items", table.num_rows))
            yield from _rejected(rows.reason, part.path, first)
            values = [_plain(column) for column in rows.values]
            for n in np.flatnonzero(pd.isna(rows.reason)).tolist():
                row = dict(zip(names, (column[n] for column in values), strict=True))
                yield rows.key[n], (to_example({features.ITEM_ID: rows.key[n], **row}), part.path, first + n)


class ReadUsers(beam.DoFn):
    """Part -> (user_id, (values of the declared user features, file, row)); REJECTED and COUNTS as above."""

    def __init__(self, settings: FeatureSettings) -> None:
        self._columns = settings.user

    def process(self, part: Part) -> Iterator[Any]:
        """Reads the users batch by batch."""
        for first, table in read_part(part, [features.USER_ID, *(column.name for column in self._columns)]):
            rows = user_rows(table, self._columns)
            yield beam.pvalue.TaggedOutput(COUNTS, ("users", table.num_rows))
            yield from _rejected(rows.reason, part.path, first)
            values = [_plain(column) for column in rows.values]
            for n in np.flatnonzero(pd.isna(rows.reason)).tolist():
                yield rows.key[n], (tuple(column[n] for column in values), part.path, first + n)


def _plain(values: np.ndarray) -> list[Any]:
    """A column as Python values; "" and NaN become None."""
    return [None if value == "" or value != value else value for value in values.tolist()]


def _mark_nobody(reason: np.ndarray, user: np.ndarray, query: np.ndarray) -> None:
    nobody = pd.isna(reason) & (user == "") & (query == "")
    if nobody.any():
        reason[nobody] = "neither user_id nor query"


def _rejected(reason: np.ndarray, path: str, first: int) -> Iterator[beam.pvalue.TaggedOutput]:
    for n in np.flatnonzero(pd.notna(reason)).tolist():
        yield beam.pvalue.TaggedOutput(REJECTED, (reason[n], path, first + n))
