"""The ScaNN index over item vectors, compared by inner product, in a directory that may be moved."""

import os
import re
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from serving.manifest import BundleError
from serving.settings import IndexSettings

SCANN_DIR = "assets.extra/scann"

_ASSETS = "scann_assets.pbtxt"
_CONFIG = "scann_config.pb"
_VECTORS = "dataset.npy"

# ScaNN's quantiser learns 16 centres a block and refuses fewer vectors.
_FEWEST_QUANTISED = 16
_ASSET_PATH = re.compile(r'asset_path: "([^"]*)"')
_REORDER = re.compile(r"exact_reordering \{\s*approx_num_neighbors: (\d+)")


class Neighbours(NamedTuple):
    """What a search found, best first.

    Attributes:
      rows: int64 [B, k], positions in the vectors that the index was built from.
      scores: float32 [B, k], inner products.
    """

    rows: NDArray[np.int64]
    scores: NDArray[np.float32]


class Index:
    """Search for the largest inner products, exact for a small catalogue; safe to share between threads."""

    def __init__(self, searcher: Any, size: int, dimension: int, k: int) -> None:
        self._searcher = searcher
        self.size = size
        self.dimension = dimension
        self.k = min(k, size)
        reorder = _REORDER.search(searcher.searcher.config())
        self._reorder = int(reorder[1]) if reorder else None

    def compared(self, k: int) -> int:
        """How many vectors a search for k items compares in full."""
        return min(self.size, -(-self._reorder * max(k, self.k) // self.k)) if self._reorder else self.size

    def search(self, queries: NDArray[np.float32], k: int | None = None) -> Neighbours:
        """Finds the k items of largest inner product for each query.

        A query whose partitions hold fewer than k items is searched again in all of them.

        Args:
          queries: float32 [B, D], finite.
          k: 1..N, or none for the index's own; for more, as many times more candidates are scored exactly.

        Returns:
          rows and scores, both [B, k].

        Raises:
          ValueError: a query is not finite or not D long.
        """
        queries = np.ascontiguousarray(queries, dtype=np.float32)
        if queries.ndim != 2 or not len(queries) or queries.shape[1] != self.dimension:
            raise ValueError(f"queries have shape {list(queries.shape)}, expected [batch, {self.dimension}]")
        if not np.isfinite(queries).all():
            raise ValueError("a query vector is not finite, expected finite float32: the model is broken")
        options = {"final_num_neighbors": self.k if k is None else k}
        if k is not None and k > self.k and self._reorder:
            options["pre_reorder_num_neighbors"] = self.compared(k)
        rows, scores = self._search(queries, **options)
        short = np.isnan(scores).any(axis=1)
        if short.any():
            rows[short], scores[short] = self._search(queries[short], leaves_to_search=self.size, **options)
        return Neighbours(rows, scores)

    def save(self, directory: str | os.PathLike[str]) -> None:
        """Writes the index into a directory, which is made; nothing in it refers to where it is."""
        path = Path(directory)
        path.mkdir(parents=True, exist_ok=True)
        self._searcher.serialize(str(path))
        assets = path / _ASSETS
        text = assets.read_text(encoding="utf-8")
        assets.write_text(
            _ASSET_PATH.sub(lambda match: f'asset_path: "{os.path.basename(match[1])}"', text),
            encoding="utf-8",
        )

    def _search(
        self, queries: NDArray[np.float32], **options: int
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        rows, scores = self._searcher.search_batched(queries, **options)
        return rows.astype(np.int64), np.array(scores)


def build_index(vectors: NDArray[np.float32], settings: IndexSettings) -> Index:
    """Builds the index.

    Up to `brute_force_below` items every score is exact; up to `partition_above` every item is scored with
    quantised vectors and the best are scored again exactly; beyond that only some partitions of a tree are
    looked into.

    Args:
      vectors: float32 [N, D], finite.
      settings: sizes.

    Raises:
      ValueError: there is no vector or one is not finite.
    """
    from scann.scann_ops.py import scann_ops_pybind

    if vectors.ndim != 2 or not len(vectors):
        raise ValueError(
            f"vectors of shape {list(vectors.shape)}, expected [items, dimension] with at least one item"
        )
    if not np.isfinite(vectors).all():
        raise ValueError("an item vector is not finite, expected finite float32: the model is broken")
    count = len(vectors)
    builder = scann_ops_pybind.builder(
        np.ascontiguousarray(vectors, dtype=np.float32), min(settings.k, count), "dot_product"
    )
    if count < max(settings.brute_force_below, _FEWEST_QUANTISED) or count <= settings.k:
        builder = builder.score_brute_force()
    else:
        if count > settings.partition_above:
            leaves = min(settings.leaves or round(count**0.5), count)
            builder = builder.tree(
                num_leaves=leaves,
                num_leaves_to_search=max(1, round(leaves * settings.searched_share)),
                training_sample_size=min(count, 250_000),
            )
        builder = builder.score_ah(2, anisotropic_quantization_threshold=0.2).reorder(
            min(settings.reorder, count)
        )
    return Index(builder.build(), count, vectors.shape[1], settings.k)


def load_index(directory: str | os.PathLike[str], *, k: int) -> Index:
    """Loads an index that `Index.save` wrote, wherever its directory is now.

    Args:
      directory: the index.
      k: items that a search returns.

    Raises:
      BundleError: there is no index, or it cannot be read.
    """
    from google.protobuf import text_encoding
    from scann.scann_ops.py import scann_ops_pybind

    path = Path(directory).absolute()
    size, dimension = _check_files(path)
    here = text_encoding.CEscape(str(path), as_utf8=False)
    assets = _ASSET_PATH.sub(
        lambda match: f'asset_path: "{here}/{os.path.basename(match[1])}"',
        (path / _ASSETS).read_text(encoding="utf-8"),
    )
    try:
        searcher = scann_ops_pybind.scann_pybind.ScannNumpy(str(path), assets)
    except RuntimeError as error:
        raise BundleError(
            f"{path} is not an index ({error}), expected one: push the bundle again."
        ) from error
    return Index(scann_ops_pybind.ScannSearcher(searcher), size, dimension, k)


def _check_files(path: Path) -> tuple[int, int]:
    """Finds every file that the index needs: ScaNN itself may end the process over a missing one.

    Returns:
      Number of vectors and their length.
    """
    try:
        names = _ASSET_PATH.findall((path / _ASSETS).read_text(encoding="utf-8"))
        if not names:
            raise ValueError(f"{_ASSETS} names no file")
        for name in [_CONFIG, _VECTORS, *map(os.path.basename, names)]:
            if not (path / name).stat().st_size:
                raise ValueError(f"{name} is empty")
        size, dimension = np.load(path / _VECTORS, mmap_mode="r").shape
    except (OSError, ValueError) as error:
        raise BundleError(
            f"{path} is not an index ({error}), expected one: push the bundle again."
        ) from error
    return size, dimension
