"""Words and their pieces: what is one, what separates, and that equal spelling has equal buckets."""

import re

import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from transform.lexemes import LETTERS, lexemes, word_tokens

BUCKETS = 1 << 20


def rows(texts, max_words=8):
    """For each text, (bucket, word) pairs in order."""
    made = lexemes(tf.constant(texts, tf.string), BUCKETS, max_words)
    found = [[] for _ in texts]
    for (row, _), bucket, word in zip(
        made.buckets.indices.numpy(), made.buckets.values.numpy(), made.words.values.numpy(), strict=True
    ):
        found[row].append((int(bucket), int(word)))
    assert (made.words.indices.numpy() == made.buckets.indices.numpy()).all()
    return found


def bucket(kind, letters):
    return int(tf.strings.to_hash_bucket_fast([kind + letters], BUCKETS - 1)[0]) + 1


def by_hand(text, max_words=8):
    """The same, worked out letter by letter."""
    text = re.sub(r"([0-9])\.([0-9])", r"\1~\2", text.lower().replace("_", " ").replace("~", " "))
    words = (
        "".join(c if c.isascii() and c.isalnum() or c == "~" else " " for c in text).replace("~", "_").split()
    )
    expected = []
    for number, word in enumerate(words[:max_words], start=1):
        padded = f"_{word}_"
        pieces = [padded[i : i + LETTERS] for i in range(len(padded) - LETTERS + 1)]
        expected += [(bucket("w", word), number), *((bucket("p", piece), number) for piece in pieces)]
    return expected


def test_words_and_pieces_by_hand():
    (found,) = rows(["4-in. PIPE"])
    pieces = ["_in_", "_pip", "pipe", "ipe_"]
    words = [("w", "4", 1), ("w", "in", 2), ("p", "_in_", 2), ("w", "pipe", 3)]
    assert found == [(bucket(*w[:2]), w[2]) for w in words] + [(bucket("p", p), 3) for p in pieces[1:]]


def test_a_point_in_a_number_is_part_of_it_and_an_underscore_is_none():
    number, words = rows(["2.5", "2 5 . 2_5"])
    assert number[0] == (bucket("w", "2_5"), 1)
    assert [pair for pair in words if pair[0] in {bucket("w", "2"), bucket("w", "5")}] == [
        (bucket("w", "2"), 1),
        (bucket("w", "5"), 2),
        (bucket("w", "2"), 3),
        (bucket("w", "5"), 4),
    ]


def test_a_misspelt_word_keeps_most_pieces_and_another_word_none():
    right, wrong, other = ({b for b, _ in row} for row in rows(["screwdriver", "screwdrivr", "hammock"]))
    assert len(right & wrong) >= 6
    assert not right & other


def test_no_text_has_no_lexeme_and_long_ones_are_cut():
    empty, signs, long, letters = rows(["", "--- !", "a b c d", "Über Äpfel"], max_words=2)
    assert empty == signs == []
    assert [word for _, word in long] == [1, 2]
    assert letters[0] == (bucket("w", "über"), 1)


def test_nothing_at_all():
    assert rows([""]) == [[]]
    assert lexemes(tf.constant([], tf.string), BUCKETS, 4).buckets.dense_shape.numpy()[0] == 0


@settings(max_examples=60, deadline=None)
@given(st.lists(st.text("abcXYZ019 .-_/", max_size=24), min_size=1, max_size=4))
def test_any_text_is_split_as_by_hand(texts):
    assert rows(texts) == [by_hand(text) for text in texts]


@settings(max_examples=30, deadline=None)
@given(st.lists(st.text(max_size=20), min_size=1, max_size=3))
def test_any_characters_give_buckets_of_the_table(texts):
    for row in rows(texts):
        assert all(1 <= b < BUCKETS and 1 <= word <= 8 for b, word in row)


def test_tokens_of_a_word_are_those_it_has_on_its_own():
    def letters(words):  # a tokenizer of letters: start 1, end 2
        codes = tf.strings.unicode_decode(words, "UTF-8") + 10
        ids = tf.concat(
            [tf.ones([codes.nrows(), 1], tf.int32), codes, 2 * tf.ones([codes.nrows(), 1], tf.int32)], 1
        )
        return ids.to_tensor()

    texts = ["4-in. Pipe", "", "1.5 ft", "a b c d"]
    tokens, numbers = word_tokens(tf.constant(texts), letters, 3)
    assert (tokens.indices.numpy() == numbers.indices.numpy()).all()
    words = [{} for _ in texts]
    for (row, _), token, number in zip(
        tokens.indices.numpy(), tokens.values.numpy(), numbers.values.numpy(), strict=True
    ):
        words[row][int(number)] = words[row].get(int(number), "") + chr(token - 10)
    assert words == [
        {1: "4", 2: "in", 3: "pipe"},
        {},
        {1: "1.5", 2: "ft"},
        {1: "a", 2: "b", 3: "c"},
    ]
