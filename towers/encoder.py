"""The text encoder: token ids in, one vector of length 1 a text out; each distinct text is encoded once."""

from typing import Any

import keras
import keras_hub
import numpy as np
import tensorflow as tf

from towers.packed import Packed, frozen_stages, pack, run_stages
from towers.preset import load_backbone, read_description
from towers.settings import EncoderSettings


@keras.saving.register_keras_serializable("tandem")
class TextEncoder(keras.layers.Layer):
    """Encodes token ids as the published model does: backbone, pooling, L2 normalisation.

    Equal rows are encoded once a call and gathered back. Rows are cut to the longest text of the call. A row
    without tokens gets the zero vector, and no gradient flows through it.

    Args:
      backbone: a KerasHub BERT-like backbone with token_ids, segment_ids and padding_mask inputs.
      pooling: "mean" over the tokens or "cls" for the first.
    """

    def __init__(self, backbone: Any, pooling: str = "mean", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.backbone = backbone
        self.pooling = pooling
        self.dimension = int(backbone.hidden_dim)

    def call(self, token_ids: Any, training: bool = False) -> Any:
        """Encodes texts.

        Args:
          token_ids: int [B, L], 0 = padding, after the tokens.
          training: whether dropout is on; it never is while the encoder is frozen.

        Returns:
          float32 [B, dimension], of length 1, or 0 where the row has no token.
        """
        token_ids = tf.cast(token_ids, tf.int32)
        distinct, index = distinct_rows(token_ids)
        vectors = self._encode(distinct, training and bool(self.trainable_variables))
        return tf.gather(vectors, index)

    def _encode(self, token_ids: Any, training: bool) -> Any:
        token_ids = tf.pad(token_ids, [[0, 0], [0, 1]])  # room for one token, even when L is 0
        there = token_ids > 0
        lengths = tf.reduce_sum(tf.cast(there, tf.int32), axis=1)
        # An all-padding row would be a softmax over nothing; it is given one token and blanked at the end.
        is_empty = tf.equal(lengths, 0)
        longest = tf.maximum(tf.reduce_max(lengths, axis=0), 1)
        token_ids, there = token_ids[:, :longest], there[:, :longest]
        there |= is_empty[:, tf.newaxis] & tf.equal(tf.range(longest), 0)
        packed = pack(there)
        return self._pool(self._states(token_ids, packed, training), packed, is_empty)

    def encode_states(self, states: Any, there: Any, is_empty: Any, training: bool = False) -> Any:
        """Encodes texts from what the stages that nothing trains gave of them.

        Args:
          states: float [T, H], token vectors of all texts, one text after the other.
          there: bool [B, L], true for the first n places of a text of n tokens, n >= 1.
          is_empty: bool [B], which texts get the zero vector.
          training: whether dropout is on.

        Returns:
          float32 [B, dimension].
        """
        packed = pack(there)
        first = frozen_stages(self.backbone)
        states = run_stages(self.backbone, states, packed, first, training=training)
        return self._pool(states, packed, is_empty)

    def _states(self, token_ids: Any, packed: Packed, training: bool) -> Any:
        """The last layer's token vectors: int [B, L] -> float [T, H]."""
        if isinstance(self.backbone, keras_hub.models.BertBackbone):
            tokens = tf.gather_nd(token_ids, packed.place)
            return run_stages(self.backbone, tokens, packed, training=training)
        there = tf.cast(packed.there, tf.int32)
        outputs = self.backbone(
            {"token_ids": token_ids, "segment_ids": tf.zeros_like(token_ids), "padding_mask": there},
            training=training,
        )
        return tf.gather_nd(outputs["sequence_output"], packed.place)

    def _pool(self, states: Any, packed: Packed, is_empty: Any) -> Any:
        """Makes texts' vectors of their tokens': float [T, H], bool [B] -> float32 [B, H]."""
        states = tf.cast(states, tf.float32)
        lengths = tf.reduce_sum(tf.cast(packed.there, tf.int32), axis=1)
        if self.pooling == "cls":
            pooled = tf.gather(states, tf.cumsum(lengths, exclusive=True))
        else:
            total = tf.math.segment_sum(states, packed.place[:, 0])
            pooled = total / tf.cast(lengths, tf.float32)[:, tf.newaxis]
        vectors = tf.math.l2_normalize(pooled, axis=-1)
        return tf.where(is_empty[:, tf.newaxis], tf.zeros_like(vectors), vectors)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, int]:
        """Returns (B, dimension)."""
        return (input_shape[0], self.dimension)


def distinct_rows(rows: Any) -> tuple[Any, Any]:
    """Finds the distinct rows of a matrix.

    [[5, 0], [7, 2], [5, 0]] -> [[5, 0], [7, 2]], [0, 1, 0]

    Args:
      rows: int [B, L].

    Returns:
      int [U, L], the distinct rows in order of first appearance, and int32 [B], each row's place among them.
    """
    joined = tf.strings.reduce_join(tf.strings.as_string(rows), axis=1, separator=" ")
    values, index = tf.unique(joined)
    first = tf.math.unsorted_segment_min(tf.range(tf.shape(rows)[0]), index, tf.size(values))
    return tf.gather(rows, first), index


def load_encoder(
    settings: EncoderSettings, dtype: Any = None, weights: list[np.ndarray] | None = None
) -> TextEncoder:
    """Loads a preset, and freezes what the settings do not train.

    Args:
      settings: which preset, and how much of it is trained.
      dtype: a Keras dtype policy or its name, or None for the global policy.
      weights: of the backbone, as `towers.tune_encoder` returns them, instead of the preset's; None: the preset's.

    Raises:
      TandemError: the preset is missing or damaged.
    """
    description = read_description(settings.preset)
    backbone = load_backbone(settings.preset, dtype)
    if weights is not None:
        backbone.set_weights(weights)
    _set_trainable(backbone, settings)
    encoder = TextEncoder(backbone, description.pooling, name="encoder", dtype=dtype)
    encoder.trainable = settings.trainable != "frozen"
    if settings.trainable != "frozen":
        _set_trainable(backbone, settings)  # setting a layer's trainable reaches all layers inside it
    return encoder


def _set_trainable(backbone: Any, settings: EncoderSettings) -> None:
    """Freezes or frees the backbone's layers; the pooler is never used, so it is never trained."""
    if settings.trainable == "lora":
        if not getattr(backbone, "_lora_enabled_layers", None):
            backbone.enable_lora(settings.lora_rank)
        else:
            _free_only_lora(backbone)
        return
    backbone.trainable = settings.trainable != "frozen"
    if settings.trainable == "last_layers":
        last = set(backbone.transformer_layers[-settings.last_layers :])
        for layer in backbone.layers:
            layer.trainable = layer in last
    if "pooled_dense" in {layer.name for layer in backbone.layers}:
        backbone.get_layer("pooled_dense").trainable = False


def _free_only_lora(backbone: Any) -> None:
    for layer in backbone._flatten_layers(include_self=False):
        layer.trainable = bool(getattr(layer, "lora_enabled", False))
