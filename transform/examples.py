"""Writes rows as tf.Example."""

from collections.abc import Mapping, Sequence
from typing import Any

import tensorflow as tf

from transform import features
from transform.requests import Request


def to_example(row: Mapping[str, Any]) -> bytes:
    """Serialises a row; what is None or "" has no value.

    Args:
      row: name -> str, float, int, or a list of one of these.
    """
    example = tf.train.Example()
    for name, value in row.items():
        values = value if isinstance(value, list) else [] if value is None or value == "" else [value]
        _fill(example.features.feature[name], values)
    return example.SerializeToString(deterministic=True)


def request_example(request: Request, profile: Mapping[str, Any], context_names: Sequence[str]) -> bytes:
    """Serialises a request.

    Args:
      request: the request.
      profile: user feature -> value of its user, empty where the user is not known.
      context_names: names of the values in `request.context`.
    """
    row: dict[str, Any] = {
        features.QUERY: request.query,
        features.USER_ID: request.user_id,
        features.TIMESTAMP: int(request.timestamp),
        features.HISTORY_ITEM_IDS: [entry[0] for entry in request.history],
        features.HISTORY_EVENT_TYPES: [entry[1] for entry in request.history],
        features.HISTORY_AGES: [entry[2] for entry in request.history],
        features.TARGET_ITEM_IDS: list(request.targets),
        features.TARGET_WEIGHTS: list(request.targets.values()),
        features.KNOWN_POSITIVE_IDS: list(request.known_positives),
        **profile,
        **dict(zip(context_names, request.context, strict=True)),
    }
    if request.split == "eval":
        row |= {
            features.VIEW: request.view,
            features.USER_GROUP: request.user_group,
            features.QUERY_GROUP: request.query_group,
        }
    return to_example(row)


def _fill(feature: tf.train.Feature, values: Sequence[Any]) -> None:
    """Filled in place: messages that are made apart are copied into the example."""
    if not values:
        return
    if isinstance(values[0], str):
        feature.bytes_list.value.extend([value.encode() for value in values])
    elif isinstance(values[0], int):
        feature.int64_list.value.extend(values)
    else:
        feature.float_list.value.extend(values)
