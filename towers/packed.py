"""A BERT over the tokens that are there: no padding is multiplied, normalised or dropped out."""

from typing import Any, NamedTuple

import tensorflow as tf


class Packed(NamedTuple):
    """Where the tokens of texts are that lie one after the other without padding.

    Attributes:
      there: bool [B, L], true for the first n places of a text of n tokens, n >= 1.
      place: int64 [T, 2], text and position of each token, text by text.
    """

    there: Any
    place: Any


def pack(there: Any) -> Packed:
    """Finds the tokens: bool [B, L]."""
    return Packed(there, tf.where(there))


def stages(backbone: Any) -> list[list[Any]]:
    """Layers with weights of each stage of a `BertBackbone`, bottom first: the embeddings, then each transformer layer."""
    embedding = ("token_embedding", "position_embedding", "segment_embedding", "embeddings_layer_norm")
    return [[getattr(backbone, name) for name in embedding], *([x] for x in backbone.transformer_layers)]


def frozen_stages(backbone: Any) -> int:
    """How many of a `BertBackbone`'s stages nothing trains, counted from the bottom."""
    number = 0
    for stage in stages(backbone):
        if any(weight.trainable for layer in stage for weight in layer.weights):
            break
        number += 1
    return number


def run_stages(
    backbone: Any,
    states: Any,
    packed: Packed,
    first: int = 0,
    last: int | None = None,
    training: bool = False,
) -> Any:
    """Runs stages of a `BertBackbone`, with the weights, dropout and dtype that its layers have.

    Dropout is off in the stages below the lowest one that is trained, and no gradient flows into them.

    Args:
      backbone: a KerasHub `BertBackbone`.
      states: int [T], token ids, for stage 0; float [T, H], what the stage before `first` gave, for a later one.
      packed: where the tokens are.
      first: stage to begin with; 0 embeds, n is the n-th transformer layer.
      last: stage to stop before; None for all.
      training: whether dropout is on.

    Returns:
      float [T, H].
    """
    frozen = frozen_stages(backbone)
    if first:
        states = tf.cast(states, backbone.transformer_layers[first - 1].compute_dtype)
    for number in range(first, len(backbone.transformer_layers) + 1 if last is None else last):
        learns = training and number >= frozen
        if number == 0:
            states = _embed(backbone, states, packed, learns)
        else:
            states = _layer(backbone.transformer_layers[number - 1], states, packed, learns)
        if number < frozen:
            states = tf.stop_gradient(states)
    return states


def _embed(backbone: Any, tokens: Any, packed: Packed, training: bool) -> Any:
    embedded = backbone.token_embedding(tokens)
    positions = tf.gather(backbone.position_embedding.position_embeddings, packed.place[:, 1])
    segment = backbone.segment_embedding(tf.zeros([1], tf.int32))
    x = backbone.embeddings_layer_norm(embedded + tf.cast(positions, embedded.dtype) + segment)
    return backbone.embeddings_dropout(x, training=training)


def _layer(layer: Any, x: Any, packed: Packed, training: bool) -> Any:
    """A KerasHub `TransformerEncoder` that normalises after adding: [T, H] -> [T, H]."""
    y = _attend(layer._self_attention_layer, x, packed, training)
    x = layer._self_attention_layer_norm(layer._self_attention_dropout(y, training=training) + x)
    y = layer._feedforward_output_dense(layer._feedforward_intermediate_dense(x))
    return layer._feedforward_layer_norm(layer._feedforward_dropout(y, training=training) + x)


def _attend(attention: Any, x: Any, packed: Packed, training: bool) -> Any:
    query, key, value = (
        _padded(dense(x[tf.newaxis])[0], packed)
        for dense in (attention._query_dense, attention._key_dense, attention._value_dense)
    )
    scores = tf.matmul(query * attention._inverse_sqrt_key_dim, key, transpose_b=True)
    nowhere = tf.where(packed.there, 0.0, scores.dtype.min / 2)
    shares = tf.nn.softmax(scores + tf.cast(nowhere, scores.dtype)[:, tf.newaxis, tf.newaxis])
    if attention._dropout:
        shares = attention._dropout_layer(shares, training=training)
    values = tf.transpose(tf.matmul(shares, value), [0, 2, 1, 3])
    return attention._output_dense(tf.gather_nd(values, packed.place)[tf.newaxis])[0]


def _padded(x: Any, packed: Packed) -> Any:
    """[T, heads, size] -> [B, heads, L, size], 0 where there is no token."""
    shape = tf.concat([tf.shape(packed.there), tf.shape(x)[1:]], 0)
    return tf.transpose(tf.scatter_nd(packed.place, x, tf.cast(shape, tf.int64)), [0, 2, 1, 3])
