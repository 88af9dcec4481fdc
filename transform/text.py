"""Strings to token ids, with the tokenizer of an encoder preset."""

import os
from typing import Any

from transform.errors import TandemError


class Tokenizer:
    """A preset's tokenizer and packer; traces inside TensorFlow Transform and inside a SavedModel.

    Args:
      tokenizer: a KerasHub tokenizer.
      length: ids a text gets at most, start and end included.
    """

    def __init__(self, tokenizer: Any, length: int) -> None:
        import keras_hub

        self._tokenizer = tokenizer
        self._packer = keras_hub.layers.StartEndPacker(
            sequence_length=length,
            start_value=tokenizer.cls_token_id,
            end_value=tokenizer.sep_token_id,
            pad_value=tokenizer.pad_token_id,
        )

    def __call__(self, text: Any) -> Any:
        """Strings [B] to int32 ids [B, length], 0 = padding; an empty string is start and end alone."""
        return self._packer(self._tokenizer(text))


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

    try:
        tokenizer = keras_hub.tokenizers.Tokenizer.from_preset(preset)
    except (OSError, ValueError, KeyError) as error:
        detail = str(error).strip().splitlines()[0]
        raise TandemError(
            f"{preset!r}: KerasHub could not load the tokenizer ({detail}); import it again."
        ) from error
    if tokenizer.pad_token_id != 0:
        raise TandemError(
            f"{preset!r}: the tokenizer pads with {tokenizer.pad_token_id}, expected 0: import a BERT-like encoder."
        )
    return Tokenizer(tokenizer, length)
