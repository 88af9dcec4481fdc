"""What a frozen encoder made of the catalogue's texts, kept with the training state: no text is encoded twice."""

from pathlib import Path

import numpy as np

from towers.catalogue import Catalogue
from transform.errors import TandemError

_TOKENS, _VECTORS = "text_tokens.npy", "text_vectors.npy"


def save_texts(directory: str | Path, catalogue: Catalogue) -> None:
    """Writes tokens [N + 1, L] and vectors [N + 1, E] by row of the item vocabulary; nothing if none were encoded."""
    if catalogue.text is not None:
        np.save(Path(directory, _TOKENS), catalogue.tokens)
        np.save(Path(directory, _VECTORS), catalogue.text)


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
