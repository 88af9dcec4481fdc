"""What a push remembers of the requests it was trained on, so that served requests can be compared with them.

`requests.json`   how each feature is compared, thresholds included
`requests.pb`     TFDV statistics of the labels of a sample of the training requests
"""

import math
from pathlib import Path
from typing import NamedTuple

from google.protobuf.message import DecodeError
from pydantic import BaseModel, ConfigDict, Field
from tensorflow_metadata.proto.v0 import statistics_pb2

from transform import baseline
from transform.bad_day_settings import SKEW, BadDaySettings
from transform.errors import TandemError
from transform.request_values import Compared, built_in
from transform.settings import FeatureSettings

COMPARISON_FILE = "requests.json"
STATISTICS_FILE = "requests.pb"


class Comparison(BaseModel):
    """How requests are compared.

    Attributes:
      min_requests: fewer logged ones say nothing.
      features: feature -> how it is compared.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    min_requests: int = Field(ge=1)
    features: dict[str, Compared]


class RequestBaseline(NamedTuple):
    """The training requests of a push.

    Attributes:
      comparison: how they are compared.
      statistics: of their labels.
    """

    comparison: Comparison
    statistics: statistics_pb2.DatasetFeatureStatisticsList


def compared_requests(
    settings: FeatureSettings,
    train: statistics_pb2.DatasetFeatureStatisticsList,
    bars: BadDaySettings,
) -> Comparison:
    """What is compared: the query, the history, and every declared feature of the query side that is not allowed to move.

    Args:
      settings: declared features.
      train: what StatisticsGen computed of split train; its tenths are the intervals of numbers.
      bars: thresholds, and what is allowed by name.
    """
    edges = built_in()
    for name, kind in baseline.compared(settings, "train").items():
        edges[name] = _tenths(train, name) if kind == "number" else None
    features = {
        name: Compared(kind="category", threshold=bars.max_category_skew)
        if at is None
        else Compared(kind="number", threshold=bars.max_number_skew, edges=at)
        for name, at in edges.items()
        if SKEW + name not in bars.allow
    }
    return Comparison(min_requests=bars.min_skew_requests, features=features)


def write_comparison(directory: str | Path, comparison: Comparison) -> None:
    """Writes `requests.json`."""
    Path(directory, COMPARISON_FILE).write_text(comparison.model_dump_json(indent=1) + "\n", encoding="utf-8")


def read_request_baseline(directory: str | Path) -> RequestBaseline | None:
    """Reads both files; none where the push is older than they are.

    Raises:
      TandemError: one of them is damaged.
    """
    path = Path(directory, COMPARISON_FILE)
    if not path.is_file():
        return None
    statistics = statistics_pb2.DatasetFeatureStatisticsList()
    try:
        comparison = Comparison.model_validate_json(path.read_bytes())
        statistics.ParseFromString(Path(directory, STATISTICS_FILE).read_bytes())
    except (OSError, ValueError, DecodeError) as error:
        raise TandemError(
            f"{directory}: what requests were trained on cannot be read ({error}): push again."
        ) from error
    return RequestBaseline(comparison, statistics)


def _tenths(train: statistics_pb2.DatasetFeatureStatisticsList, name: str) -> tuple[float, ...]:
    quantiles = statistics_pb2.Histogram.QUANTILES
    for feature in train.datasets[0].features:
        if feature.path.step[0] != name:
            continue
        for histogram in feature.num_stats.histograms:
            if histogram.type == quantiles:
                ends = {end for bucket in histogram.buckets for end in (bucket.low_value, bucket.high_value)}
                return tuple(sorted(end for end in ends if math.isfinite(end)))
    return ()
