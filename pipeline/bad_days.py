"""Recognises a bad day: data that fits the schema and still is not like the data of the previous push."""

from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any, NamedTuple

from tensorflow_metadata.proto.v0 import anomalies_pb2, statistics_pb2

from transform.bad_day_settings import DRIFT, FEW_EVENTS, FLOOD, BadDaySettings
from transform.baseline import PRESENCE_ONLY, compared
from transform.settings import FeatureSettings
from transform.span_counts import SpanCount

_Type = anomalies_pb2.AnomalyInfo
DRIFT_TYPES = (_Type.COMPARATOR_L_INFTY_HIGH, _Type.COMPARATOR_JENSEN_SHANNON_DIVERGENCE_HIGH)
# A feature without statistics on one side: `missing_values` speaks of it.
NOT_COMPARABLE = (_Type.COMPARATOR_CONTROL_DATA_MISSING, _Type.COMPARATOR_TREATMENT_DATA_MISSING)


class Anomaly(NamedTuple):
    """Something unlike the days before.

    Attributes:
      name: what lets it through: `drift:<feature>`, `few_events` or `flood:<item id>`.
      description: what was received and what was expected, in words.
    """

    name: str
    description: str


def drifted(split: str, feature: str, reasons: Sequence[Any]) -> list[Anomaly]:
    """Those of TFDV's reasons (AnomalyInfo.Reason) that are drift, as anomalies."""
    return [
        Anomaly(DRIFT + feature, f"split {split}: {reason.description.strip().rstrip('.')}")
        for reason in reasons
        if reason.type in DRIFT_TYPES
    ]


def missing_values(
    split: str,
    now: statistics_pb2.DatasetFeatureStatisticsList,
    before: statistics_pb2.DatasetFeatureStatisticsList,
    settings: FeatureSettings,
    bars: BadDaySettings,
) -> list[Anomaly]:
    """Features whose share of rows with a value changed by more than `max_category_drift`.

    TFDV compares values with values, so it does not see a column that is empty.
    """
    names = [*compared(settings, split), *(PRESENCE_ONLY if split != "items" else ())]
    found = []
    for name in names:
        was, is_now = _share_with_value(before, name), _share_with_value(now, name)
        if abs(is_now - was) > bars.max_category_drift:
            found.append(
                Anomaly(
                    DRIFT + name,
                    f"split {split}: {is_now:.0%} of the rows have a value, {was:.0%} had one, above the threshold"
                    f" {bars.max_category_drift:g}",
                )
            )
    return found


def odd_spans(
    counts: Mapping[int, SpanCount], new: Sequence[int], known: Sequence[int], bars: BadDaySettings
) -> list[Anomaly]:
    """New spans with most events missing, or with one item flooding them, against the medians of known spans.

    A first run knows none: then its newest span is held against the others of its window.

    Args:
      counts: span -> its counts.
      new: spans that the previous push has not learnt.
      known: spans that it has learnt; empty at bootstrap.
      bars: settings.
    """
    if not known:
        new, known = sorted(new)[-1:], sorted(new)[:-1]
    baseline = [counts[span] for span in sorted(known) if span in counts][-bars.baseline_spans :]
    if not baseline:
        return []
    usual = median(count.events for count in baseline)
    usual_share = median(count.top_item_share for count in baseline)
    over = f"the median of {len(baseline)} span{'s' if len(baseline) > 1 else ''} before"
    found = []
    for span in new:
        count = counts[span]
        if count.events < bars.min_events_share * usual:
            found.append(
                Anomaly(
                    FEW_EVENTS,
                    f"span {span} has {count.events:,} events, {over} is {usual:,.0f}, expected at least"
                    f" {bars.min_events_share:.0%} of it",
                )
            )
        if count.top_item_share - usual_share > bars.max_item_share_rise:
            found.append(
                Anomaly(
                    FLOOD + count.top_item,
                    f"{count.top_item_share:.0%} of span {span}'s {count.events:,} events are of item"
                    f" {count.top_item!r}, the most frequent item has {usual_share:.0%} in {over}, expected at most"
                    f" {bars.max_item_share_rise:.0%} more",
                )
            )
    return found


def _share_with_value(statistics: statistics_pb2.DatasetFeatureStatisticsList, name: str) -> float:
    dataset = statistics.datasets[0]
    for feature in dataset.features:
        if feature.path.step[0] == name and dataset.num_examples:
            kind = feature.WhichOneof("stats")
            return getattr(feature, kind).common_stats.num_non_missing / dataset.num_examples
    return 0.0
