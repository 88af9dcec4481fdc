"""What two runs must have in common for one to go on from the other's training state."""

import hashlib
from pathlib import Path
from typing import Any

from towers.preset import read_description
from towers.settings import EncoderSettings, ModelSettings
from transform.features import AGE_BOUNDARIES_DAYS
from transform.settings import FeatureSettings


def describe_architecture(
    features: FeatureSettings, encoder: EncoderSettings, model: ModelSettings
) -> dict[str, Any]:
    """Returns names and plain values, ready for JSON."""
    trained: dict[str, Any] = {"weights": _fingerprint(encoder.preset), "trainable": encoder.trainable}
    if encoder.trainable == "lora":
        trained["lora_rank"] = encoder.lora_rank
    if encoder.tuning_steps:
        trained["tuned"] = True
    shape: dict[str, Any] = {"dimension": model.dimension, "normalize": model.normalize}
    if features.lexical_buckets:
        shape |= {
            "lexical_buckets": features.lexical_buckets,
            "lexical_dimension": model.lexical_dimension,
            "lexical_length": 1,  # of its vectors; those of pushes that do not say so have other lengths
        }
    if features.cooccurrence_items:
        shape["cooccurrence_dimension"] = model.cooccurrence_dimension
    if not model.item_ids:
        shape["item_ids"] = False
    return {
        "model": shape,
        "encoder": trained,
        "features": {
            "item_text": list(features.item_text),
            "item": {feature.name: feature.kind for feature in features.item},
            "user": {feature.name: feature.kind for feature in features.user},
            "context": {feature.name: feature.kind for feature in features.context},
            "number_buckets": features.number_buckets,
            "age_boundaries_days": [round(days, 6) for days in AGE_BOUNDARIES_DAYS],
        },
    }


def _fingerprint(preset: str) -> str:
    """SHA-256 of the encoder's weights, as imported or as they lie there."""
    known = read_description(preset).sha256
    if known is not None:
        return known
    digest = hashlib.sha256()
    for path in sorted(Path(preset).glob("*.weights.*")):
        digest.update(path.read_bytes())
    return digest.hexdigest()
