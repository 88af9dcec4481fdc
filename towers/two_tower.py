"""The model: query tower, item tower and the encoder they share, trained on (request, item) pairs."""

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from towers.catalogue import Catalogue
from towers.encoder import TextEncoder
from towers.gather import gather_candidates, sum_over_replicas
from towers.history import hide_types_and_ages
from towers.item_tower import ItemTower
from towers.loss import RetrievalLoss, negatives_mask
from towers.query_tower import QueryTower
from towers.repeat import RepeatBonus
from towers.settings import ModelSettings


class TwoTower(keras.Model):
    """Two towers whose vectors meet in an inner product, and a bonus for what the user acted on before.

    score(request, item) = q(request) . v(item) + bonus(request, item)

    Args:
      encoder: the text encoder; its vectors are float32.
      query_tower: makes query vectors.
      item_tower: makes item vectors.
      repeat: makes the bonus.
      settings: temperature and normalisation.
      negatives: evenly drawn catalogue items a step, over all replicas, beside the batch's own items.
    """

    def __init__(
        self,
        encoder: TextEncoder,
        query_tower: QueryTower,
        item_tower: ItemTower,
        repeat: RepeatBonus,
        settings: ModelSettings,
        negatives: int = 0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.encoder = encoder
        self.query_tower = query_tower
        self.item_tower = item_tower
        self.repeat = repeat
        self.settings = settings
        self.negatives = negatives
        self.retrieval_loss = RetrievalLoss(settings.temperature)
        self.masked = keras.metrics.Mean(name="masked")
        self._tables: dict[str, Any] = {}

    def use_catalogue(self, catalogue: Catalogue, slots: np.ndarray) -> None:
        """Sets what training looks up by item row.

        Args:
          catalogue: features of every item, with texts encoded if the encoder is frozen.
          slots: float32 [N + 1], see `towers.loss.expected_slots`.
        """
        tables: dict[str, Any] = {name: tf.constant(table) for name, table in catalogue.features.items()}
        if catalogue.text is None:
            tables["tokens"] = tf.constant(catalogue.tokens)
        else:
            tables["text"] = tf.constant(catalogue.text)
        tables["slots"] = tf.constant(slots, tf.float32)
        self._tables = tables
        self.item_count = len(catalogue.tokens) - 1

    def embed_queries(self, inputs: dict[str, Any], training: bool = False) -> Any:
        """Encodes requests: transformed query inputs [B, ...] -> float32 [B, dimension]."""
        text = self.encoder(inputs["query_tokens"], training=training)
        return self._finish(self.query_tower(inputs, text, training=training))

    def history_bonus(self, inputs: dict[str, Any]) -> Any:
        """What each request's own history items get on top: transformed query inputs [B, ...] -> float32 [B, H]."""
        return self.repeat.of_history(inputs["history_items"], self._entry_weights(inputs))

    def embed_items(self, item: Any, text: Any, features: dict[str, Any], training: bool = False) -> Any:
        """Encodes items.

        Args:
          item: int32 [B], rows of the item vocabulary.
          text: float32 [B, E], encoded texts.
          features: name -> int32 [B, n].
          training: whether dropout is on.

        Returns:
          float32 [B, dimension].
        """
        return self._finish(self.item_tower(item, text, features, training=training))

    def embed_catalogue_items(self, item: Any, training: bool = False) -> Any:
        """Encodes items of the catalogue by row: int32 [B] -> float32 [B, dimension]."""
        text = self._encode_catalogue_texts(item, training)
        names = self.item_tower.features.rows
        features = {name: tf.gather(self._tables[name], item) for name in names}
        return self.embed_items(item, text, features, training=training)

    def embed_texts(self, inputs: dict[str, Any], text: Any, training: bool = False) -> Any:
        """Encodes requests that are a text and nothing else.

        Args:
          inputs: transformed query inputs, for the names and widths of the features; their values are not used.
          text: float32 [B, E], encoded texts.
          training: whether dropout is on.

        Returns:
          float32 [B, dimension].
        """
        nothing = {
            name: tf.zeros([tf.shape(text)[0], value.shape[1] or 1], value.dtype)
            for name, value in inputs.items()
        }
        return self._finish(self.query_tower(nothing, text, training=training))

    def call(self, batch: dict[str, Any], training: bool = False) -> dict[str, Any]:
        """Makes this replica's pairs and candidates.

        Args:
          batch: transformed query inputs, target_items [R, T] with 0 = none, target_weights [R, T] and
            known_positives [R, K].
          training: whether dropout is on.

        Returns:
          queries float32 [P, D], row int32 [P], own int32 [P], weights float32 [P], vectors float32 [c, D] and
          items int32 [c]: the pairs' own items, then drawn ones; entry_weights float32 [R, H] of the histories, and
          has_history float32 [P], 0 for a made-up query.
        """
        if training and self.settings.history_unknown:
            types, ages = hide_types_and_ages(
                batch["history_types"], batch["history_ages"], self.settings.history_unknown
            )
            batch = batch | {"history_types": types, "history_ages": ages}
        place = tf.where(batch["target_items"] > 0)
        row = tf.cast(place[:, 0], tf.int32)
        own = tf.gather_nd(batch["target_items"], place)
        items = own
        if training and self.negatives:
            replicas = tf.distribute.get_strategy().num_replicas_in_sync
            drawn = tf.random.uniform([self.negatives // replicas], 1, self.item_count + 1, dtype=items.dtype)
            items = tf.concat([own, drawn], 0)
        queries = tf.gather(self.embed_queries(batch, training=training), row)
        has_history = tf.ones_like(own, tf.float32)
        if training and self.settings.made_up_queries:
            made_up = tf.random.uniform([tf.shape(own)[0], 1]) < self.settings.made_up_queries
            texts = self._encode_catalogue_texts(own, training)
            queries = tf.where(made_up, self.embed_texts(batch, texts, training), queries)
            has_history -= tf.cast(made_up[:, 0], tf.float32)
        return {
            "queries": queries,
            "row": row,
            "own": own,
            "weights": tf.gather_nd(batch["target_weights"], place),
            "vectors": self.embed_catalogue_items(items, training=training),
            "items": items,
            "entry_weights": self._entry_weights(batch),
            "has_history": has_history,
        }

    def compute_loss(
        self,
        x: Any = None,
        y: Any = None,
        y_pred: Any = None,
        sample_weight: Any = None,
        training: bool = True,
    ) -> Any:
        """Returns this replica's share of the mean loss over all pairs of all replicas.

        The shares of the replicas add up to the loss that one replica would have on the whole batch, and so do
        their gradients, which Keras sums.
        """
        del y, sample_weight, training
        candidates = gather_candidates(y_pred["vectors"], y_pred["items"])
        mask = negatives_mask(y_pred["own"], candidates.items, x["known_positives"], y_pred["row"])
        self.masked.update_state(1.0 - tf.reduce_mean(tf.cast(mask, tf.float32)))
        bonus = self.repeat.of_candidates(x["history_items"], y_pred["entry_weights"], candidates.items)
        total = self.retrieval_loss(
            y_pred["queries"],
            candidates.vectors,
            y_pred["weights"],
            tf.gather(self._tables["slots"], candidates.items),
            mask,
            tf.gather(bonus, y_pred["row"]) * y_pred["has_history"][:, tf.newaxis],
        )
        return total / tf.maximum(sum_over_replicas(tf.reduce_sum(y_pred["weights"])), 1e-9)

    def _entry_weights(self, inputs: dict[str, Any]) -> Any:
        """How much each history entry counts for its own item: float32 [B, H]."""
        names = ("history_items", "history_types", "history_ages")
        has_text = tf.reduce_any(inputs["query_tokens"] > 0, axis=1)
        return self.repeat(*(inputs[name] for name in names), has_text)

    def _encode_catalogue_texts(self, item: Any, training: bool) -> Any:
        """Texts of catalogue items by row: int32 [B] -> float32 [B, E]."""
        if "text" in self._tables:
            return tf.gather(self._tables["text"], item)
        return self.encoder(tf.gather(self._tables["tokens"], item), training=training)

    def _finish(self, vectors: Any) -> Any:
        vectors = tf.cast(vectors, tf.float32)
        return tf.math.l2_normalize(vectors, axis=-1) if self.settings.normalize else vectors
