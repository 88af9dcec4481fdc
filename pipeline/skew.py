"""Compares served requests with the training requests of the version that answered them."""

from pathlib import Path
from typing import NamedTuple

import tensorflow_data_validation as tfdv
from rich.table import Table
from rich.text import Text
from tensorflow_metadata.proto.v0 import schema_pb2
from tensorflow_metadata.proto.v0.statistics_pb2 import DatasetFeatureStatisticsList

from pipeline.logged_requests import Logged, read_logged_requests
from serving.bundle import newest_version, verify_bundle
from serving.write_bundle import BASELINE
from transform.errors import TandemError
from transform.request_baseline import Comparison, read_request_baseline
from transform.request_values import NO_VALUE

# Values that a table says of a feature, those whose shares changed most.
_SHOWN = 3
# Characters of a value in the table.
_LONGEST = 40


class Change(NamedTuple):
    """A value and its shares of a feature's values, each from 0 to 1."""

    value: str
    trained: float
    served: float


class FeatureSkew(NamedTuple):
    """How far one feature is from training.

    Attributes:
      name: of the feature.
      distance: L-infinity of a category, Jensen-Shannon divergence of a number; none where one side has no value.
      threshold: the largest that is no skew.
      changes: the values whose shares changed most, the largest change first.
    """

    name: str
    distance: float | None
    threshold: float
    changes: list[Change]

    @property
    def moved(self) -> bool:
        """Whether it is beyond its threshold."""
        return self.distance is not None and self.distance > self.threshold


class SkewReport(NamedTuple):
    """What was compared.

    Attributes:
      version: that was trained, and answered.
      logged: its requests.
      features: those that moved furthest, measured by their thresholds, first.
    """

    version: int
    logged: Logged
    features: list[FeatureSkew]

    @property
    def moved(self) -> list[str]:
        """Names of the features that moved."""
        return [feature.name for feature in self.features if feature.moved]

    def summary(self) -> str:
        """Lines for a person."""
        compared = f"{self.logged.rows:,} requests of version {self.version}"
        if self.moved:
            said = f"{compared}: {', '.join(self.moved)} moved away from training"
        else:
            said = f"{compared} are like those it was trained on"
        return "\n".join([said, *_left_out(self.logged)])


def compare_logs(push_dir: str, logs: str, version: int | None = None) -> SkewReport:
    """Reads the logs and holds them against the training statistics in the bundle.

    Args:
      push_dir: directory of pushed versions.
      logs: directory of prediction logs.
      version: none: the newest.

    Raises:
      TandemError: there is no such version, its statistics are damaged or missing, or too few requests are logged.
    """
    version = newest_version(push_dir) if version is None else version
    bundle = Path(push_dir, str(version))
    if not version or not bundle.is_dir():
        raise TandemError(
            f"{push_dir} holds no version{f' {version}' if version else ''}, expected the one that answered the"
            " requests: name it with --version."
        )
    verify_bundle(bundle, BASELINE)
    baseline = read_request_baseline(bundle / BASELINE)
    if baseline is None:
        raise TandemError(
            f"version {version} was pushed without statistics of its requests, expected {BASELINE}/requests.json:"
            " the next push has them."
        )
    logged = read_logged_requests(logs, version, baseline.comparison.features)
    if logged.rows < baseline.comparison.min_requests:
        left_out = "".join(f"; {line}" for line in _left_out(logged))
        raise TandemError(
            f"{logs} holds {logged.rows:,} requests that version {version} answered{left_out}; expected at least"
            f" {baseline.comparison.min_requests:,}: chance moves fewer. Wait, raise --prediction-log-rate, or name the"
            " version with --version."
        )
    return SkewReport(version, logged, skews(baseline.comparison, baseline.statistics, logged.statistics))


def skews(
    comparison: Comparison, trained: DatasetFeatureStatisticsList, served: DatasetFeatureStatisticsList
) -> list[FeatureSkew]:
    """Distances by TFDV's skew comparators, those furthest beyond their thresholds first."""
    schema = schema_pb2.Schema()
    for name, how in comparison.features.items():
        comparator = schema.feature.add(name=name, type=schema_pb2.BYTES).skew_comparator
        if how.kind == "category":
            comparator.infinity_norm.threshold = how.threshold
        else:
            comparator.jensen_shannon_divergence.threshold = how.threshold
    found = tfdv.validate_statistics(trained, schema, serving_statistics=served)
    distances = {
        info.path.step[0]: measured.value
        for info in found.drift_skew_info
        for measured in info.skew_measurements
    }
    before, now = _shares(trained), _shares(served)
    features = [
        FeatureSkew(
            name, distances.get(name), how.threshold, _changes(before.get(name, {}), now.get(name, {}))
        )
        for name, how in comparison.features.items()
    ]
    return sorted(
        features, key=lambda feature: (-(feature.distance or 0.0) / feature.threshold, feature.name)
    )


def skew_table(report: SkewReport) -> Table:
    """A row a feature."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("feature", no_wrap=True)
    table.add_column("distance", justify="right")
    table.add_column("threshold", justify="right")
    table.add_column("")
    table.add_column("share of training -> of requests")
    for feature in report.features:
        distance = "no values" if feature.distance is None else f"{feature.distance:.3f}"
        changes = ", ".join(
            f"{_readable(change.value)} {change.trained:.1%} -> {change.served:.1%}"
            for change in feature.changes
        )
        verdict = "MOVED" if feature.moved else ""
        table.add_row(feature.name, distance, f"{feature.threshold:g}", verdict, Text(changes))
    return table


def _readable(value: str) -> str:
    """What a client wrote, without what a terminal would obey."""
    if value == NO_VALUE:
        return "no value"
    shown = value if len(value) <= _LONGEST else f"{value[:_LONGEST]}..."
    return "".join(letter if letter.isprintable() else "\ufffd" for letter in shown)


def _left_out(logged: Logged) -> list[str]:
    return [f"left out: {what}: {count:,}" for what, count in sorted(logged.left_out.items())]


def _changes(before: dict[str, float], now: dict[str, float]) -> list[Change]:
    changes = [Change(value, before.get(value, 0.0), now.get(value, 0.0)) for value in {*before, *now}]
    changes.sort(key=lambda change: (-abs(change.served - change.trained), change.value))
    return changes[:_SHOWN]


def _shares(statistics: DatasetFeatureStatisticsList) -> dict[str, dict[str, float]]:
    """Feature -> value -> share of the feature's values."""
    shares = {}
    for feature in statistics.datasets[0].features:
        buckets = feature.string_stats.rank_histogram.buckets
        total = feature.string_stats.common_stats.tot_num_values
        shares[feature.path.step[0]] = {
            bucket.label or NO_VALUE: bucket.sample_count / total for bucket in buckets if total
        }
    return shares
