"""ScaNN's compiled module by itself: its Python package imports TensorFlow, which a process that only searches has no use for."""

import ctypes
import importlib.util
import sys
from pathlib import Path
from typing import Any

from numpy.typing import NDArray


def scann_module() -> Any:
    """`scann_pybind`; the same that the package imports, in whatever order."""
    library = _folder("tensorflow") / "libtensorflow_framework.so.2"
    ctypes.CDLL(
        str(library), ctypes.RTLD_GLOBAL
    )  # the module is linked against it, and does not say where it lies
    folder = str(_folder("scann") / "scann_ops" / "cc" / "python")
    if folder not in sys.path:
        sys.path.append(folder)
    return importlib.import_module("scann_pybind")


class Searcher:
    """What ScaNN's package would wrap a loaded index in."""

    def __init__(self, directory: str, assets: str) -> None:
        """Loads an index.

        Args:
          directory: where its configuration is.
          assets: the text that says where its other files are.

        Raises:
          RuntimeError: it cannot be read.
        """
        self._index = scann_module().ScannNumpy(directory, assets)
        self.config: str = self._index.config()

    def search_batched(
        self,
        queries: NDArray[Any],
        final_num_neighbors: int,
        pre_reorder_num_neighbors: int = -1,
        leaves_to_search: int = -1,
    ) -> tuple[NDArray[Any], NDArray[Any]]:
        """Rows and scores, both [B, k] of float32 [B, D]; -1: as the index was built."""
        in_one_thread = False, 0
        found: tuple[NDArray[Any], NDArray[Any]] = self._index.search_batched(
            queries, final_num_neighbors, pre_reorder_num_neighbors, leaves_to_search, *in_one_thread
        )
        return found


def _folder(package: str) -> Path:
    found = importlib.util.find_spec(package)  # imports nothing
    if found is None or not found.submodule_search_locations:
        raise ImportError(
            f"package {package} is not installed, expected it beside Tandem: install Tandem again"
        )
    return Path(found.submodule_search_locations[0])
