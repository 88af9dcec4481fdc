"""The query tower: text, history, profile and context of a request become one vector."""

from typing import Any

import keras
import tensorflow as tf

from towers.feature_tables import FeatureTables
from towers.history import HistoryEncoder
from towers.text_projection import TextProjection


@keras.saving.register_keras_serializable("tandem")
class QueryTower(keras.layers.Layer):
    """q = history + text_scale * P text + sum of profile and context embeddings + bias.

    Args:
      history: the history encoder.
      rows: user or context feature name -> rows of its table.
      dimension: length of the vector.
      policy: Keras dtype policy of the text projection.
    """

    def __init__(
        self,
        history: HistoryEncoder,
        rows: dict[str, int],
        dimension: int,
        policy: Any = "float32",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.history = history
        self.features = FeatureTables(rows, dimension, name="features", dtype="float32")
        self.text = TextProjection(dimension, name="text", dtype=policy)
        self.dimension = dimension

    def build(self, *_: Any) -> None:
        """Makes the bias (what is popular with everyone) and the text's scale."""
        self.bias = self.add_weight(
            name="bias", shape=(self.dimension,), initializer="zeros", dtype="float32"
        )
        # Projected texts have inner products below 1; a softmax over hundreds of items needs some tens.
        self.text_scale = self.add_weight(
            name="text_scale", shape=(), initializer=keras.initializers.Constant(24.0), dtype="float32"
        )
        self.built = True

    def call(self, inputs: dict[str, Any], text: Any, training: bool = False) -> Any:
        """Encodes requests.

        Args:
          inputs: history_items, history_types, history_ages int [B, H], and int [B, n] a declared feature.
          text: float32 [B, E], the encoded query; 0 where there is none.
          training: whether dropout is on.

        Returns:
          float32 [B, dimension].
        """
        vector = self.history(
            inputs["history_items"],
            inputs["history_types"],
            inputs["history_ages"],
            training=training,
        )
        vector += self.text_scale * self.text(text)
        return vector + self.features(inputs, tf.shape(text)[0]) + self.bias
