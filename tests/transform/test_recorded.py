"""Recorded operations do what the function does, without its assertions and branches, and hold large constants once."""

import gc
import weakref

import numpy as np
import pytest
import tensorflow as tf

from tests.tiny_encoder import write_tiny_preset
from transform.lexemes import lexemes, word_tokens
from transform.recorded import Recorded, recorded_sparse
from transform.text import load_tokenizer

TEXTS = ["4-in. Pipe, 1.5 ft", "", "red red mug", "a"]
STRINGS = tf.TensorSpec([None], tf.string)


def traced(function, inputs=1):
    return tf.function(function, input_signature=[STRINGS] * inputs, autograph=False)


def operations(function):
    return [node.op for node in function.get_concrete_function().graph.as_graph_def().node]


def test_what_is_recorded_is_what_the_function_makes():
    directly = lexemes(tf.constant(TEXTS), 500, 3)
    plain = traced(lambda text: list(lexemes(text, 500, 3)))
    recorded = traced(recorded_sparse(lambda text: lexemes(text, 500, 3)))
    assert {"StatelessIf", "If"} & set(operations(plain))  # the function does branch
    assert not {"StatelessIf", "If", "Assert"} & set(operations(recorded))
    for one, other in zip(directly, recorded(tf.constant(TEXTS)), strict=True):
        for part in ("indices", "values", "dense_shape"):
            assert getattr(one, part).numpy().tolist() == getattr(other, part).numpy().tolist()


def test_a_vocabulary_is_in_a_graph_once(tmp_path):
    preset = write_tiny_preset(tmp_path / "large", [f"word{number}" for number in range(8000)])
    tokenizers = [load_tokenizer(preset, length) for length in (4, 8)]
    words = recorded_sparse(lambda text: word_tokens(text, tokenizers[1], 3))
    every = traced(lambda one, two: (tokenizers[0](one), tokenizers[1](two), words(two)[0].values), 2)
    graph = every.get_concrete_function().graph.as_graph_def()
    assert not {node.op for node in graph.node} & {"If", "StatelessIf", "Assert"}
    assert sum(node.op == "Const" and node.ByteSize() > 1 << 16 for node in graph.node) == 1
    one, two, parts = every(tf.constant(["word7 word7999", ""]), tf.constant(["word7999", "word7"]))
    assert np.count_nonzero(one, axis=1).tolist() == [4, 2]
    assert parts.numpy().tolist() == [one[0, 2], one[0, 1]] == [two[0, 1], two[1, 1]]


def test_a_function_with_branches_of_its_own_is_refused():
    def branching(text):
        return [tf.cond(tf.size(text) > 1, lambda: tf.strings.upper(text), lambda: text)]

    with (
        tf.Graph().as_default(),
        pytest.raises(ValueError, match="calls a function, expected assertions only"),
    ):
        Recorded(branching)


def test_a_graph_is_given_back_and_another_gets_its_own_constants():
    large = tf.range(1 << 16)
    function = Recorded(lambda text: [tf.strings.length(text) + tf.constant(large.numpy())[-1]])
    graphs = []
    for _ in range(2):
        made = traced(function)
        assert made(tf.constant(["abc"]))[0].numpy().tolist() == [3 + (1 << 16) - 1]
        graphs.append(weakref.ref(made.get_concrete_function().graph))
        del made
    gc.collect()
    assert [graph() for graph in graphs] == [None, None]
