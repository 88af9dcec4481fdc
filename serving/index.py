"""The ScaNN index over item vectors, compared by inner product, in a directory that may be moved."""

import os
import re
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from serving.index_tuning import Tuning, tune
from serving.manifest import BundleError
from serving.scann_module import Searcher

SCANN_DIR = "assets.extra/scann"

# Vectors are read in pieces: the kernel may let nobody else run on a core while it copies one into new memory.
_READ_BYTES = 1 << 20

# Held-out queries that the settings are chosen on, at most.
TUNING_QUERIES = 500

_ASSETS = "scann_assets.pbtxt"
_CONFIG = "scann_config.pb"
_VECTORS = "dataset.npy"
_TUNING = "tuning.json"

_BUILT_WITH = {
    "leaves": "num_children",
    "searched": "max_spill_centers",
    "reorder": "approx_num_neighbors",
}
_ASSET_PATH = re.compile(r'asset_path: "([^"]*)"')


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

    def __init__(self, searcher: Any, size: int, dimension: int, k: int, tuning: Tuning | None) -> None:
        """Takes ScaNN's searcher over so many vectors of a length, k, and what to look at; none: at all of it."""
        self._searcher = searcher
        self.size = size
        self.dimension = dimension
        self.k = min(k, size)
        self.tuning = tuning

    def compared(self, k: int) -> int:
        """How many vectors a search for k items compares in full."""
        return min(self.size, self._times(k, self.tuning.reorder)) if self.tuning else self.size

    def search(self, queries: NDArray[np.float32], k: int | None = None) -> Neighbours:
        """Finds the k items of largest inner product for each query.

        A query whose partitions hold fewer than k items is searched again in all of them.

        Args:
          queries: float32 [B, D], finite.
          k: 1..N, or none for the index's own; for more, as many times more is looked at.

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
        k = self.k if k is None else k
        options = {"final_num_neighbors": k}
        if self.tuning:
            options["pre_reorder_num_neighbors"] = self.compared(k)
            options["leaves_to_search"] = min(self.tuning.leaves, self._times(k, self.tuning.searched))
        rows, scores = self._search(queries, options)
        short = np.isnan(scores).any(axis=1)
        if short.any():
            rows[short], scores[short] = self._search(
                queries[short], options | {"leaves_to_search": self.size}
            )
        return Neighbours(rows, scores)

    def tuned(
        self,
        vectors: NDArray[np.float32],
        queries: NDArray[np.float32],
        *,
        target: float,
        k: int | None = None,
    ) -> "Index":
        """The same index with the cheapest setting that finds enough; exact ones stay as they are.

        Args:
          vectors: float32 [N, D], those in the index.
          queries: float32 [Q, D], Q at least 1; some of them are asked.
          target: share of the exact top k to be found.
          k: items that a search returns, or none for as many as before.

        Raises:
          TandemError: the target cannot be reached.
        """
        k = min(k or self.k, self.size)
        if not self.tuning:
            return Index(self._searcher, self.size, self.dimension, k, None)

        def search(asked: NDArray[np.float32], searched: int, reorder: int) -> NDArray[np.float32]:
            options = {"leaves_to_search": searched, "pre_reorder_num_neighbors": reorder}
            return self._search(asked, options | {"final_num_neighbors": k})[1]

        asked = queries[:: max(1, len(queries) // TUNING_QUERIES)][:TUNING_QUERIES]
        asked = np.ascontiguousarray(asked, np.float32)
        tuning = tune(search, vectors, asked, k=k, leaves=self.tuning.leaves, target=target)
        return Index(self._searcher, self.size, self.dimension, k, tuning)

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
        if self.tuning:
            (path / _TUNING).write_text(self.tuning.model_dump_json(indent=2), encoding="utf-8")

    def _times(self, k: int, number: int) -> int:
        """So many for the index's own k, in proportion for more."""
        return -(-number * max(k, self.k) // self.k)

    def _search(
        self, queries: NDArray[np.float32], options: dict[str, int]
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        rows, scores = self._searcher.search_batched(queries, **options)
        return rows.astype(np.int64), np.array(scores)


def load_index(directory: str | os.PathLike[str], *, k: int) -> Index:
    """Loads an index that `Index.save` wrote, wherever its directory is now.

    Args:
      directory: the index.
      k: items that a search returns.

    Raises:
      BundleError: there is no index, or it cannot be read.
    """
    from google.protobuf import text_encoding

    path = Path(directory).absolute()
    size, dimension = _check_files(path)
    here = text_encoding.CEscape(str(path), as_utf8=False)
    assets = _ASSET_PATH.sub(
        lambda match: f'asset_path: "{here}/{os.path.basename(match[1])}"',
        (path / _ASSETS).read_text(encoding="utf-8"),
    )
    try:
        searcher = Searcher(str(path), assets)
    except RuntimeError as error:
        raise BundleError(
            f"{path} is not an index ({error}), expected one: push the bundle again."
        ) from error
    return Index(searcher, size, dimension, k, _read_tuning(path, searcher.config))


def read_vectors(directory: str | os.PathLike[str]) -> NDArray[np.float32]:
    """The vectors that an index was built from, float32 [N, D], read without holding the interpreter lock.

    Raises:
      BundleError: there is no index, or it cannot be read.
    """
    path = Path(directory).absolute()
    _check_files(path)
    stored = np.load(path / _VECTORS, mmap_mode="r")
    if stored.dtype != np.float32 or not stored.flags.c_contiguous:
        raise BundleError(
            f"{path / _VECTORS} holds {stored.dtype}, expected float32 row after row: push the bundle again."
        )
    vectors = np.empty(stored.shape, np.float32)
    with open(path / _VECTORS, "rb", buffering=0) as file:
        file.seek(stored.offset)
        rest = memoryview(vectors.view(np.uint8).reshape(-1).data)
        while rest and (count := file.readinto(rest[:_READ_BYTES])):
            rest = rest[count:]
    if rest:
        raise BundleError(f"{path / _VECTORS} ends too soon, expected {len(vectors)} vectors: push again.")
    return vectors


def _read_tuning(path: Path, config: str) -> Tuning | None:
    """What was tuned; of an index from before that, what it was built with; none where all is compared.

    Args:
      path: the index.
      config: ScaNN's, as text.

    Raises:
      BundleError: what was tuned cannot be read.
    """
    try:
        return Tuning.model_validate_json((path / _TUNING).read_bytes())
    except FileNotFoundError:
        built = {name: re.search(rf"{field}: (\d+)", config) for name, field in _BUILT_WITH.items()}
        values = {name: int(match[1]) for name, match in built.items() if match}
        return Tuning(**({"leaves": 1, "searched": 1} | values)) if "reorder" in values else None
    except ValidationError as error:
        raise BundleError(
            f"{path} is not an index ({_TUNING}: {error.errors()[0]['msg']}), expected one: push the bundle again."
        ) from error


def _check_files(path: Path) -> tuple[int, int]:
    """Finds every file that the index needs: ScaNN itself may end the process over a missing one.

    Returns:
      Number of vectors and their length.

    Raises:
      BundleError: one is missing or empty.
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
