"""Texts as hashed words and pieces of words: how something is spelt, beside what an encoder understands."""

from typing import Any, NamedTuple

import tensorflow as tf

LETTERS = 4  # characters of a piece


class Lexemes(NamedTuple):
    """What texts are spelt with; both tensors have entries in the same places.

    Attributes:
      buckets: int64 tf.SparseTensor [B, n], 1..buckets - 1: of each word the word itself, then its pieces.
      words: int64 tf.SparseTensor [B, n], the word each belongs to: 1 for the first, 2, ...
    """

    buckets: Any
    words: Any


def lexemes(text: Any, buckets: int, max_words: int) -> Lexemes:
    """Splits texts into words, and words into overlapping pieces of four characters, all hashed.

    "4-in. Pipe" has the words "4", "in", "pipe", and "_pip", "pipe", "ipe_" among its pieces. Case does not count, and what
    is neither letter nor digit separates, but for the point in a number. A misspelt word keeps most pieces.

    Args:
      text: string [B].
      buckets: rows of the table that the hashes go into; row 0 is left out.
      max_words: words that are read.
    """
    words = _split(text, max_words)
    letters = tf.strings.unicode_split(tf.strings.join(["_", words.flat_values, "_"]), "UTF-8")
    pieces = tf.strings.ngrams(letters, LETTERS, separator="")
    whole = tf.RaggedTensor.from_tensor(words.flat_values[:, tf.newaxis])
    spelt = tf.concat([_prefixed("w", whole), _prefixed("p", pieces)], axis=1)
    hashed = tf.strings.to_hash_bucket_fast(spelt.flat_values, buckets - 1) + 1
    return Lexemes(*_by_text(words, spelt.with_values(hashed)))


def word_tokens(text: Any, tokenizer: Any, max_words: int) -> tuple[Any, Any]:
    """Tokenises texts word by word, with the words of `lexemes`: what a query of some of the words would be.

    Args:
      text: string [B].
      tokenizer: strings [n] -> int [n, L] with start and end, 0 = padding.
      max_words: words that are read.

    Returns:
      int64 tf.SparseTensor [B, n], token ids without start and end; and in the same places the word each belongs to, from 1.
    """
    words = _split(text, max_words)
    ids = tf.cast(tokenizer(tf.strings.regex_replace(words.flat_values, "_", ".")), tf.int64)
    kept = tf.RaggedTensor.from_tensor(ids, lengths=tf.math.count_nonzero(ids, axis=1))[:, 1:-1]
    return _by_text(words, kept)


def _split(text: Any, max_words: int) -> Any:
    """string [B] -> ragged [B, words] in small letters; a point within a number is "_"."""
    tidy = tf.strings.lower(text, encoding="utf-8")
    tidy = tf.strings.regex_replace(tidy, r"_", " ")
    tidy = tf.strings.regex_replace(tidy, r"(\p{N})\.(\p{N})", r"\1_\2")
    tidy = tf.strings.regex_replace(tidy, r"[^\p{L}\p{N}_]+", " ")
    return tf.strings.split(tidy)[:, :max_words]


def _by_text(words: Any, parts: Any) -> tuple[Any, Any]:
    """Parts of each word, ragged [all words, n] -> those of each text, and the word each belongs to, both sparse [B, m]."""
    number = tf.repeat(tf.ragged.range(words.row_lengths()).flat_values + 1, parts.row_lengths())
    numbers = parts.with_values(tf.cast(number, tf.int64))
    values, numbers = (words.with_values(one).merge_dims(1, 2).to_sparse() for one in (parts, numbers))
    return values, numbers


def _prefixed(kind: str, values: Any) -> Any:
    """Keeps words apart from equal pieces."""
    return values.with_values(tf.strings.join([kind, values.flat_values]))
