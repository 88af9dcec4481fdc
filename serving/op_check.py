"""Which operations a SavedModel needs, and whether the stock TensorFlow Serving binary has them."""

import functools
import glob
import os
from collections.abc import Iterator

from serving.manifest import BundleError


def check_ops(saved_model_dir: str) -> None:
    """Walks the graph and every function in it.

    Raises:
      BundleError: an operation is neither in TensorFlow core nor in tf.Text; lists them all.
    """
    foreign = sorted(set(_ops(saved_model_dir)) - _core() - _text())
    if foreign:
        raise BundleError(
            f"{saved_model_dir} needs the operations {', '.join(foreign)}, expected only those of TensorFlow"
            " and tf.Text: no other TensorFlow Serving could load it."
        )


def _ops(saved_model_dir: str) -> Iterator[str]:
    from tensorflow.core.protobuf import saved_model_pb2

    model = saved_model_pb2.SavedModel()
    with open(os.path.join(saved_model_dir, "saved_model.pb"), "rb") as file:
        model.ParseFromString(file.read())
    for graph in model.meta_graphs:
        functions = {function.signature.name for function in graph.graph_def.library.function}
        for node in graph.graph_def.node:
            yield node.op
        for function in graph.graph_def.library.function:
            for node in function.node_def:
                if node.op not in functions:
                    yield node.op


@functools.cache
def _core() -> frozenset[str]:
    """`tf.raw_ops` is fixed when TensorFlow is built; the registry grows with every library loaded."""
    import tensorflow as tf

    return frozenset(dir(tf.raw_ops))


@functools.cache
def _text() -> frozenset[str]:
    import tensorflow_text
    from tensorflow.python.framework import load_library, op_def_registry

    root = os.path.dirname(tensorflow_text.__file__)
    names: set[str] = set()
    for library in glob.glob(os.path.join(root, "python", "**", "_*.so"), recursive=True):
        wrappers = dir(load_library.load_op_library(library))
        names.update(wrappers, (name.replace("_", ">", 1) for name in wrappers))  # TFText_X wraps TFText>X
    return frozenset(name for name in names if op_def_registry.get(name) is not None)
