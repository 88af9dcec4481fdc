"""`tandem encoder import`: turns a Hugging Face BERT into the KerasHub preset that both towers load."""

import os
import shutil
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from towers.encoder_reference import encode_reference
from towers.encoder_source import EncoderSource, read_source
from towers.preset import DESCRIPTION_FILE, PresetDescription, load_backbone
from transform.errors import TandemError

TOLERANCE = 1e-4  # largest difference of one vector component; what float32 leaves is below 1e-5
SENTENCES = ("red ceramic mug", "Women's running shoes, size 8.5 (blue)", "usb-c cable 2m 60w café")


class ImportedEncoder(NamedTuple):
    """What was written, and how far its vectors are from the source's.

    Attributes:
      preset: directory of the KerasHub preset.
      source: directory the weights were read from.
      dimension: length of a text vector.
      parameters: number of weights.
      difference: max |source - preset| over the components of the vectors of `SENTENCES`.
    """

    preset: Path
    source: Path
    dimension: int
    parameters: int
    difference: float


def import_encoder(source: str, out: str | Path) -> ImportedEncoder:
    """Writes the preset, checks its vectors against the source's, and only then gives it its name.

    Args:
      source: a Hugging Face BERT directory, or an installed package that holds one.
      out: directory to create.

    Raises:
      TandemError: the source cannot be used, `out` exists or cannot be written, or the vectors differ by
        more than `TOLERANCE`. Nothing is left behind.
    """
    out = Path(out)
    if out.exists():
        raise TandemError(
            f"{out}: exists already, expected a new directory; remove it or choose another name."
        )
    read = read_source(source)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.parent))
    except OSError as error:
        raise TandemError(
            f"{out}: cannot be written ({error.strerror}); choose a directory you may write to."
        ) from None
    try:
        backbone = _write_preset(read, source, temporary)
        difference = verify_preset(read, str(temporary))
        if not difference <= TOLERANCE:
            raise TandemError(
                f"{source}: vectors of the imported encoder differ from the source's by {difference:.1e},"
                f" expected at most {TOLERANCE:.0e}; this model needs something KerasHub's BERT does not do."
            )
        temporary.chmod(0o755)
        os.rename(temporary, out)
    except OSError as error:
        raise TandemError(
            f"{out}: cannot be written ({error.strerror or error}); free the disk or choose another directory."
        ) from None
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return ImportedEncoder(out, read.directory, backbone.hidden_dim, backbone.count_params(), difference)


def verify_preset(source: EncoderSource, preset: str, sentences: tuple[str, ...] = SENTENCES) -> float:
    """Encodes sentences with the preset and with the NumPy reference, and returns the largest difference.

    Args:
      source: the checkpoint the preset was made from.
      preset: directory of the preset.
      sentences: raw texts.

    Returns:
      max |a - b| over all components of the L2-normalised vectors.
    """
    from towers.encoder import load_encoder
    from towers.settings import EncoderSettings

    token_ids = tokenize(preset, sentences, limit=min(64, int(source.config["max_position_embeddings"])))
    encoder = load_encoder(EncoderSettings(preset=preset), dtype="float32")
    ours = np.asarray(encoder(token_ids), np.float64)
    theirs = encode_reference(source.tensors, source.config, token_ids, source.pooling)
    return float(np.abs(ours - theirs).max())


def tokenize(preset: str, texts: tuple[str, ...] | list[str], limit: int) -> np.ndarray:
    """Returns int32 [len(texts), limit]: start, word pieces, end, then 0."""
    import keras_hub

    tokenizer = keras_hub.models.Tokenizer.from_preset(preset)
    packer = keras_hub.layers.StartEndPacker(
        limit, tokenizer.start_token_id, tokenizer.end_token_id, pad_value=tokenizer.pad_token_id
    )
    return np.asarray(packer(tokenizer(list(texts))), np.int32)


