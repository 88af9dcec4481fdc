"""Made-up queries: a few neighbouring words of an item's text, as someone could have typed them to find it."""

from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from towers.catalogue import Catalogue

MOST = 200_000  # made-up queries of a run; a pair draws one of them
LEAST_WORDS, MOST_WORDS = 2, 4


class MadeUpQueries(NamedTuple):
    """Queries and the items that they were made of.

    Attributes:
      items: int32 [M], rows of the item vocabulary.
      tokens: int32 [M, L], with start and end, 0 = padding.
      lexemes: int32 [M, W], 0 = padding; None without a lexical view.
    """

    items: np.ndarray
    tokens: np.ndarray
    lexemes: np.ndarray | None

    def as_tables(self) -> dict[str, Any]:
        """What training looks up by row."""
        return {name: value for name, value in self._asdict().items() if value is not None}


def make_up_queries(catalogue: Catalogue, count: int, seed: int) -> MadeUpQueries:
    """Draws items evenly from the catalogue, and of each 2 to 4 neighbouring words; shorter texts are taken whole.

    Args:
      catalogue: with words.
      count: queries wanted; at most `MOST` are made.
      seed: the same seed gives the same queries.
    """
    assert catalogue.word_tokens is not None and catalogue.word_numbers is not None
    random = np.random.default_rng((seed, 2))
    items = random.integers(1, len(catalogue.tokens), min(count, MOST)).astype(np.int32)
    numbers = catalogue.word_numbers[items]
    words = numbers.max(axis=1, initial=0)
    wanted = random.integers(LEAST_WORDS, MOST_WORDS + 1, len(items))
    first = 1 + (random.random(len(items)) * np.maximum(words - wanted + 1, 1)).astype(np.int64)

    def window(values: np.ndarray, numbers: np.ndarray) -> np.ndarray:
        keep = (numbers >= first[:, np.newaxis]) & (numbers < (first + wanted)[:, np.newaxis])
        return _to_the_left(np.where(keep, values, 0))

    whole = catalogue.tokens[items]
    last = np.maximum((whole > 0).sum(axis=1) - 1, 0)
    inside = window(catalogue.word_tokens[items], numbers)
    tokens = np.pad(inside, ((0, 0), (1, 1)))
    has_words = inside[:, 0] > 0
    tokens[:, 0] = np.where(has_words, whole[:, 0], 0)
    end = 1 + (inside > 0).sum(axis=1)
    tokens[has_words, end[has_words]] = whole[has_words, last[has_words]]
    lexemes = None
    if catalogue.lexemes is not None and catalogue.lexeme_words is not None:
        lexemes = window(catalogue.lexemes[items], catalogue.lexeme_words[items])
    return MadeUpQueries(items, tokens, lexemes)


def _to_the_left(values: np.ndarray) -> np.ndarray:
    """Moves what is not 0 to the front of its row, in order: [N, L] -> [N, longest], at least one column."""
    order = np.argsort(values == 0, axis=1, kind="stable")
    longest = max(int((values > 0).sum(axis=1).max(initial=0)), 1)
    return np.take_along_axis(values, order, axis=1)[:, :longest]


def blank(tokens: Any, rows: Any) -> Any:
    """Leaves rows without a token, so that they are not encoded: int [R, L], bool [R] -> int [R, L]."""
    return tf.where(rows[:, tf.newaxis], tf.zeros_like(tokens), tokens)
