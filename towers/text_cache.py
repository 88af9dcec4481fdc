"""What a frozen encoder made of the catalogue's texts, kept with the training state: no text is encoded twice."""

import logging
import time
from pathlib import Path
from typing import Any

import numpy as np

from towers.catalogue import Catalogue, encode_texts
from transform.errors import TandemError

logger = logging.getLogger("tandem.train")

_TOKENS, _VECTORS = "text_tokens.npy", "text_vectors.npy"


def save_texts(directory: str | Path, catalogue: Catalogue) -> None:
    """Writes tokens [N + 1, L] and vectors [N + 1, E] by row of the item vocabulary; nothing if none were encoded.

    Vectors last and each file whole: where they are, both are.
    """
    if catalogue.text is None:
        return
    Path(directory).mkdir(parents=True, exist_ok=True)
    for name, values in ((_TOKENS, catalogue.tokens), (_VECTORS, catalogue.text)):
        half = Path(directory, f"{name}.half")
        with half.open("wb") as file:
            np.save(file, values)
        half.replace(Path(directory, name))


def has_texts(directory: str | Path) -> bool:
    """Whether a training state holds encoded texts."""
    return Path(directory, _VECTORS).is_file()


def load_vectors(directory: str | Path) -> np.ndarray:
    """float32 [N + 1, E] by row of the state's item vocabulary, mapped from the file and not read into memory.

    Raises:
      TandemError: the file is damaged.
    """
    return _load(directory, _VECTORS)


def known_texts(directory: str | Path) -> dict[bytes, np.ndarray]:
    """Tokens without padding, as bytes -> float32 [E]; empty where the state holds no texts.

    Raises:
      TandemError: a file is damaged.
    """
    if not has_texts(directory):
        return {}
    tokens, vectors = _load(directory, _TOKENS), _load(directory, _VECTORS)
    return {text_key(row): vector for row, vector in zip(np.asarray(tokens), vectors, strict=True)}


def encode_new_texts(
    encoder: Any, tokens: np.ndarray, what: str, state_dir: str | None = None
) -> tuple[np.ndarray, int]:
    """Encodes the texts that a training state does not hold, and says how far it is.

    Args:
      encoder: a `TextEncoder` that training does not change.
      tokens: int [N, L], 0 = padding.
      what: kind of texts, for the log.
      state_dir: a training state, or None.

    Returns:
      float32 [N, E], and how many distinct texts were encoded.

    Raises:
      TandemError: the state is damaged.
    """
    known = known_texts(state_dir) if state_dir else {}
    seen, encoded = 0.0, 0

    def progress(done: int, total: int) -> None:
        nonlocal seen, encoded
        encoded = done
        if done == total or time.perf_counter() - seen > 5:
            seen = time.perf_counter()
            logger.info("encoded %d of %d new %s", done, total, what)

    vectors = encode_texts(encoder, tokens, progress=progress, known=lambda row: known.get(text_key(row)))
    return vectors, encoded


def text_key(tokens: np.ndarray) -> bytes:
    """What identifies a text: int [L], 0 = padding -> its tokens as bytes."""
    return tokens[tokens > 0].astype(np.int32).tobytes()


def _load(directory: str | Path, name: str) -> np.ndarray:
    try:
        return np.load(Path(directory, name), mmap_mode="r")
    except (OSError, ValueError, EOFError) as error:
        raise TandemError(
            f"{Path(directory, name)} cannot be read ({error}), expected the texts that a Trainer encoded;"
            " restore the push it belongs to, or train from scratch."
        ) from None