def _write_preset(source: EncoderSource, name: str, directory: Path) -> Any:
    import keras_hub

    config = source.config
    backbone = keras_hub.models.BertBackbone(
        vocabulary_size=config["vocab_size"],
        num_layers=config["num_hidden_layers"],
        num_heads=config["num_attention_heads"],
        hidden_dim=config["hidden_size"],
        intermediate_dim=config["intermediate_size"],
        max_sequence_length=config["max_position_embeddings"],
        num_segments=config.get("type_vocab_size", 2),
        dropout=config.get("hidden_dropout_prob", 0.1),
        dtype="float32",
    )
    for variable in backbone.weights:
        variable.assign(_tensor_for(variable.path, variable.shape, source))
    backbone.save_to_preset(str(directory))
    tokens = (source.directory / "vocab.txt").read_text(encoding="utf-8").splitlines()
    absent = [token for token in ("[PAD]", "[UNK]", "[CLS]", "[SEP]") if token not in tokens]
    if absent or tokens[0] != "[PAD]":
        problem = f"{', '.join(absent)} missing" if absent else f"first token is {tokens[0]!r}"
        raise TandemError(
            f"{source.directory}/vocab.txt: {problem}, expected BERT's vocabulary with [PAD] first;"
            " give another encoder."
        )
    tokenizer = keras_hub.models.BertTokenizer(
        vocabulary=tokens, lowercase=source.lowercase, strip_accents=source.strip_accents
    )
    tokenizer.save_to_preset(str(directory))
    description = PresetDescription(
        pooling=source.pooling,
        activation=source.activation,
        layer_norm_epsilon=float(config.get("layer_norm_eps", 1e-12)),
        source=Path(name).name,
        sha256=source.sha256,
    )
    (directory / DESCRIPTION_FILE).write_text(description.model_dump_json(indent=2) + "\n", encoding="utf-8")
    load_backbone(str(directory), "float32")
    return backbone


_NAMES = {
    "token_embedding/embeddings": "embeddings.word_embeddings.weight",
    "position_embedding/embeddings": "embeddings.position_embeddings.weight",
    "segment_embedding/embeddings": "embeddings.token_type_embeddings.weight",
    "embeddings_layer_norm": "embeddings.LayerNorm",
    "self_attention_layer/query": "attention.self.query",
    "self_attention_layer/key": "attention.self.key",
    "self_attention_layer/value": "attention.self.value",
    "self_attention_layer/attention_output": "attention.output.dense",
    "self_attention_layer_norm": "attention.output.LayerNorm",
    "feedforward_intermediate_dense": "intermediate.dense",
    "feedforward_output_dense": "output.dense",
    "feedforward_layer_norm": "output.LayerNorm",
    "pooled_dense": "pooler.dense",
}


def source_name(path: str) -> str:
    """Returns the source's name of a KerasHub BERT variable.

    transformer_layer_3/self_attention_layer/query/kernel -> encoder.layer.3.attention.self.query.weight
    """
    if path in _NAMES:
        return _NAMES[path]
    prefix = ""
    if path.startswith("transformer_layer_"):
        layer, path = path.removeprefix("transformer_layer_").split("/", 1)
        prefix = f"encoder.layer.{layer}."
    layer_name, kind = path.rsplit("/", 1)
    return f"{prefix}{_NAMES[layer_name]}.{'weight' if kind == 'kernel' else kind}"


def _tensor_for(path: str, shape: tuple[int, ...], source: EncoderSource) -> np.ndarray:
    name = source_name(path)
    if name.startswith("pooler.") and name not in source.tensors:
        return np.zeros(shape, np.float32)  # only a classifier reads it; many sentence encoders ship none
    if name not in source.tensors:
        raise TandemError(
            f"{source.directory}/model.safetensors: tensor {name} missing,"
            " expected every weight of a BERT; give a complete checkpoint."
        )
    tensor = source.tensors[name]
    tensor = tensor.T if path.endswith("/kernel") else tensor
    if tensor.size != np.prod(shape):
        raise TandemError(
            f"{source.directory}/model.safetensors: tensor {name} holds {tensor.size} values,"
            f" config.json asks for {int(np.prod(shape))}; give weights and configuration of one model."
        )
    return tensor.reshape(shape)
