"""Operations on texts that are recorded once, and put into as many graphs as there are."""

import hashlib
import re
import weakref
from collections.abc import Callable, Sequence
from typing import Any

# In bytes: such a constant, a tokenizer's vocabulary, is put into a graph once however often it is used there.
_LARGE = 1 << 16

_ASSERTION = re.compile(r"^\^.*/Assert(/|$)")

# Graph -> digest of a constant -> its name in there; the tensor itself would keep its graph alive.
_constants: weakref.WeakKeyDictionary[Any, dict[str, str]] = weakref.WeakKeyDictionary()


class Recorded:
    """A function of texts as a graph without assertions.

    Transform traces the features about ten times, and tf.Text's and KerasHub's layers take a second to trace. What ragged
    tensors check about parts that they have made themselves is two out of five operations, and the only ones that branch.
    """

    def __init__(self, function: Callable[[Any], Sequence[Any]]) -> None:
        """Traces a function: string [B] -> tensors.

        Raises:
          ValueError: it branches or loops other than to assert something.
        """
        import tensorflow as tf

        with tf.Graph().as_default() as graph:
            text = tf.compat.v1.placeholder(tf.string, [None], name="text")
            outputs = [tf.identity(one, name=f"output_{n}") for n, one in enumerate(function(text))]
            recorded = graph.as_graph_def()
        self._outputs = [one.name for one in outputs]
        self._graph = _without_assertions(recorded, [one.op.name for one in outputs])
        self._large = _take_large_constants(self._graph)

    def __call__(self, text: Any) -> list[Any]:
        """The function's tensors of texts [B], inside a graph."""
        import tensorflow as tf

        graph = tf.compat.v1.get_default_graph()
        there = _constants.setdefault(graph, {})
        inputs = {"text:0": text}
        for name, (digest, value) in self._large.items():
            if digest not in there:
                there[digest] = tf.constant(value).name
            inputs[name] = graph.get_tensor_by_name(there[digest])
        made: list[Any] = tf.graph_util.import_graph_def(self._graph, inputs, self._outputs, name="recorded")
        return made


def recorded_sparse(function: Callable[[Any], Sequence[Any]]) -> Callable[[Any], list[Any]]:
    """The same of a function that returns `tf.SparseTensor`s."""
    import tensorflow as tf

    recorded = Recorded(
        lambda t: [part for s in function(t) for part in (s.indices, s.values, s.dense_shape)]
    )

    def put(text: Any) -> list[Any]:
        parts = recorded(text)
        return [tf.SparseTensor(*parts[start : start + 3]) for start in range(0, len(parts), 3)]

    return put


def _without_assertions(graph: Any, outputs: list[str]) -> Any:
    import tensorflow as tf

    for node in graph.node:
        kept = [name for name in node.input if not _ASSERTION.search(name)]
        del node.input[:]
        node.input.extend(kept)
    needed = tf.compat.v1.graph_util.extract_sub_graph(graph, outputs)
    for node in needed.node:
        if any(value.HasField("func") for value in node.attr.values()):
            raise ValueError(
                f"operation {node.name} ({node.op}) calls a function, expected assertions only to do so"
            )
    needed.ClearField("library")  # of the assertions' branches
    return needed


def _take_large_constants(graph: Any) -> dict[str, tuple[str, Any]]:
    """Puts placeholders where large constants are; returns tensor name -> digest and value of these."""
    import tensorflow as tf

    large = {}
    for node in graph.node:
        if node.op == "Const" and node.ByteSize() > _LARGE:
            value = node.attr["value"].tensor
            digest = hashlib.sha256(value.SerializeToString(deterministic=True)).hexdigest()
            large[f"{node.name}:0"] = digest, tf.make_ndarray(value)
            node.op = "Placeholder"
            del node.attr["value"]
    return large
