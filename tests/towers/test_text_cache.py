"""No text is encoded twice: vectors are found again by their tokens, and are the very ones that were saved."""

import numpy as np
import pytest

from towers.catalogue import Catalogue, encode_texts
from towers.text_cache import has_texts, known_texts, load_vectors, save_texts, text_key
from transform.errors import TandemError


class CountingEncoder:
    """Sums of tokens; counts the rows it is asked for."""

    dimension = 2

    def __init__(self):
        self.rows = []

    def __call__(self, tokens):
        import tensorflow as tf

        tf.py_function(lambda t: self.rows.append(t.numpy()), [tokens], [])
        total = tf.cast(tf.reduce_sum(tokens, axis=1), tf.float32)
        return tf.stack([total, 2 * total], axis=1)

    def encoded(self):
        return sum(len(rows) for rows in self.rows)


TOKENS = np.array([[0, 0, 0], [5, 6, 0], [7, 0, 0], [5, 6, 0], [1, 2, 3]], np.int32)


def test_only_texts_that_are_new_are_encoded(tmp_path):
    first = CountingEncoder()
    text = encode_texts(first, TOKENS)
    assert first.encoded() == 3  # three distinct texts, and one row without any
    save_texts(tmp_path, Catalogue(TOKENS, {}, text))
    assert has_texts(tmp_path)
    np.testing.assert_array_equal(load_vectors(tmp_path), text)

    known = known_texts(tmp_path)
    wider = np.pad(TOKENS[[0, 4, 2, 1]], ((0, 0), (0, 2)))  # another order, another padding, one changed
    wider[1, 3] = 9
    second = CountingEncoder()
    again = encode_texts(second, wider, known=lambda tokens: known.get(text_key(tokens)))
    assert second.encoded() == 1
    np.testing.assert_array_equal(again, [[0, 0], [15, 30], text[2], text[1]])


def test_nothing_is_saved_of_an_encoder_that_is_trained(tmp_path):
    save_texts(tmp_path, Catalogue(TOKENS, {}, None))
    assert not has_texts(tmp_path) and known_texts(tmp_path) == {}


def test_a_damaged_file_is_named(tmp_path):
    save_texts(tmp_path, Catalogue(TOKENS, {}, encode_texts(CountingEncoder(), TOKENS)))
    (tmp_path / "text_vectors.npy").write_bytes(b"broken")
    with pytest.raises(TandemError, match="text_vectors.npy cannot be read"):
        known_texts(tmp_path)
