"""A bundle's SavedModel in a session of its own, as TensorFlow Serving runs it."""

import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from serving.background import AT_ONCE, Pace
from serving.bfloat16 import encoder_to_bfloat16
from serving.inputs import signature_specs
from serving.manifest import BundleError

if TYPE_CHECKING:
    import tensorflow as tf
    from tensorflow.core.protobuf.meta_graph_pb2 import MetaGraphDef, SignatureDef

Arrays = Mapping[str, NDArray[Any]]

# Where a SavedModel's signatures hold what is run once its variables are restored.
_INITIALISE = "__saved_model_init_op"

# Functions and nodes of a graph that are taken in at once.
_FUNCTIONS = 2
_NODES = 4


class ModelSession:
    """Runs signatures; safe to share between threads. What it holds in memory is given back with the object.

    A session takes its operations from the file as they are. `tf.saved_model.load` makes objects of them, which takes
    the interpreter lock for seconds, leaves cycles to collect, and makes calls that are 10 to 20 % dearer.

    Attributes:
      signature_defs: signature -> `SignatureDef`.
      specs: signature -> input name -> `tf.TensorSpec`.
    """

    def __init__(
        self, directory: str | os.PathLike[str], pace: Pace = AT_ONCE, bfloat16: bool = False
    ) -> None:
        """Loads it.

        Args:
          directory: the bundle.
          pace: how far loading gives way to others.
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
                encoder_to_bfloat16(meta.graph_def, pace)
            self._session = _start(meta, Path(directory), pace)
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


def _start(meta: "MetaGraphDef", directory: Path, pace: Pace) -> "tf.compat.v1.Session":
    """A session with variables and tables filled."""
    import tensorflow as tf

    graph = tf.Graph()
    with graph.as_default():
        for part in _parts(meta.graph_def):
            with pace.with_lock():
                tf.graph_util.import_graph_def(part, _from_before(part, graph), name="")
    session = tf.compat.v1.Session(graph=graph, config=_config())
    files = {meta.saver_def.filename_tensor_name: str(directory / "variables" / "variables")}
    for asset in meta.asset_file_def:
        files[asset.tensor_info.name] = str(directory / "assets" / asset.filename)
    initialise = meta.signature_def[_INITIALISE].outputs[_INITIALISE].name
    pace.without_lock(lambda: session.run([meta.saver_def.restore_op_name, initialise], files))
    return session


def _parts(whole: "tf.compat.v1.GraphDef") -> Iterator[Any]:
    """A `GraphDef` as several, functions first: TensorFlow holds the interpreter lock while it takes one in."""
    import tensorflow as tf

    functions = list(whole.library.function)
    for start in range(0, len(functions), _FUNCTIONS):
        part = tf.compat.v1.GraphDef(versions=whole.versions)
        part.library.function.extend(functions[start : start + _FUNCTIONS])
        yield part
    together: set[str] = set()  # what waits for an operation is taken in with all that comes before it
    for node in reversed(whole.node):  # a node stands after those that it takes from
        if node.name in together or any(name.startswith("^") for name in node.input):
            together.update([node.name, *map(_producer, node.input)])
    yield tf.compat.v1.GraphDef(
        versions=whole.versions, node=[node for node in whole.node if node.name in together]
    )
    rest = [node for node in whole.node if node.name not in together]
    for start in range(0, len(rest), _NODES):
        yield tf.compat.v1.GraphDef(versions=whole.versions, node=rest[start : start + _NODES])


def _from_before(part: "tf.compat.v1.GraphDef", graph: "tf.Graph") -> dict[str, "tf.Tensor"]:
    """The tensors that a part takes from those before it, by the names it has for them."""
    own = {node.name for node in part.node}
    taken = {name for node in part.node for name in node.input if _producer(name) not in own}
    return {name: graph.get_tensor_by_name(name if ":" in name else f"{name}:0") for name in taken}


def _producer(name: str) -> str:
    """The node that an input comes from: it is "node", "node:2", or "^node" where it is only waited for."""
    return name.removeprefix("^").split(":")[0]


def _config() -> "tf.compat.v1.ConfigProto":
    import tensorflow as tf

    config = tf.compat.v1.ConfigProto(
        intra_op_parallelism_threads=tf.config.threading.get_intra_op_parallelism_threads()
    )
    # The thread that asks computes: handing operations between threads costs more than they take.
    config.experimental.executor_type = "SINGLE_THREADED_EXECUTOR"
    # A second pass of the graph optimiser doubles the time to the first answer and gains nothing after it.
    config.graph_options.rewrite_options.meta_optimizer_iterations = 1
    return config
