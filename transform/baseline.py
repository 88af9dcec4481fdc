"""What a push remembers of the data it was trained on, so that the next day can be compared with it.

`train.pb`, `eval.pb`, `items.pb`   TFDV statistics of what is compared, and of nothing else
`spans.json`                        events of every span, and of its most frequent item
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from tensorflow_metadata.proto.v0 import statistics_pb2

from transform import features, span_counts
from transform.settings import FeatureSettings
from transform.span_counts import SpanCount

_SPANS = "spans.json"
# Whether there is a value is compared, the values are not: text is free, and ids come and go.
PRESENCE_ONLY = (features.QUERY, features.USER_ID)


class Baseline(NamedTuple):
    """The data of a push.

    Attributes:
      statistics: split -> its statistics; empty at bootstrap.
      spans: span -> its counts.
    """

    statistics: dict[str, statistics_pb2.DatasetFeatureStatisticsList]
    spans: dict[int, SpanCount]


def compared(settings: FeatureSettings, split: str) -> dict[str, str]:
    """Declared features of a split that are compared from push to push: name -> kind."""
    declared = settings.item if split == "items" else features.query_features(settings)
    return {feature.name: feature.kind for feature in declared}


def write_baseline(
    directory: str | Path,
    statistics: Mapping[str, statistics_pb2.DatasetFeatureStatisticsList],
    spans: Mapping[int, SpanCount],
    settings: FeatureSettings,
) -> None:
    """Writes the part of the statistics that is compared: no query text and no user id leaves with a bundle.

    Args:
      directory: made if need be.
      statistics: split -> what StatisticsGen computed.
      spans: span -> its counts.
      settings: declared features.
    """
    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    for split, computed in statistics.items():
        kept = _only_compared(computed, set(compared(settings, split)))
        (directory / f"{split}.pb").write_bytes(kept.SerializeToString(deterministic=True))
    (directory / _SPANS).write_text(json.dumps(span_counts.to_json(spans), indent=1) + "\n", encoding="utf-8")


def read_baseline(directory: str | Path) -> Baseline:
    """Reads what `write_baseline` wrote; an empty one where the push has none."""
    directory = Path(directory)
    if not (directory / _SPANS).is_file():
        return Baseline({}, {})
    statistics = {}
    for split in features.SPLITS:
        read = statistics_pb2.DatasetFeatureStatisticsList()
        read.ParseFromString((directory / f"{split}.pb").read_bytes())
        statistics[split] = read
    spans = json.loads((directory / _SPANS).read_text(encoding="utf-8"))
    return Baseline(statistics, span_counts.from_json(spans))


def _only_compared(
    computed: statistics_pb2.DatasetFeatureStatisticsList, names: set[str]
) -> statistics_pb2.DatasetFeatureStatisticsList:
    kept = statistics_pb2.DatasetFeatureStatisticsList()
    whole = computed.datasets[0]
    dataset = kept.datasets.add(name=whole.name, num_examples=whole.num_examples)
    for feature in whole.features:
        name = feature.path.step[0]
        if name in names:
            dataset.features.add().CopyFrom(feature)
        elif name in PRESENCE_ONLY:
            short = dataset.features.add(type=feature.type)
            short.path.CopyFrom(feature.path)
            short.string_stats.common_stats.CopyFrom(feature.string_stats.common_stats)
    return kept
