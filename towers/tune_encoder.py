"""Tunes the encoder on queries and the texts of their items before the towers are trained; from then on it is frozen."""

import logging
import os
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from towers.datasets import Batches
from towers.encoder import load_encoder
from towers.examples import Requests
from towers.fit import fit, set_optimizer
from towers.gather import gather_candidates, sum_over_replicas
from towers.layer_rates import encoder_scales
from towers.loss import RetrievalLoss, expected_slots, negatives_mask
from towers.progress import Progress
from towers.query_texts import QUERY_TEXT, index_queries
from towers.schedule import RunDecay
from towers.settings import EncoderSettings, TrainingSettings
from towers.text_states import TextStates, states_fit
from transform.errors import TandemError
from transform.features import QUERY_TOKENS, TARGET_ITEMS
from transform.settings import FeatureSettings

logger = logging.getLogger("tandem.train")

WEIGHTS_FILE = "encoder.safetensors"
_TEMPERATURE = 0.05  # of cosines, as sentence-transformers has it
_WARM_UP = 0.1


class TextPairs(keras.Model):
    """score(request, item) = cosine of what the encoder makes of the request's query and of the item's text.

    Args:
      encoder: a `TextEncoder`; what of it is trained, is.
      queries, items: int32 rows [B], training -> float32 [B, E], of length 1.
      slots: float32 [N + 1], how often an item is a candidate, relative to what is usual.
    """

    def __init__(self, encoder: Any, queries: Any, items: Any, slots: np.ndarray, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.encoder = encoder
        self.temperature = _TEMPERATURE
        self.built = True
        self._queries, self._items = queries, items
        self._slots = tf.constant(slots)
        self._loss = RetrievalLoss(_TEMPERATURE)

    def call(self, batch: dict[str, Any], training: bool = False) -> dict[str, Any]:
        """Makes this replica's pairs: queries and vectors float32 [P, E], row, own int32 [P] and weights float32 [P]."""
        place = tf.where(batch[TARGET_ITEMS] > 0)
        row = tf.cast(place[:, 0], tf.int32)
        own = tf.gather_nd(batch[TARGET_ITEMS], place)
        return {
            "queries": tf.gather(self._queries(batch[QUERY_TEXT][:, 0], training), row),
            "vectors": self._items(own, training),
            "row": row,
            "own": own,
            "weights": tf.gather_nd(batch["target_weights"], place),
        }

    def compute_loss(self, x: Any = None, y: Any = None, y_pred: Any = None, *_: Any, **__: Any) -> Any:
        """Returns this replica's share of the mean loss over all pairs of all replicas, as `TwoTower` does."""
        candidates = gather_candidates(y_pred["vectors"], y_pred["own"])
        mask = negatives_mask(y_pred["own"], candidates.items, x["known_positives"], y_pred["row"])
        slots = tf.gather(self._slots, candidates.items)
        nothing = tf.zeros([tf.shape(y_pred["own"])[0], tf.shape(candidates.items)[0]])
        weights = y_pred["weights"]
        total = self._loss(y_pred["queries"], candidates.vectors, weights, slots, mask, nothing)
        return total / tf.maximum(sum_over_replicas(tf.reduce_sum(weights)), 1e-9)


def tune_encoder(
    features: FeatureSettings,
    encoder: EncoderSettings,
    training: TrainingSettings,
    requests: Requests,
    item_tokens: np.ndarray,
    strategy: Any,
    policy: str,
    log_dir: str | None = None,
) -> list[np.ndarray]:
    """Trains the last layers on each query and the texts of its items; the batch's other items are the negatives.

    Multiple negatives ranking (Henderson et al. 2017, "Efficient natural language response suggestion for Smart Reply"),
    as sentence-transformers fine-tunes, but that no item known to answer the query is a negative.

    Args:
      features: declared features.
      encoder: which preset, how many layers and steps.
      training: learning rate of the encoder, replicas and seed.
      requests: training rows; those without a query say nothing here.
      item_tokens: int [N + 1, L], 0 = padding.
      strategy: that of the run.
      policy: Keras dtype policy.
      log_dir: TensorBoard directory, or None.

    Returns:
      the backbone's weights, in its own order.

    Raises:
      TandemError: no training row has a query and a target; or training diverged.
    """
    tokens = requests.columns[QUERY_TOKENS]
    asked = np.flatnonzero(np.diff(tokens.offsets) * np.diff(requests.columns[TARGET_ITEMS].offsets))
    if not len(asked):
        raise TandemError(
            f"encoder.tuning_steps is {encoder.tuning_steps}, and none of {requests.size} training rows has a query"
            " and an item that answers it; set encoder.tuning_steps to 0."
        )
    requests, query_tokens = index_queries(requests.take(asked))
    batches = Batches(
        requests,
        features,
        encoder.tuning_batch_size,
        training.targets_per_request,
        strategy.num_replicas_in_sync,
        training.seed,
    )
    steps = encoder.tuning_steps
    rate = RunDecay(training.encoder_learning_rate, steps, warm_up=_WARM_UP)
    own = batches.own_slots(len(item_tokens))
    slots = relative_slots(own)
    item_tokens = np.where(own[:, np.newaxis] > 0, item_tokens, 0)  # no other item is a candidate
    with strategy.scope():
        layers = load_encoder(encoder.model_copy(update={"trainable": "last_layers"}), policy)
        queries, items = (
            _texts(layers, texts, what)
            for texts, what in ((query_tokens, "queries to tune on"), (item_tokens, "item texts to tune on"))
        )
        model = TextPairs(layers, queries, items, slots)
        set_optimizer(model, rate, encoder_scales(layers, 1.0, training.encoder_layer_decay), policy)
    logger.info("tuning the encoder on %d requests with a query", len(asked))
    progress = Progress(steps, 0, batches.pairs_per_batch, log_dir)
    fit(model, batches, steps, [progress], seed=training.seed)
    return [np.asarray(weight, np.float32) for weight in layers.backbone.weights]


def save_weights(directory: str | Path, weights: list[np.ndarray]) -> None:
    """Writes a tuned encoder's weights, whole or not at all."""
    from safetensors.numpy import save_file

    path = Path(directory, WEIGHTS_FILE)
    path.parent.mkdir(parents=True, exist_ok=True)
    half = path.with_suffix(".half")
    save_file({f"{n:04d}": np.asarray(weight, order="C") for n, weight in enumerate(weights)}, str(half))
    half.chmod(0o644)  # as in `towers.state`
    os.replace(half, path)


def load_weights(directory: str | Path) -> list[np.ndarray]:
    """Reads a tuned encoder's weights.

    Raises:
      TandemError: there are none, or they are damaged.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    path = Path(directory, WEIGHTS_FILE)
    try:
        return [weight for _, weight in sorted(load_file(path).items())]
    except (OSError, SafetensorError) as error:
        raise TandemError(
            f"{path} cannot be read ({str(error).splitlines()[0]}), expected the weights of a tuned encoder;"
            " restore the push it belongs to, or train from scratch."
        ) from None


def has_weights(directory: str | Path) -> bool:
    """Whether a directory holds a tuned encoder's weights."""
    return Path(directory, WEIGHTS_FILE).is_file()


def relative_slots(own: np.ndarray) -> np.ndarray:
    """How often each item is a candidate, over the mean of the candidates as they are drawn.

    The softmax is then one over the batch and not the catalogue: the temperature is made for some hundred candidates.
    Which item is drawn more often than others still counts.

    Args:
      own: float [N + 1], see `towers.loss.expected_slots`.

    Returns:
      float32 [N + 1].
    """
    slots = expected_slots(own, 0)
    return (slots * own.sum() / np.square(own).sum()).astype(np.float32)


def _texts(encoder: Any, tokens: np.ndarray, what: str) -> Any:
    """int32 rows [B], training -> float32 [B, E]; without the frozen layers, where there is room for what they give."""
    if states_fit(encoder, tokens):
        return TextStates(encoder, tokens, what)
    table = tf.constant(tokens)
    return lambda rows, training: encoder(tf.gather(table, rows), training=training)
