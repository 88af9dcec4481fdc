"""Loads a version and computes for `serving.engine_process`.

python -m serving.engine_worker DESCRIPTORS ASIDE PRECISION DIRECTORY
"""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from serving.background import aside
from serving.bundle import verify_bundle
from serving.messages import Answer, answer_requests
from transform.runtime import prepare_environment

if TYPE_CHECKING:
    from serving.engine import LocalEngine


def main(words: Sequence[str]) -> None:
    """Loads and answers; ends the process when the other side has gone.

    Args:
      words: file descriptors of connected sockets, 1 where loading stands aside, the encoder's precision, and the bundle.
    """
    is_aside, precision, directory = words[1] == "1", words[2], Path(words[3])
    answer_requests(
        words[0], lambda: _ready(directory, aside if is_aside else _here, precision == "bfloat16")
    )


def _ready(directory: Path, loading: Callable[[Callable[[], Any]], Any], bfloat16: bool) -> Answer:
    """What answers requests."""
    manifest = loading(lambda: verify_bundle(directory))
    loading(_import)
    _start_threads()
    return _answering(loading(lambda: _load(directory, manifest, bfloat16)))


def _here(work: Callable[[], Any]) -> Any:
    return work()


def _import() -> None:
    """What takes long and needs no core of its own."""
    prepare_environment()
    import tensorflow as tf
    import tensorflow_text  # noqa: F401  registers the tokenizer's ops

    import serving.engine  # noqa: F401

    # The cores are kept busy by batches beside each other.
    tf.config.threading.set_intra_op_parallelism_threads(1)


def _start_threads() -> None:
    """Has TensorFlow start its threads, which are scheduled as the thread that starts them."""
    import tensorflow as tf

    from serving.model_session import session_config

    tf.compat.v1.Session(graph=tf.Graph(), config=session_config()).close()


def _load(directory: Path, manifest: Any, bfloat16: bool) -> "LocalEngine":
    from serving.engine import LocalEngine

    return LocalEngine(directory, manifest, bfloat16)


def _answering(engine: "LocalEngine") -> Answer:
    indexes = {"index": engine.index, "related_index": engine.related_index}

    def search(name: str, queries: Any, k: int | None) -> Any:
        return indexes[name].search(queries, k)

    def run_aside(signature: str, inputs: Any) -> Any:
        return aside(lambda: engine.run(signature, inputs))

    calls: dict[str, Callable[..., Any]] = {
        "run": engine.run,
        "run_aside": run_aside,
        "retrieve": engine.retrieve,
        "variable": engine.variable,
        "search": search,
    }
    sizes = [(index.size, index.dimension, index.k, index.tuning) for index in indexes.values()]

    def answer(request: tuple[Any, ...]) -> Any:
        if not request:
            return engine.manifest, engine.signature_defs, sizes
        return calls[request[0]](*request[1:])

    return answer


if __name__ == "__main__":
    main(sys.argv[1:])
