"""What a version computes with: its model and its indexes."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from numpy.typing import NDArray

from serving.background import Pace
from serving.bundle import verify_bundle
from serving.index import SCANN_DIR, Index, Neighbours, load_index
from serving.manifest import Manifest
from serving.model_session import Arrays, ModelSession
from serving.related import RELATED_DIR

if TYPE_CHECKING:
    import tensorflow as tf
    from tensorflow.core.protobuf.meta_graph_pb2 import SignatureDef

EMBED_QUERY = "embed_query"


class Retrieved(NamedTuple):
    """Queries and what the index found for them.

    Attributes:
      outputs: of `embed_query`: `embedding` float32 [B, D] and `history_bonus` float32 [B, H].
      found: the best k of the version's own items.
    """

    outputs: dict[str, NDArray[Any]]
    found: Neighbours


class Engine(Protocol):
    """Computes; safe to share between threads.

    Attributes:
      manifest: of the bundle, whose files were verified.
      signature_defs: signature -> `SignatureDef`, of the SavedModel.
      specs: signature -> input name -> `tf.TensorSpec`.
      index: over the item vectors.
      related_index: over the same with length 1; the same index where they are that as they are.
    """

    manifest: Manifest
    signature_defs: "dict[str, SignatureDef]"
    specs: "dict[str, dict[str, tf.TensorSpec]]"
    index: Index
    related_index: Index

    def run(self, signature: str, inputs: Arrays) -> dict[str, NDArray[Any]]:
        """Runs one signature of the SavedModel, as `ModelSession.run` does."""

    def run_first(self, signature: str, inputs: Arrays) -> None:
        """The same for the first time, which takes long; gives way as loading did."""

    def retrieve(self, inputs: Arrays, k: int) -> Retrieved:
        """Embeds queries and searches the index for the best k.

        Raises:
          tf.errors.InvalidArgumentError: the graph refuses the inputs.
          ValueError: the model made a vector that is not finite.
        """

    def variable(self, name: str) -> NDArray[Any]:
        """The value of a variable of the SavedModel."""


LoadEngine = Callable[[Path, Pace], Engine]


class LocalEngine:
    """Model and indexes in this process."""

    def __init__(self, directory: str | os.PathLike[str], manifest: Manifest, bfloat16: bool = False) -> None:
        """Loads them.

        Args:
          directory: the bundle.
          manifest: its own.
          bfloat16: whether the encoder multiplies in bfloat16.

        Raises:
          BundleError: something is not there, or cannot be read.
        """
        self.manifest = manifest
        self.index = self.related_index = load_index(Path(directory, SCANN_DIR), k=manifest.k)
        if (related := Path(directory, RELATED_DIR)).is_dir():
            self.related_index = load_index(related, k=manifest.k + 1)
        self._model = ModelSession(directory, bfloat16)
        self.signature_defs = self._model.signature_defs
        self.specs = self._model.specs
        self.run = self._model.run
        self.variable = self._model.variable

    def run_first(self, signature: str, inputs: Arrays) -> None:
        """As `run`: nobody waits."""
        self.run(signature, inputs)

    def retrieve(self, inputs: Arrays, k: int) -> Retrieved:
        """Embeds queries and searches the index for the best k."""
        outputs = self.run(EMBED_QUERY, inputs)
        return Retrieved(outputs, self.index.search(outputs["embedding"], k))


def load_here(directory: Path, pace: Pace) -> LocalEngine:
    """Verifies every file of a bundle and loads it into this process, where nobody waits.

    Raises:
      BundleError: the bundle is damaged.
    """
    return LocalEngine(directory, verify_bundle(directory))
