"""Strings to token ids, with the tokenizer of an encoder preset."""

import os
from functools import cache
from typing import Any

from transform.errors import TandemError
from transform.recorded import Recorded


class Tokenizer:
    """A preset's tokenizer and packer.

    Args:
      recorded: string [B] -> int32 [B, length].
      length: ids a text gets at most, start and end included.
    """

    def __init__(self, recorded: Recorded, length: int) -> None:
        self._recorded = recorded
        self._length = length

    def __call__(self, text: Any) -> Any:
        """Strings [B] to int32 ids [B, length], 0 = padding, inside a graph; "" is start and end alone."""
        import tensorflow as tf

        (ids,) = self._recorded(text)
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
    return Tokenizer(Recorded(lambda text: [_tokenise(text, preset, length)]), length)


def _tokenise(text: Any, preset: str, length: int) -> Any:
    import keras_hub

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
    return packer(tokenizer(text))
