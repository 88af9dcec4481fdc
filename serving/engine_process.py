"""Model and indexes of a version in a process of their own: loading and computing hold the interpreter lock, and may crash."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serving.background import Pace
from serving.child_process import ChildProcess
from serving.engine import Arrays, Retrieved
from serving.index import Index, Neighbours
from serving.index_tuning import Tuning
from serving.inputs import signature_specs

# An answer that takes longer never comes. The first of a signature waits for others while it is prepared.
_SECONDS = 120.0
_FIRST_SECONDS = 1800.0
# Requests that the child takes at once; there are seldom more than a batch a core and a few that cannot be joined.
_CHANNELS = 16


class EngineProcess:
    """An `Engine` that asks `serving.engine_worker`, which ends with this object."""

    def __init__(self, directory: Path, pace: Pace, bfloat16: bool) -> None:
        """Has a child verify and load a bundle.

        Args:
          directory: the bundle.
          pace: how far this gives way to those who are being answered.
          bfloat16: whether the encoder multiplies in bfloat16.

        Raises:
          BundleError: the bundle is damaged.
        """
        words = ["bfloat16" if bfloat16 else "float32", str(directory.absolute())]
        self._process = ChildProcess("serving.engine_worker", words, pace.aside, _CHANNELS)
        self._pace = pace
        self.manifest, self.signature_defs, (index, related) = self._process.said
        self.specs = {name: signature_specs(d) for name, d in self.signature_defs.items()}
        self.index: Index = _RemoteIndex(self._process, "index", *index)
        self.related_index: Index = _RemoteIndex(self._process, "related_index", *related)

    def run(self, signature: str, inputs: Arrays) -> dict[str, NDArray[Any]]:
        """Runs one signature of the SavedModel."""
        answer: dict[str, NDArray[Any]] = self._process.ask("run", signature, inputs, seconds=_SECONDS)
        return answer

    def run_first(self, signature: str, inputs: Arrays) -> None:
        """The same for the first time."""
        what = "run_aside" if self._pace.aside else "run"
        self._process.ask(what, signature, inputs, seconds=_FIRST_SECONDS)

    def retrieve(self, inputs: Arrays, k: int) -> Retrieved:
        """Embeds queries and searches the index for the best k."""
        answer: Retrieved = self._process.ask("retrieve", inputs, k, seconds=_SECONDS)
        return answer

    def variable(self, name: str) -> NDArray[Any]:
        """The value of a variable of the SavedModel."""
        answer: NDArray[Any] = self._process.ask("variable", name, seconds=_SECONDS)
        return answer


class _RemoteIndex(Index):
    """One of the child's."""

    def __init__(
        self, process: ChildProcess, name: str, size: int, dimension: int, k: int, tuning: Tuning | None
    ) -> None:
        super().__init__(None, size, dimension, k, tuning)
        self._process = process
        self._name = name

    def search(self, queries: NDArray[np.float32], k: int | None = None) -> Neighbours:
        """Finds the k items of largest inner product for each query."""
        answer: Neighbours = self._process.ask("search", self._name, queries, k, seconds=_SECONDS)
        return answer
