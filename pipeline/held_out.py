"""The held-out requests that InteractionGen wrote, and what a bundle scores on each of them."""

import glob
import os
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from serving.metrics import METRICS
from transform.features import QUERY_GROUP, USER_GROUP, VIEW

SIGNATURE = "evaluate"
_BATCH = 256


class Slices(NamedTuple):
    """What tells held-out requests apart, one entry a request.

    Attributes:
      view: which targets it holds.
      user_group: new, returning or none.
      query_group: with_query or without_query.
    """

    view: NDArray[np.str_]
    user_group: NDArray[np.str_]
    query_group: NDArray[np.str_]


def read_requests(split_dir: str) -> list[bytes]:
    """Reads the serialised requests of a split, in the order of its files.

    Args:
      split_dir: directory of gzipped TFRecord files.
    """
    import tensorflow as tf

    files = sorted(glob.glob(os.path.join(glob.escape(split_dir), "*")))
    return [record.numpy() for record in tf.data.TFRecordDataset(files, compression_type="GZIP")]


def read_slices(requests: Sequence[bytes]) -> Slices:
    """Reads view and groups of N serialised requests; "" where a request has none."""
    import tensorflow as tf

    columns = (VIEW, USER_GROUP, QUERY_GROUP)
    spec = {name: tf.io.FixedLenFeature([], tf.string, "") for name in columns}
    parsed = tf.io.parse_example(tf.constant(list(requests), tf.string), spec)
    return Slices(*(parsed[name].numpy().astype(str) for name in columns))


def score_requests(bundle_dir: str, requests: Sequence[bytes]) -> dict[str, NDArray[np.float32]]:
    """Lets a bundle's signature `evaluate` score requests against its whole catalogue.

    Args:
      bundle_dir: directory of the SavedModel.
      requests: N serialised requests.

    Returns:
      metric -> float32 [N].
    """
    import tensorflow as tf
    import tensorflow_text  # noqa: F401  registers the tokenizer's ops

    model = tf.saved_model.load(bundle_dir)
    evaluate = model.signatures[SIGNATURE]
    parts = [
        evaluate(examples=tf.constant(list(requests[start : start + _BATCH]), tf.string))
        for start in range(0, len(requests), _BATCH)
    ]
    empty = np.empty(0, np.float32)
    return {metric: np.concatenate([empty, *(part[metric].numpy() for part in parts)]) for metric in METRICS}
