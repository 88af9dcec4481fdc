"""Strings to token ids, with the tokenizer of an encoder preset."""

import os
from functools import cache
from typing import Any

from transform.errors import TandemError


class Tokenizer:
    """A preset's tokenizer and packer as recorded operations.

    Transform traces the features about ten times, and KerasHub's layers take a second to trace; operations that were
    recorded once are put into each graph in no time, and into a SavedModel as they are.

    Args:
      recorded: a graph with placeholder `text`, string [B], and output `ids`, int32 [B, length].
      length: ids a text gets at most, start and end included.
    """

    def __init__(self, recorded: Any, length: int) -> None:
        self._graph = (
            recorded  # kept: TensorFlow forgets the functions its branches call when a graph is collected
        )
        self._recorded = recorded.as_graph_def()
        self._length = length

    def __call__(self, text: Any) -> Any:
        """Strings [B] to int32 ids [B, length], 0 = padding, inside a graph; "" is start and end alone."""
        import tensorflow as tf

        (ids,) = tf.graph_util.import_graph_def(self._recorded, {"text:0": text}, ["ids:0"], name="tokenizer")
        return tf.ensure_shape(ids, [None, self._length])


@cache
def load_tokenizer(preset: str, length: int) -> Tokenizer:
    """Reads the tokenizer of a preset directory.

    Raises:
      TandemError: there is none, it cannot be loaded, or it does not pad with 0 as BERT-like encoders do.
    """
    if not os.path.isfile(os.path.join(preset, "tokenizer.json")):
        raise TandemError(
            f"{preset!r} holds no tokenizer.json; expected a KerasHub preset directory: make one with"
            " 'tandem encoder import SOURCE OUT' and set encoder.preset."
        )
    import keras_hub
    import tensorflow as tf

    with tf.Graph().as_default() as graph:
        try:
            tokenizer = keras_hub.tokenizers.Tokenizer.from_preset(preset)
        except (OSError, ValueError, KeyError) as error:
            detail = str(error).strip().splitlines()[0]
            raise TandemError(
                f"{preset!r}: KerasHub could not load the tokenizer ({detail}); import it again."
            ) from error
        if tokenizer.pad_token_id != 0:
            raise TandemError(
                f"{preset!r}: the tokenizer pads with {tokenizer.pad_token_id}, expected 0:"
                " import a BERT-like encoder."
            )
        packer = keras_hub.layers.StartEndPacker(
            sequence_length=length,
            start_value=tokenizer.cls_token_id,
            end_value=tokenizer.sep_token_id,
            pad_value=0,
        )
        text = tf.compat.v1.placeholder(tf.string, [None], name="text")
        tf.identity(packer(tokenizer(text)), name="ids")
    return Tokenizer(graph, length)
