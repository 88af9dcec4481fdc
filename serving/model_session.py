"""A bundle's SavedModel in a session of its own, as TensorFlow Serving runs it."""

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from serving.bfloat16 import encoder_to_bfloat16
from serving.inputs import signature_specs
from serving.manifest import BundleError

if TYPE_CHECKING:
    import tensorflow as tf
    from tensorflow.core.protobuf.meta_graph_pb2 import MetaGraphDef, SignatureDef

Arrays = Mapping[str, NDArray[Any]]

# Where a SavedModel's signatures hold what is run once its variables are restored.
_INITIALISE = "__saved_model_init_op"


class ModelSession:
    """Runs signatures; safe to share between threads. What it holds in memory is given back with the object.

    A session takes its operations from the file as they are. `tf.saved_model.load` makes objects of them, which takes
    the interpreter lock for seconds, leaves cycles to collect, and makes calls that are 10 to 20 % dearer.

    Attributes:
      signature_defs: signature -> `SignatureDef`.
      specs: signature -> input name -> `tf.TensorSpec`.
    """

    def __init__(self, directory: str | os.PathLike[str], bfloat16: bool = False) -> None:
        """Loads it.

        Args:
          directory: the bundle.
          bfloat16: whether the encoder multiplies in bfloat16.

        Raises:
          BundleError: it cannot be loaded.
        """
        import tensorflow as tf
        import tensorflow_text  # noqa: F401  registers the tokenizer's ops
        from google.protobuf.message import DecodeError
        from tensorflow.core.protobuf import saved_model_pb2

        try:
            stored = saved_model_pb2.SavedModel.FromString(Path(directory, "saved_model.pb").read_bytes())
            (meta,) = stored.meta_graphs
            if bfloat16:
                encoder_to_bfloat16(meta.graph_def)
            self._session = _start(meta, Path(directory))
        except (OSError, ValueError, KeyError, DecodeError, tf.errors.OpError) as error:
            line = (str(error).splitlines() or [type(error).__name__])[0]
            raise BundleError(f"{directory} cannot be loaded ({line}): push it again.") from error
        self.signature_defs: dict[str, SignatureDef] = {
            name: definition
            for name, definition in sorted(meta.signature_def.items())
            if not name.startswith("__")
        }
        self.specs = {name: signature_specs(d) for name, d in self.signature_defs.items()}
        self._calls = {name: self._callable(d) for name, d in self.signature_defs.items()}

    def run(self, signature: str, inputs: Arrays) -> dict[str, NDArray[Any]]:
        """Runs one signature in the calling thread.

        Args:
          signature: a key of `specs`.
          inputs: every input of it.

        Returns:
          Output name -> array, strings as bytes.

        Raises:
          tf.errors.InvalidArgumentError: the graph refuses the inputs.
        """
        import numpy as np

        feed = [np.asarray(inputs[n], s.dtype.as_numpy_dtype) for n, s in self.specs[signature].items()]
        names = sorted(self.signature_defs[signature].outputs)
        return dict(zip(names, self._calls[signature](*feed), strict=True))

    def variable(self, name: str) -> NDArray[Any]:
        """The value of a variable; strings as bytes.

        Raises:
          BundleError: there is none of that name.
        """
        try:
            value: NDArray[Any] = self._session.run(f"{name}/Read/ReadVariableOp:0")
        except ValueError as error:
            raise BundleError(
                f"the model has no variable {name!r}, expected a bundle's: push again."
            ) from error
        return value

    def _callable(self, definition: "SignatureDef") -> Callable[..., Any]:
        takes = [info.name for _, info in sorted(definition.inputs.items())]
        gives = [info.name for _, info in sorted(definition.outputs.items())]
        made: Callable[..., Any] = self._session.make_callable(gives, feed_list=takes)
        return made


def session_config() -> "tf.compat.v1.ConfigProto":
    """How sessions compute."""
    import tensorflow as tf

    config = tf.compat.v1.ConfigProto(
        intra_op_parallelism_threads=tf.config.threading.get_intra_op_parallelism_threads()
    )
    # The thread that asks computes: handing operations between threads costs more than they take.
    config.experimental.executor_type = "SINGLE_THREADED_EXECUTOR"
    # A second pass of the graph optimiser doubles the time to the first answer and gains nothing after it.
    config.graph_options.rewrite_options.meta_optimizer_iterations = 1
    return config


def _start(meta: "MetaGraphDef", directory: Path) -> "tf.compat.v1.Session":
    """A session with variables and tables filled."""
    import tensorflow as tf

    with tf.Graph().as_default() as graph:
        tf.graph_util.import_graph_def(meta.graph_def, name="")
    session = tf.compat.v1.Session(graph=graph, config=session_config())
    files = {meta.saver_def.filename_tensor_name: str(directory / "variables" / "variables")}
    for asset in meta.asset_file_def:
        files[asset.tensor_info.name] = str(directory / "assets" / asset.filename)
    initialise = meta.signature_def[_INITIALISE].outputs[_INITIALISE].name
    session.run([meta.saver_def.restore_op_name, initialise], files)
    return session
