"""How far the vectors of a catalogue moved from one bundle to the next, for the items that both hold."""

import os
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class Drift(NamedTuple):
    """What changed between two catalogues.

    Attributes:
      carried: items that are in both.
      new_share: share of the candidate's items that the previous bundle does not hold.
      cosine_distance: mean over carried items of 1 - cos(candidate vector, previous vector); None without any.
      norm_ratio: mean over carried items of |candidate vector| / |previous vector|; None without any.
    """

    carried: int
    new_share: float
    cosine_distance: float | None
    norm_ratio: float | None


class Catalogue(NamedTuple):
    """The items of a bundle.

    Attributes:
      ids: bytes [N], distinct.
      vectors: float32 [N, D].
    """

    ids: NDArray[np.bytes_]
    vectors: NDArray[np.float32]


def read_catalogue(bundle_dir: str) -> Catalogue:
    """Reads ids and vectors from a bundle's variables, without loading its graph."""
    import tensorflow as tf

    reader = tf.train.load_checkpoint(os.path.join(bundle_dir, "variables", "variables"))
    ids, vectors = (
        reader.get_tensor(f"{name}/.ATTRIBUTES/VARIABLE_VALUE") for name in ("item_ids", "item_vectors")
    )
    return Catalogue(np.array(ids, np.bytes_), vectors)


def drift(candidate: Catalogue, previous: Catalogue) -> Drift:
    """Compares the vectors of the items that two catalogues share; one of length 0 has no direction and is left out.

    Towers of different lengths of vectors share nothing that could be compared.

    Args:
      candidate: N items, N >= 1.
      previous: the previous push's.
    """
    shared, here, there = np.intersect1d(candidate.ids, previous.ids, assume_unique=True, return_indices=True)
    new_share = 1 - len(shared) / len(candidate.ids)
    if candidate.vectors.shape[1] != previous.vectors.shape[1]:
        return Drift(len(shared), new_share, None, None)
    now = candidate.vectors[here].astype(np.float64)
    before = previous.vectors[there].astype(np.float64)
    norm_now, norm_before = np.linalg.norm(now, axis=1), np.linalg.norm(before, axis=1)
    directed = (norm_now > 0) & (norm_before > 0)
    if not directed.any():
        return Drift(len(shared), new_share, None, None)
    norm_now, norm_before = norm_now[directed], norm_before[directed]
    cosine = (now[directed] * before[directed]).sum(axis=1) / (norm_now * norm_before)
    return Drift(len(shared), new_share, float((1 - cosine).mean()), float((norm_now / norm_before).mean()))
