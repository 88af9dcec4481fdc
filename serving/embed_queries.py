"""Stored rows of held-out requests, and their query vectors, which the index is tuned on."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from serving.inputs import input_specs, parse_dense

_BATCH = 50


def read_examples(directory: str, most: int) -> list[bytes]:
    """At most so many records of a split's files, spread evenly over all of them."""
    import tensorflow as tf

    files = sorted(str(path) for path in Path(directory).iterdir() if path.is_file())
    kept: list[bytes] = []
    step = number = 0
    for file in files:
        for record in tf.data.TFRecordDataset(file, "GZIP" if file.endswith(".gz") else ""):
            if number % (1 << step) == 0:
                kept.append(record.numpy())
            if len(kept) == 2 * most:  # every second one goes, so that no more than these are held
                kept, step = kept[::2], step + 1
            number += 1
    return [kept[place * len(kept) // most] for place in range(most)] if len(kept) > most else kept


def embed_queries(towers_dir: str, directory: str, most: int) -> NDArray[np.float32] | None:
    """Vectors of a split's rows.

    Args:
      towers_dir: the trainer's SavedModel.
      directory: TFRecord files of raw rows.
      most: how many rows are taken, spread evenly.

    Returns:
      float32 [Q, D]; none where there is no row.
    """
    import tensorflow as tf
    import tensorflow_text  # noqa: F401  registers the tokenizer's ops

    rows = read_examples(directory, most)
    if not rows:
        return None
    towers = tf.saved_model.load(towers_dir)
    embed = towers.signatures["embed_query"]
    specs = input_specs(embed)
    vectors = [
        embed(**parse_dense(tf.constant(rows[start : start + _BATCH]), specs))["embedding"].numpy()
        for start in range(0, len(rows), _BATCH)
    ]
    return np.concatenate(vectors).astype(np.float32)
