"""Reads what InteractionGen wrote back into plain dicts."""

import glob
import os

import tensorflow as tf


def read_split(examples, split):
    """Rows of a split as {feature: list of str, float or int}; a feature without a value is left out."""
    files = sorted(glob.glob(os.path.join(glob.escape(examples.uri), f"Split-{split}", "*")))
    rows = []
    for record in tf.data.TFRecordDataset(files, compression_type="GZIP").as_numpy_iterator():
        row = {}
        for name, feature in tf.train.Example.FromString(record).features.feature.items():
            kind = feature.WhichOneof("kind")
            if kind is None:
                continue
            values = list(getattr(feature, kind).value)
            row[name] = [value.decode() for value in values] if kind == "bytes_list" else values
        rows.append(row)
    return rows


def one(row, name):
    """The single value of a feature, None where it has none."""
    (value,) = row.get(name) or [None]
    return value
