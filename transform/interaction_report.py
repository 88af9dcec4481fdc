"""What InteractionGen read, made and rejected, and whether a run may go on with it."""

import datetime
import glob
import json
import os
from collections import Counter
from collections.abc import Mapping
from typing import Any

from transform.dataset import Dataset
from transform.errors import TandemError
from transform.rows import DUPLICATE_ITEM
from transform.settings import DataSettings
from transform.span_counts import SpanCount, to_json
from transform.window import Window

REPORT = "interactions.json"
REJECTED_DIR = "rejected"
_ROWS_SHOWN = 5


def rejected_count(dataset: Dataset, reason: str, path: str) -> str:
    """Name under which a rejected row is counted: by the table it is of, and why."""
    table = "items" if path == dataset.items else "users" if path == dataset.users else "events"
    return f"rejected {table}: {reason}"


def rejected_as_json(reason: str, path: str, row: int) -> str:
    """A line of the files in `rejected/`; here and not beside the component, so that workers need not import TFX."""
    return json.dumps({"reason": reason, "file": path, "row": row}, ensure_ascii=False)


def interaction_report(
    window: Window, counts: Counter[str], spans: Mapping[int, SpanCount]
) -> dict[str, Any]:
    """The content of interactions.json: the time plan in seconds UTC, and numbers of rows.

    Args:
      window: the time plan.
      counts: what the run counted.
      spans: counts of every span that is learnt from, in this run or before.
    """
    rejected: Counter[str] = Counter()
    for name, n in counts.items():
        if name.startswith("rejected "):
            rejected[name.split(": ", 1)[1]] += n
    return {
        "span_first": min(window.target_spans, default=None),
        "span_last": window.spans[-1],
        "spans": sorted({*window.known_spans, *window.target_spans}),
        "history_spans": list(window.spans),
        "train_from": None if window.late_from == float("-inf") else window.late_from,
        "trained_until": window.cut,
        "eval_until": window.until,
        "new_spans": sorted({*window.target_spans} - {*window.known_spans}),
        "span_counts": to_json(spans),
        "counts": {
            "events": counts["events"],
            "rows": counts["events"] + counts["items"] + counts["users"],
            "rejected": dict(sorted(rejected.items())),
            "left_for_later": counts["left for later"],
            "train_rows": counts["train rows"],
            "replayed_rows": counts["replay rows"],
            "train_targets": counts["train targets"],
            "eval_rows": counts["eval rows"],
            "anchor_rows": counts["anchor rows"],
            "items": counts["items rows"],
        },
    }


def check_counts(counts: Counter[str], data: DataSettings, window: Window, directory: str) -> None:
    """Stops a run that would learn from, or be judged by, broken or no data.

    Args:
      counts: what the run counted.
      data: settings with the limits.
      window: the time plan.
      directory: of the artifact; its rejected rows are named in the message.

    Raises:
      TandemError: an item id stands twice, too large a share of a table's rows was rejected, or there is no
        target to learn from or to judge by.
    """
    aside = os.path.join(directory, REJECTED_DIR)
    twice = counts[f"rejected items: {DUPLICATE_ITEM}"]
    if twice:
        raise TandemError(
            f"{twice:,} {DUPLICATE_ITEM} ({_first_rows(aside, DUPLICATE_ITEM)}); expected every item once:"
            " remove the others."
        )
    for table in ("events", "items", "users"):
        prefix = f"rejected {table}: "
        reasons = {name.removeprefix(prefix): n for name, n in counts.items() if name.startswith(prefix)}
        rejected = sum(reasons.values())
        if rejected > data.max_rejected_share * counts[table]:
            listed = ", ".join(
                f"{n:,} x {reason} ({_first_rows(aside, reason)})" for reason, n in reasons.items()
            )
            raise TandemError(
                f"{rejected:,} of {counts[table]:,} rows of {table} were rejected: {listed}; expected at most"
                f" {data.max_rejected_share:.2%}: mend the data or raise data.max_rejected_share; all are in {aside}."
            )
    new_rows = {
        "learn from": ("before", counts["train rows"] - counts["replay rows"]),
        "judge by": ("from", counts["eval rows"] - counts["anchor rows"]),
    }
    for what, (side, rows) in new_rows.items():
        if not rows:
            targets = ", ".join(map(str, window.target_spans)) or "(none that is new)"
            raise TandemError(
                f"there is nothing to {what}: spans {targets} hold no target event {side} {_utc(window.cut)}, where"
                f" the held-out {data.holdout_days:g} days begin; expected some: add a span, change"
                " data.holdout_days, or check that features.event_types names the shop's types."
            )


def _first_rows(aside: str, reason: str) -> str:
    """The first few rows that were rejected for a reason, such as "items.parquet rows 3, 9"."""
    found: list[tuple[str, int]] = []
    for path in sorted(glob.glob(os.path.join(glob.escape(aside), "*"))):
        with open(path, encoding="utf-8") as file:
            rows = (json.loads(line) for line in file)
            found += [(row["file"], row["row"]) for row in rows if row["reason"] == reason]
            found = sorted(found)[:_ROWS_SHOWN]
    first = found[0][0]
    numbers = ", ".join(str(row) for path, row in found if path == first)
    return f"{os.path.basename(os.path.dirname(first))}/{os.path.basename(first)} rows {numbers}, ..."


def _utc(seconds: float) -> str:
    return datetime.datetime.fromtimestamp(seconds, datetime.timezone.utc).strftime("%Y-%m-%d %H:%M UTC")
