"""The model: query tower, item tower and the encoder they share, trained on (request, item) pairs."""

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from towers.catalogue import Catalogue
from towers.cooccurrence import CooccurrenceView
from towers.draws import uniform
from towers.encoder import TextEncoder
from towers.gather import sum_over_replicas
from towers.hard_negatives import HARD_NEGATIVES, embed_candidates
from towers.history import hide_types_and_ages
from towers.item_tower import ItemTower
from towers.lexical_view import LexicalView
from towers.loss import RetrievalLoss
from towers.made_up import MadeUpQueries, blank
from towers.query_texts import QUERY_TEXT, has_text_of
from towers.query_tower import QueryTower
from towers.repeat import RepeatBonus
from towers.settings import ModelSettings
from towers.step_loss import step_losses
from towers.text_states import TextStates
from transform.features import ITEM_LEXEMES, QUERY_LEXEMES


class TwoTower(keras.Model):
    """Two towers whose vectors meet in an inner product, and a bonus for what the user acted on before.

    score(request, item) = q(request) . v(item) + bonus(request, item)

    With a lexical view, the last coordinates of q and v are its own and the towers have the others. With a co-occurrence view,
    its own come after these, and only outside of training.

    Args:
      encoder: the text encoder; its vectors are float32.
      query_tower: makes query vectors.
      item_tower: makes item vectors.
      repeat: makes the bonus.
      lexical: says how texts are spelt, or None.
      cooccurrence: says which items go together, or None.
      settings: temperature and normalisation.
      negatives: evenly drawn catalogue items a step, over all replicas, beside the batch's own items.
    """

    def __init__(
        self,
        encoder: TextEncoder,
        query_tower: QueryTower,
        item_tower: ItemTower,
        repeat: RepeatBonus,
        lexical: LexicalView | None,
        cooccurrence: CooccurrenceView | None,
        settings: ModelSettings,
        negatives: int = 0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.encoder = encoder
        self.query_tower = query_tower
        self.item_tower = item_tower
        self.repeat = repeat
        self.lexical = lexical
        self.cooccurrence = cooccurrence
        self.settings = settings
        self.temperature = settings.temperature
        self.negatives = negatives
        self.retrieval_loss = RetrievalLoss(settings.temperature)
        self.masked = keras.metrics.Mean(name="masked")
        self.conflicting = keras.metrics.Mean(name="conflicting")
        parts = ("joint", "towers", "lexical") if lexical is not None and settings.view_loss else ()
        self.part_losses = [keras.metrics.Mean(name=f"loss_{name}") for name in parts]
        self._tables: dict[str, Any] = {}
        self._query_texts: Any = None
        self._made_up: dict[str, Any] = {}
        self._states: tuple[TextStates, ...] = ()

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
        if self.lexical is not None:
            tables["lexemes"] = tf.constant(catalogue.lexemes)
        self.slots = tf.constant(slots, tf.float32)
        self._tables = tables
        self.item_count = len(catalogue.tokens) - 1

    def use_query_texts(self, vectors: np.ndarray) -> None:
        """Sets what batches with `QUERY_TEXT` look up instead of encoding: float32 [U + 1, E], row 0 zero."""
        self._query_texts = tf.constant(vectors)

    def use_made_up_queries(self, queries: MadeUpQueries) -> None:
        """Sets what a share of the training pairs is replaced by."""
        self._made_up = {name: tf.constant(table) for name, table in queries.as_tables().items()}

    def use_text_states(
        self, items: TextStates, queries: TextStates, made_up: TextStates | None = None
    ) -> None:
        """Sets what encodes catalogue items by row, batches with `QUERY_TEXT` and made-up queries by 1 + row, without
        their frozen layers; row 0 has no text.
        """
        self._states = (items, queries) if made_up is None else (items, queries, made_up)

    def embed_queries(self, inputs: dict[str, Any], training: bool = False) -> Any:
        """Encodes requests: transformed query inputs [B, ...] -> float32 [B, dimension]."""
        text = self.encode_queries(inputs, training)
        return self._embed_queries(inputs, text, inputs.get(QUERY_LEXEMES), has_text_of(inputs), training)

    def encode_queries(self, inputs: dict[str, Any], training: bool = False) -> Any:
        """Encodes the requests' texts, or looks them up: transformed query inputs -> float32 [B, E]."""
        if QUERY_TEXT in inputs and self._query_texts is not None:
            return tf.gather(self._query_texts, inputs[QUERY_TEXT][:, 0])
        if QUERY_TEXT in inputs and self._states:
            return self._states[1](inputs[QUERY_TEXT][:, 0], training)
        return self.encoder(inputs["query_tokens"], training=training)

    def history_bonus(self, inputs: dict[str, Any]) -> Any:
        """What each request's own history items get on top: transformed query inputs [B, ...] -> float32 [B, H]."""
        return self.repeat.of_history(inputs["history_items"], self._entry_weights(inputs))

    def embed_items(self, item: Any, text: Any, features: dict[str, Any], training: bool = False) -> Any:
        """Encodes items.

        Args:
          item: int32 [B], rows of the item vocabulary.
          text: float32 [B, E], encoded texts.
          features: name -> int32 [B, n]; with a lexical view, `ITEM_LEXEMES` among them.
          training: whether dropout is on.

        Returns:
          float32 [B, dimension].
        """
        vectors = self.item_tower(item, text, features, training=training)
        if self.lexical is not None:
            vectors = tf.concat([vectors, self.lexical.of_items(features[ITEM_LEXEMES])], 1)
        vectors = self._finish(vectors)
        if self.cooccurrence is None or training:
            return vectors
        return tf.concat([vectors, self.cooccurrence.of_items(item)], 1)

    def embed_catalogue_items(self, item: Any, training: bool = False) -> Any:
        """Encodes items of the catalogue by row: int32 [B] -> float32 [B, dimension]."""
        text = self._encode_catalogue_texts(item, training)
        names = self.item_tower.features.rows
        features = {name: tf.gather(self._tables[name], item) for name in names}
        if self.lexical is not None:
            features[ITEM_LEXEMES] = tf.gather(self._tables["lexemes"], item)
        return self.embed_items(item, text, features, training=training)

    def embed_texts(
        self, inputs: dict[str, Any], text: Any, lexemes: Any = None, training: bool = False
    ) -> Any:
        """Encodes requests that are a text and nothing else.

        Args:
          inputs: transformed query inputs, for the names and widths of the features; their values are not used.
          text: float32 [B, E], encoded texts.
          lexemes: int32 [B, W], with a lexical view.
          training: whether dropout is on.

        Returns:
          float32 [B, dimension].
        """
        nothing = {
            name: tf.zeros([tf.shape(text)[0], value.shape[1] or 1], value.dtype)
            for name, value in inputs.items()
        }
        return self._embed_queries(nothing, text, lexemes, tf.ones_like(text[:, 0], tf.bool), training)

    def call(self, batch: dict[str, Any], training: bool = False) -> dict[str, Any]:
        """Makes this replica's pairs and candidates.

        Args:
          batch: transformed query inputs, target_items [R, T] with 0 = none, target_weights [R, T],
            known_positives [R, K] and, where they were mined, `HARD_NEGATIVES` [R, T, n] with 0 = none.
          training: whether dropout is on.

        Returns:
          queries float32 [P, D], row int32 [P], own int32 [P], weights float32 [P], vectors float32 [c, D] and
          items int32 [c]: the pairs' own items, then drawn ones; entry_weights float32 [R, H] of the histories; made_up
          bool [P], whether the pair is a made-up query and its item instead of the row's; and has_text bool [P]. Where there
          are any, `HARD_NEGATIVES` int32 [P, n], none of made-up pairs, and hard_vectors float32 [P, n, D].
        """
        if training and self.settings.history_unknown:
            types, ages = hide_types_and_ages(
                batch["history_types"], batch["history_ages"], self.settings.history_unknown
            )
            batch = batch | {"history_types": types, "history_ages": ages}
        place = tf.where(batch["target_items"] > 0)
        row = tf.cast(place[:, 0], tf.int32)
        own = tf.gather_nd(batch["target_items"], place)
        made_up = tf.zeros_like(own, tf.bool)
        has_text = has_text_of(batch)
        if training and self._made_up:
            made_up = uniform(tf.shape(own)) < self.settings.made_up_queries
            drawn = uniform(tf.shape(own), 0, tf.shape(self._made_up["items"])[0], tf.int32)
            own = tf.where(made_up, tf.gather(self._made_up["items"], drawn), own)
            asked = self._embed_made_up(batch, drawn, made_up, training)
            replaced = (
                tf.math.unsorted_segment_min(tf.cast(made_up, tf.int32), row, tf.shape(has_text)[0]) > 0
            )
            texts = {QUERY_TEXT, "query_tokens"} & set(batch)
            batch = batch | {name: blank(batch[name], replaced) for name in texts}
        items = own
        if training and self.negatives:
            replicas = tf.distribute.get_strategy().num_replicas_in_sync
            drawn = uniform([self.negatives // replicas], 1, self.item_count + 1, dtype=tf.int32)
            items = tf.concat([own, drawn], 0)
        queries = tf.gather(self.embed_queries(batch, training=training), row)
        if training and self._made_up:
            queries = tf.where(made_up[:, tf.newaxis], asked, queries)
        hard = None
        if HARD_NEGATIVES in batch:
            hard = tf.gather_nd(batch[HARD_NEGATIVES], place) * tf.cast(~made_up, tf.int32)[:, tf.newaxis]
        return {
            **embed_candidates(self, items, hard, training),
            "queries": queries,
            "row": row,
            "own": own,
            "weights": tf.gather_nd(batch["target_weights"], place),
            "entry_weights": self._entry_weights(batch),
            "made_up": made_up,
            "has_text": tf.gather(has_text, row) | made_up,
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
        found = step_losses(self, x, y_pred)
        self.masked.update_state(found.masked)
        self.conflicting.update_state(found.conflicting)
        weight = tf.maximum(sum_over_replicas(tf.reduce_sum(y_pred["weights"])), 1e-9)
        replicas = tf.distribute.get_strategy().num_replicas_in_sync
        for metric, part in zip(self.part_losses, (found.joint, *found.views), strict=False):
            metric.update_state(part * replicas / weight)
        total = found.joint
        for view in found.views:
            total += self.settings.view_loss * view
        return total / weight

    def _embed_queries(
        self, inputs: dict[str, Any], text: Any, lexemes: Any, has_text: Any, training: bool
    ) -> Any:
        vectors = self.query_tower(inputs, text, training=training)
        if self.lexical is not None:
            vectors = tf.concat([vectors, self.lexical.of_queries(lexemes)], 1)
        vectors = self._finish(vectors)
        if self.cooccurrence is None or training:
            return vectors
        return tf.concat([vectors, self.cooccurrence.of_queries(inputs, has_text)], 1)

    def _embed_made_up(self, batch: dict[str, Any], drawn: Any, made_up: Any, training: bool) -> Any:
        """Encodes made-up queries by row [P] -> float32 [P, dimension]; those that no pair takes are not encoded."""
        tables = self._made_up
        if "text" in self._tables:  # a frozen encoder has seen the whole text; it need not see its parts
            texts = tf.gather(self._tables["text"], tf.gather(tables["items"], drawn))
        elif self._states:
            texts = self._states[2](tf.where(made_up, drawn + 1, 0), training)
        else:
            texts = self.encoder(blank(tf.gather(tables["tokens"], drawn), ~made_up), training=training)
        lexemes = tf.gather(tables["lexemes"], drawn) if self.lexical is not None else None
        return self.embed_texts(batch, texts, lexemes, training)

    def _entry_weights(self, inputs: dict[str, Any]) -> Any:
        """How much each history entry counts for its own item: float32 [B, H]."""
        names = ("history_items", "history_types", "history_ages")
        return self.repeat(*(inputs[name] for name in names), has_text_of(inputs))

    def _encode_catalogue_texts(self, item: Any, training: bool) -> Any:
        """Texts of catalogue items by row: int32 [B] -> float32 [B, E]."""
        if "text" in self._tables:
            return tf.gather(self._tables["text"], item)
        if self._states:
            return self._states[0](item, training)
        return self.encoder(tf.gather(self._tables["tokens"], item), training=training)

    def _finish(self, vectors: Any) -> Any:
        vectors = tf.cast(vectors, tf.float32)
        return tf.math.l2_normalize(vectors, axis=-1) if self.settings.normalize else vectors
