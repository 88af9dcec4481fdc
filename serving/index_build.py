"""Builds the index: exact for a small catalogue, partitions of coded vectors for a large one, tuned to a recall."""

import logging
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serving.index import Index
from serving.index_tuning import Tuning
from serving.settings import IndexSettings
from transform.errors import TandemError

logger = logging.getLogger("tandem.index")

# ScaNN's quantiser learns 16 centres a block and refuses fewer vectors.
_FEWEST_QUANTISED = 16
# Each vector lies in a second partition too, chosen for queries that the first serves badly; how much that counts.
# Sun et al. 2023, "SOAR: Improved Indexing for Approximate Nearest Neighbor Search".
_SOAR = 1.5
# Dimensions that a code of 4 bits stands for, the cheaper first; where two lose too much, each has a code of its own.
_CODED_DIMENSIONS = (2, 1)


def build_index(
    vectors: NDArray[np.float32], settings: IndexSettings, queries: NDArray[np.float32] | None = None
) -> Index:
    """Builds the index and tunes it.

    Below `brute_force_below` items every score is exact. From there on a query looks into some partitions of a tree,
    scores what is in them with quantised vectors and the best of those again exactly; where codes of two dimensions lose too
    much for the target, each dimension gets one.

    Args:
      vectors: float32 [N, D], finite.
      settings: sizes.
      queries: float32 [Q, D], finite, of the kind that will be asked; none: vectors of the index stand in.

    Raises:
      ValueError: there is no vector or one is not finite.
      TandemError: the target recall cannot be reached, not even with a code for every dimension.
    """
    if vectors.ndim != 2 or not len(vectors):
        raise ValueError(
            f"vectors of shape {list(vectors.shape)}, expected [items, dimension] with at least one item"
        )
    if not np.isfinite(vectors).all():
        raise ValueError("an item vector is not finite, expected finite float32: the model is broken")
    vectors = np.ascontiguousarray(vectors, dtype=np.float32)
    count, k = len(vectors), min(settings.k, len(vectors))
    if count < max(settings.brute_force_below, _FEWEST_QUANTISED) or count <= settings.k:
        return Index(_builder(vectors, k).score_brute_force().build(), count, vectors.shape[1], k, None)
    leaves = min(settings.leaves or round(count**0.5), count)
    every = Tuning(leaves=leaves, searched=leaves, reorder=k)
    queries = vectors if queries is None else queries
    for coded in _CODED_DIMENSIONS:
        index = Index(_partitioned(vectors, k, leaves, coded), count, vectors.shape[1], k, every)
        try:
            return index.tuned(vectors, queries, target=settings.target_recall)
        except TandemError as error:
            missed = error.with_traceback(None)  # which holds the index
            del index  # before the next one is built
            logger.info("vectors coded by %d dimensions: %s", coded, error)
    raise missed


def _builder(vectors: NDArray[np.float32], k: int) -> Any:
    from scann.scann_ops.py import scann_ops_pybind

    return scann_ops_pybind.builder(vectors, k, "dot_product")


def _partitioned(vectors: NDArray[np.float32], k: int, leaves: int, coded: int) -> Any:
    """A searcher with so many partitions and one code for so many dimensions."""
    tree = _builder(vectors, k).tree(
        num_leaves=leaves,
        num_leaves_to_search=leaves,
        training_sample_size=min(len(vectors), 250_000),
        soar_lambda=_SOAR if leaves > 1 else None,
    )
    return tree.score_ah(coded, anisotropic_quantization_threshold=0.2).reorder(k).build()
