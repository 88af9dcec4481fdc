"""An encoder preset on disk: a KerasHub directory, and tandem.json with what KerasHub does not keep."""

from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from transform.errors import TandemError

DESCRIPTION_FILE = "tandem.json"


class PresetDescription(BaseModel):
    """How the backbone's token vectors become one text vector, and where the weights are from."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    pooling: Literal["mean", "cls"] = Field(
        default="mean", description="Mean over the tokens, or the first token's vector."
    )
    activation: str | None = Field(
        default=None,
        description="The source's activation; KerasHub's BERT only knows gelu_approximate.",
    )
    layer_norm_epsilon: float | None = Field(
        default=None, description="The source's; KerasHub's BERT has 1e-12."
    )
    source: str | None = Field(default=None, description="Directory or package the weights are from.")
    sha256: str | None = Field(default=None, description="SHA-256 of the source's model.safetensors.")


def read_description(preset: str) -> PresetDescription:
    """Reads tandem.json; a preset that was not imported by Tandem has none and gets the defaults.

    Raises:
      TandemError: the directory is no KerasHub preset, or tandem.json is damaged.
    """
    directory = Path(preset)
    for name in ("config.json", "tokenizer.json"):
        if not (directory / name).is_file():
            raise TandemError(
                f"{preset}: {name} not found, expected the directory of a KerasHub preset;"
                " make one with `tandem encoder import SOURCE OUT` and name it in encoder.preset."
            )
    path = directory / DESCRIPTION_FILE
    if not path.is_file():
        return PresetDescription()
    try:
        return PresetDescription.model_validate_json(path.read_text(encoding="utf-8"))
    except (OSError, ValidationError) as error:
        detail = str(error).splitlines()[0]
        raise TandemError(f"{path}: not as Tandem writes it ({detail}); import the encoder again.") from None


def load_backbone(preset: str, dtype: Any = None) -> Any:
    """Loads the backbone with the source's own activation and layer-norm epsilon.

    Args:
      preset: directory of a KerasHub preset.
      dtype: a Keras dtype policy or its name, or None for the global policy.

    Raises:
      TandemError: the preset is missing or cannot be loaded.
    """
    import keras
    import keras_hub

    description = read_description(preset)
    options = {} if dtype is None else {"dtype": dtype}
    try:
        backbone = keras_hub.models.Backbone.from_preset(preset, **options)
    except (OSError, ValueError, KeyError) as error:
        detail = str(error).strip().splitlines()[0]
        raise TandemError(
            f"{preset}: KerasHub could not load it ({detail}); import the encoder again."
        ) from None
    for layer in getattr(backbone, "transformer_layers", []):
        if description.activation is not None:
            layer._feedforward_intermediate_dense.activation = activation(description.activation)
    if description.layer_norm_epsilon is not None:
        for layer in backbone._flatten_layers(include_self=False):
            if isinstance(layer, keras.layers.LayerNormalization):
                layer.epsilon = description.layer_norm_epsilon
    return backbone


def activation(name: str) -> Any:
    """Returns Keras' function of that name; gelu is the exact form, gelu_approximate the tanh form."""
    import keras

    if name == "gelu_approximate":
        return lambda x: keras.activations.gelu(x, approximate=True)
    return {"gelu": lambda x: keras.activations.gelu(x, approximate=False)}.get(
        name
    ) or keras.activations.get(name)
