"""The curated schema: what InteractionGen's rows must look like, one environment a split."""

import hashlib
import os

from tensorflow_metadata.proto.v0 import schema_pb2

from transform import baseline, features
from transform.bad_day_settings import BadDaySettings
from transform.settings import FeatureSettings

_TEXT, _NUMBER, _WHOLE = schema_pb2.BYTES, schema_pb2.FLOAT, schema_pb2.INT
_REQUESTS = ("train", "eval")
_DEFAULT_BARS = BadDaySettings()


def curated_schema(settings: FeatureSettings, bars: BadDaySettings = _DEFAULT_BARS) -> schema_pb2.Schema:
    """Builds the schema from the declared features.

    Rows of the splits train and eval are requests, rows of items are the catalogue; a feature is expected only in the
    environments of the splits that have it. Declared features have a drift comparator: L-infinity for categories and
    paths, Jensen-Shannon for numbers.

    Args:
      settings: declared features.
      bars: how far a feature may drift from the previous push.
    """
    schema = schema_pb2.Schema(default_environment=features.SPLITS)
    add = _Adder(schema)
    add(features.ITEM_ID, _TEXT, ("items",), required=True)
    for name, kind in features.item_columns(settings).items():
        add(name, _type_of(kind), ("items",), required=name == features.TITLE)
    add(features.TARGET_ITEM_IDS, _TEXT, _REQUESTS, required=True, many=True)
    add(features.TARGET_WEIGHTS, _NUMBER, _REQUESTS, required=True, many=True, above=0.0)
    add(features.TIMESTAMP, _WHOLE, _REQUESTS, required=True)
    add(features.KNOWN_POSITIVE_IDS, _TEXT, _REQUESTS, many=True)
    add(features.QUERY, _TEXT, _REQUESTS)
    add(features.USER_ID, _TEXT, _REQUESTS)
    add(features.HISTORY_ITEM_IDS, _TEXT, _REQUESTS, many=True)
    add(features.HISTORY_EVENT_TYPES, _TEXT, _REQUESTS, many=True)
    add(features.HISTORY_AGES, _NUMBER, _REQUESTS, many=True, above=0.0)
    for feature in features.query_features(settings):
        add(feature.name, _type_of(feature.kind), _REQUESTS)
    for name, values in (
        (features.VIEW, features.VIEWS),
        (features.USER_GROUP, features.USER_GROUPS),
        (features.QUERY_GROUP, features.QUERY_GROUPS),
    ):
        add(name, _TEXT, ("eval",), required=True, domain=values)
    _compare_drift(schema, settings, bars)
    return schema


def write_schema(settings: FeatureSettings, directory: str, bars: BadDaySettings = _DEFAULT_BARS) -> str:
    """Writes the curated schema as text, for ImportSchemaGen.

    TFX takes an imported file from its cache by path, so the path names the content.

    Args:
      settings: declared features.
      directory: made if need be.
      bars: how far a feature may drift from the previous push.

    Returns:
      `<directory>/<digest of the schema>/schema.pbtxt`.
    """
    from google.protobuf import text_format

    text = text_format.MessageToString(curated_schema(settings, bars))
    path = os.path.join(directory, hashlib.sha256(text.encode()).hexdigest()[:16], "schema.pbtxt")
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)
    return path


def _compare_drift(schema: schema_pb2.Schema, settings: FeatureSettings, bars: BadDaySettings) -> None:
    kinds = baseline.compared(settings, "items") | baseline.compared(settings, "train")
    for feature in schema.feature:
        kind = kinds.get(feature.name)
        if kind == "number":
            feature.drift_comparator.jensen_shannon_divergence.threshold = bars.max_number_drift
        elif kind is not None:
            feature.drift_comparator.infinity_norm.threshold = bars.max_category_drift


class _Adder:
    """Appends features to a schema."""

    def __init__(self, schema: schema_pb2.Schema) -> None:
        self._schema = schema

    def __call__(
        self,
        name: str,
        kind: "schema_pb2.FeatureType.ValueType",
        splits: tuple[str, ...],
        *,
        required: bool = False,
        many: bool = False,
        above: float | None = None,
        domain: tuple[str, ...] = (),
    ) -> None:
        feature = self._schema.feature.add(name=name, type=kind)
        feature.not_in_environment.extend(split for split in features.SPLITS if split not in splits)
        feature.value_count.min = 1 if required else 0
        if not many:
            feature.value_count.max = 1
        if required:
            feature.presence.min_fraction = 1.0
            feature.presence.min_count = 1
        if above is not None:
            feature.float_domain.min = above
        if domain:
            feature.string_domain.value.extend(domain)


def _type_of(kind: str) -> "schema_pb2.FeatureType.ValueType":
    return _NUMBER if kind == "number" else _TEXT
