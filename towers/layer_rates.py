"""Step sizes of the encoder's layers, smaller the deeper a layer lies."""

from typing import Any

import keras_hub

from towers.packed import stages


def encoder_scales(encoder: Any, scale: float, decay: float) -> dict[str, float]:
    """What the learning rate is multiplied by, after Howard & Ruder 2018, "Universal language model fine-tuning".

    scale * decay ^ n for the n-th transformer layer from the top, from 0, and for the embeddings below them all.

    Args:
      encoder: a `TextEncoder`; layers are told apart in a BERT only, others have the same scale everywhere.
      scale: of the top layer.
      decay: from a layer to the one below it.

    Returns:
      Path of each trained variable of the encoder -> its scale.
    """
    scales = {variable.path: scale for variable in encoder.trainable_variables}
    if isinstance(encoder.backbone, keras_hub.models.BertBackbone):
        for depth, layers in enumerate(reversed(stages(encoder.backbone))):
            for layer in layers:
                scales |= {
                    weight.path: scale * decay**depth for weight in layer.weights if weight.path in scales
                }
    return scales
