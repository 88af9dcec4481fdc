"""BERT in NumPy, straight from the source's tensors: what an imported encoder is held against."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

Array = np.ndarray


def encode_reference(
    tensors: Mapping[str, Array],
    config: Mapping[str, Any],
    token_ids: Array,
    pooling: str = "mean",
    dtype: type[np.floating] = np.float64,
) -> Array:
    """Encodes padded token ids as the published model does: BERT, pooling, L2 normalisation.

    x = LayerNorm(word + position + segment); each layer: x = LayerNorm(x + attention(x)),
    x = LayerNorm(x + feed_forward(x)), after Devlin et al. 2019, "BERT". Padding (id 0) is seen by no token.

    Args:
      tensors: names as `towers.encoder_source.canonical_name` gives them -> arrays.
      config: config.json of the model.
      token_ids: int [B, L], 0 = padding, at least one token a row.
      pooling: "mean" over the tokens, or "cls" for the first.
      dtype: of the arithmetic.

    Returns:
      [B, hidden_size], each row of length 1.
    """
    weight = {name: value.astype(dtype) for name, value in tensors.items()}
    epsilon = float(config.get("layer_norm_eps", 1e-12))
    activation = _ACTIVATIONS[str(config["hidden_act"])]
    mask = (token_ids != 0).astype(dtype)

    def normalise(x: Array, name: str) -> Array:
        centred = x - x.mean(axis=-1, keepdims=True)
        spread = np.sqrt((centred**2).mean(axis=-1, keepdims=True) + epsilon)
        return centred / spread * weight[f"{name}.LayerNorm.gamma"] + weight[f"{name}.LayerNorm.beta"]

    def dense(x: Array, name: str) -> Array:
        return x @ weight[f"{name}.weight"].T + weight[f"{name}.bias"]

    x = weight["embeddings.word_embeddings.weight"][token_ids]
    x = x + weight["embeddings.position_embeddings.weight"][: token_ids.shape[1]]
    x = normalise(x + weight["embeddings.token_type_embeddings.weight"][0], "embeddings")
    for layer in range(int(config["num_hidden_layers"])):
        name = f"encoder.layer.{layer}"
        context = _attend(x, mask, int(config["num_attention_heads"]), dense, f"{name}.attention.self")
        x = normalise(x + dense(context, f"{name}.attention.output.dense"), f"{name}.attention.output")
        inner = activation(dense(x, f"{name}.intermediate.dense"))
        x = normalise(x + dense(inner, f"{name}.output.dense"), f"{name}.output")
    pooled = x[:, 0] if pooling == "cls" else (x * mask[..., None]).sum(1) / mask.sum(1, keepdims=True)
    return pooled / np.linalg.norm(pooled, axis=-1, keepdims=True)


def _attend(x: Array, mask: Array, heads: int, dense: Callable[[Array, str], Array], name: str) -> Array:
    rows, length, hidden = x.shape

    def split(value: Array) -> Array:
        return value.reshape(rows, length, heads, hidden // heads).transpose(0, 2, 1, 3)

    query, key, value = (split(dense(x, f"{name}.{part}")) for part in ("query", "key", "value"))
    scores = query @ key.transpose(0, 1, 3, 2) / np.sqrt(hidden // heads)
    scores = np.where(mask[:, None, None, :] > 0, scores, -np.inf)
    scores = np.exp(scores - scores.max(axis=-1, keepdims=True))
    scores = scores / scores.sum(axis=-1, keepdims=True)
    return (scores @ value).transpose(0, 2, 1, 3).reshape(rows, length, hidden)


def _gelu(x: Array) -> Array:
    from scipy.special import erf

    return 0.5 * x * (1.0 + erf(x / np.sqrt(2.0)))


def _gelu_approximate(x: Array) -> Array:
    return 0.5 * x * (1.0 + np.tanh(np.sqrt(2.0 / np.pi) * (x + 0.044715 * x**3)))


def _relu(x: Array) -> Array:
    return np.maximum(x, 0.0)


_ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "gelu": _gelu,
    "gelu_new": _gelu_approximate,
    "gelu_pytorch_tanh": _gelu_approximate,
    "relu": _relu,
}
