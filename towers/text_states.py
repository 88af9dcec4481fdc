"""What an encoder's frozen layers gave of each text, kept in a file: a training step runs only the layers above them."""

import logging
import shutil
import tempfile
import time
from typing import Any

import keras_hub
import numpy as np
import tensorflow as tf

from towers.packed import frozen_stages, pack, run_stages

logger = logging.getLogger("tandem.train")

_BATCH_TOKENS = 8192


def states_fit(encoder: Any, tokens: np.ndarray) -> bool:
    """Whether the encoder is a BERT, and token vectors of all texts take no more than half of the free temporary space."""
    if not isinstance(encoder.backbone, keras_hub.models.BertBackbone):
        return False
    wanted = 4 * encoder.dimension * int((np.unique(tokens, axis=0) > 0).sum())
    free = shutil.disk_usage(tempfile.gettempdir()).free
    if 2 * wanted <= free:
        return True
    logger.warning(
        "frozen layers run in every step: keeping what they give takes %.1f GB, and %.1f GB are free in %s",
        wanted / 1e9,
        free / 1e9,
        tempfile.gettempdir(),
    )
    return False


class TextStates:
    """Encodes texts that are known beforehand, from the token vectors below the lowest layer that is trained.

    They lie in a temporary file that is mapped and not read into memory, float32, 4 H bytes a token. The vectors are
    those that `TextEncoder` would make; each distinct text is encoded once a call.

    Args:
      encoder: a `TextEncoder` of a `BertBackbone`, as it is trained; its frozen layers must have their final weights.
      tokens: int [N, L], 0 = padding, after the tokens.
      what: kind of texts, for the log.
    """

    def __init__(self, encoder: Any, tokens: np.ndarray, what: str) -> None:
        distinct, index = np.unique(tokens, axis=0, return_inverse=True)
        lengths = (distinct > 0).sum(axis=1)
        self._encoder = encoder
        self._is_empty = tf.constant(lengths == 0)
        lengths = np.maximum(
            lengths, 1
        )  # a text without a token has one vector, 0, so that every text has some
        self._text = tf.constant(index.reshape(-1), tf.int32)
        self._lengths = tf.constant(lengths, tf.int32)
        self._offsets = np.concatenate([[0], np.cumsum(lengths)])
        self._file = tempfile.TemporaryFile()  # noqa: SIM115
        shape = (int(self._offsets[-1]), encoder.dimension)
        self._states = np.memmap(self._file, np.float32, "w+", shape=shape)
        self._fill(distinct, what)

    def __call__(self, rows: Any, training: bool = False) -> Any:
        """Encodes texts.

        Args:
          rows: int32 [B], rows of the tokens.
          training: whether dropout is on, in the layers that are trained.

        Returns:
          float32 [B, dimension], of length 1, or 0 where the text has no token.
        """
        texts, index = tf.unique(tf.gather(self._text, rows))
        there = tf.sequence_mask(tf.gather(self._lengths, texts))
        states = tf.numpy_function(self._read, [texts], tf.float32)
        states = tf.ensure_shape(states, [None, self._encoder.dimension])
        vectors = self._encoder.encode_states(states, there, tf.gather(self._is_empty, texts), training)
        return tf.gather(vectors, index)

    def _read(self, texts: np.ndarray) -> np.ndarray:
        """Token vectors of texts, one after the other."""
        return self._states[self._places(texts)]

    def _places(self, texts: np.ndarray) -> np.ndarray:
        lengths = self._offsets[texts + 1] - self._offsets[texts]
        ends = np.cumsum(lengths)
        return np.arange(ends[-1] if len(ends) else 0) + np.repeat(
            self._offsets[texts] - ends + lengths, lengths
        )

    def _fill(self, tokens: np.ndarray, what: str) -> None:
        backbone = self._encoder.backbone

        @tf.function(autograph=False, input_signature=[tf.TensorSpec([None, None], tf.int32)])
        def below(block: Any) -> Any:
            packed = pack(block > 0)
            block = tf.gather_nd(block, packed.place)
            return tf.cast(run_stages(backbone, block, packed, last=frozen_stages(backbone)), tf.float32)

        lengths = (tokens > 0).sum(axis=1)
        order = np.argsort(lengths, kind="stable")
        order = order[lengths[order] > 0]
        done, seen = 0, time.perf_counter()
        while done < len(order):
            texts = order[done : done + max(1, _BATCH_TOKENS // int(lengths[order[done]]))]
            block = tokens[texts, : lengths[texts].max()].astype(np.int32)
            self._states[self._places(texts)] = below(block).numpy()
            done += len(texts)
            if done == len(order) or time.perf_counter() - seen > 5:
                seen = time.perf_counter()
                logger.info("frozen layers have read %d of %d %s", done, len(order), what)
