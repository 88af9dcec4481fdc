"""Beam workers of Transform know tf.Text's operations, in whichever process and on whichever runner they start."""

import copyreg
from typing import Any


def register_in_workers() -> None:
    """Has TensorFlow Transform's graphs pickled so that whoever unpickles one registers tf.Text's operations first.

    TensorFlow Transform 1.16 imports tensorflow_text only after it has loaded a graph, which is too late in a process
    that has not traced the features itself. Beam's `--beam_plugin` would do as well, but FnApiRunner does not hand options
    to its worker processes.
    """
    from tensorflow_transform.beam import impl

    copyreg.pickle(impl._RunMetaGraphDoFn, _reduce)


def _reduce(graph: Any) -> tuple[Any, ...]:
    return _restore, (type(graph), vars(graph))


def _restore(kind: Any, state: dict[str, Any]) -> Any:
    import tensorflow_text  # noqa: F401

    graph = kind.__new__(kind)
    vars(graph).update(state)
    return graph
