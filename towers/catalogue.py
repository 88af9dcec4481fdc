"""The catalogue as dense tables: what the item tower looks up by item row during training."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np


class Catalogue(NamedTuple):
    """Features of every item, by row of the item vocabulary; row 0 stands for an unknown item.

    Attributes:
      tokens: int32 [N + 1, L], 0 = padding.
      features: name -> int32 [N + 1, n], 0 = none.
      text: float32 [N + 1, E], encoded texts, when the encoder is frozen; else None.
      word_tokens: int32 [N + 1, n], 0 = padding: tokens word by word, and
      word_numbers: int32 [N + 1, n], which word each belongs to; None where no query is made up.
      lexemes: int32 [N + 1, W], 0 = padding, and
      lexeme_words: int32 [N + 1, W], see `transform.lexemes`; None without a lexical view.
    """

    tokens: np.ndarray
    features: dict[str, np.ndarray]
    text: np.ndarray | None = None
    word_tokens: np.ndarray | None = None
    word_numbers: np.ndarray | None = None
    lexemes: np.ndarray | None = None
    lexeme_words: np.ndarray | None = None

    @property
    def items(self) -> np.ndarray:
        """int32 [N], the rows of the items, without row 0."""
        return np.arange(1, len(self.tokens), dtype=np.int32)


def encode_texts(
    encoder: Any,
    tokens: np.ndarray,
    batch_tokens: int = 8192,
    progress: Any = None,
    known: Callable[[np.ndarray], np.ndarray | None] = lambda _: None,
) -> np.ndarray:
    """Encodes each distinct text once, short ones together, so that little padding is computed.

    Args:
      encoder: a `TextEncoder`.
      tokens: int [N, L], 0 = padding.
      batch_tokens: tokens a call; larger batches are no faster on a CPU, and take more memory.
      progress: called with (texts done, texts in all) now and then.
      known: int [L] -> float32 [E] of a text that need not be encoded, or None.

    Returns:
      float32 [N, E].
    """
    import tensorflow as tf

    distinct, index = np.unique(tokens, axis=0, return_inverse=True)
    lengths = (distinct > 0).sum(axis=1)
    vectors = np.zeros((len(distinct), encoder.dimension), np.float32)
    new = []
    for row in np.flatnonzero(lengths):  # rows without a token stay 0
        vector = known(distinct[row])
        if vector is None:
            new.append(row)
        else:
            vectors[row] = vector
    order = np.array(sorted(new, key=lengths.__getitem__), np.int64)
    encode = tf.function(encoder, input_signature=[tf.TensorSpec([None, None], tf.int32)], autograph=False)
    start = 0
    while start < len(order):
        size = max(1, batch_tokens // int(lengths[order[start]]))
        rows = order[start : start + size]
        vectors[rows] = encode(distinct[rows, : lengths[rows].max()].astype(np.int32)).numpy()
        start += len(rows)
        if progress is not None:
            progress(start, len(order))
    return vectors[index.reshape(-1)]
