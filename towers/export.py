"""The trained towers as a SavedModel that takes a shop's own strings and numbers."""

from typing import Any

import tensorflow as tf
from tensorflow_transform.saved.saved_transform_io_v2 import SavedModelLoader

from towers.examples import request_columns
from towers.two_tower import TwoTower
from transform.features import (
    HISTORY_AGES,
    HISTORY_ITEM_IDS,
    HISTORY_ITEMS,
    HISTORY_TYPES,
    ITEM,
    ITEM_LEXEMES,
    ITEM_TOKENS,
    InputSpec,
    dense_to_raw,
    item_inputs,
    query_inputs,
)
from transform.settings import FeatureSettings

EMBED_ITEM_OF_TEXT = "embed_item_of_text"
TEXT_VECTOR = "text_vector"


class ServedTowers(tf.Module):
    """Transform graph and towers in one, so that training and serving cannot differ.

    Args:
      model: built outside any distribution strategy, under float32.
      transform_output: a `tft.TFTransformOutput`.
      features: declared features.
    """

    def __init__(self, model: TwoTower, transform_output: Any, features: FeatureSettings) -> None:
        super().__init__(name="served_towers")
        # What `transform_features_layer()` wraps. The layer itself is a Keras 2 model: saving it traces it once more
        # under AutoGraph, which takes 20 s.
        loader = SavedModelLoader(transform_output.transform_savedmodel_dir)
        self.transform_resources = loader.__dict__
        self._apply_transform = loader.apply_transform_model
        self.model = model
        self.features = features

    def embed_query(self, inputs: dict[str, Any]) -> dict[str, Any]:
        """Encodes requests.

        Args:
          inputs: dense query inputs, see `transform.features.query_inputs`; only the newest
            `features.history_length` history entries are read, as in training.

        Returns:
          `embedding` float32 [B, dimension]; `history_bonus` float32 [B, H], what is added to the inner product of
          the item at that place of `history_item_ids`: 0 where it came before, or is none that the towers know.
        """
        transformed = self._apply_transform(dense_to_raw(inputs))
        values = {name: _dense(transformed[name]) for name in request_columns(self.features)}
        for name in (HISTORY_ITEMS, HISTORY_TYPES, HISTORY_AGES):
            values[name] = values[name][:, : self.features.history_length]
        bonus = self.model.history_bonus(values)
        unread = tf.shape(inputs[HISTORY_ITEM_IDS])[1] - tf.shape(bonus)[1]
        bonus = tf.pad(bonus, [[0, 0], [0, unread]])
        return {"embedding": self.model.embed_queries(values), "history_bonus": bonus}

    def embed_item(self, inputs: dict[str, Any]) -> dict[str, Any]:
        """Encodes items: inputs as in `transform.features.item_inputs` -> `embedding` float32 [B, dimension]."""
        return self._embed_item(inputs, None)

    def embed_item_of_text(self, inputs: dict[str, Any]) -> dict[str, Any]:
        """The same with `TEXT_VECTOR` float32 [B, E] among the inputs: what the encoder made of the text before."""
        return self._embed_item({k: v for k, v in inputs.items() if k != TEXT_VECTOR}, inputs[TEXT_VECTOR])

    def _embed_item(self, inputs: dict[str, Any], text: Any) -> dict[str, Any]:
        transformed = self._apply_transform(dense_to_raw(inputs))
        if text is None:
            text = self.model.encoder(_dense(transformed[ITEM_TOKENS]))
        names = [feature.name for feature in self.features.item]
        if self.features.lexical_buckets:
            names.append(ITEM_LEXEMES)
        declared = {name: _dense(transformed[name]) for name in names}
        item = _dense(transformed[ITEM])[:, :1]
        item = tf.pad(item, [[0, 0], [0, 1 - tf.shape(item)[1]]])[:, 0]
        return {"embedding": self.model.embed_items(item, text, declared)}

    def signatures(self) -> dict[str, Any]:
        """Concrete functions of the methods above; `embed_item_of_text` only where the encoder is frozen."""
        embed = {"embed_query": self.embed_query, "embed_item": self.embed_item}
        inputs = {"embed_query": query_inputs(self.features), "embed_item": item_inputs(self.features)}
        specs = {name: _tensor_specs(columns) for name, columns in inputs.items()}
        if not self.model.encoder.trainable_variables:
            embed[EMBED_ITEM_OF_TEXT] = self.embed_item_of_text
            text = tf.TensorSpec([None, self.model.encoder.dimension], tf.float32, name=TEXT_VECTOR)
            specs[EMBED_ITEM_OF_TEXT] = specs["embed_item"] | {TEXT_VECTOR: text}

        def signature(name: str) -> Any:
            def run(**inputs: Any) -> dict[str, Any]:
                return embed[name](inputs)

            return tf.function(run, autograph=False).get_concrete_function(**specs[name])

        return {name: signature(name) for name in embed}


def _tensor_specs(inputs: dict[str, InputSpec]) -> dict[str, tf.TensorSpec]:
    return {
        name: tf.TensorSpec([None] * spec.rank, tf.as_dtype(spec.dtype), name=name)
        for name, spec in inputs.items()
    }


def export_towers(model: TwoTower, transform_output: Any, features: FeatureSettings, directory: str) -> None:
    """Writes the SavedModel; it loads in a fresh process after `import tensorflow_text`.

    Args:
      model: built outside any distribution strategy, under float32.
      transform_output: a `tft.TFTransformOutput`.
      features: declared features.
      directory: to write; made if it is not there.
    """
    module = ServedTowers(model, transform_output, features)
    tf.saved_model.save(module, directory, signatures=module.signatures())


def _dense(values: Any) -> Any:
    """int [B, n] of a transformed feature, 0 where there is no entry."""
    if isinstance(values, tf.SparseTensor):
        values = tf.sparse.to_dense(values)
    return tf.cast(values, tf.int32)
