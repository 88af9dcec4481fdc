"""Tiny encoders for tests: a KerasHub preset and a Hugging Face BERT-like directory, the same each time."""

import json
from pathlib import Path

import numpy as np

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
WORDS = """
red blue green small large cotton wool silk shirt sock lamp chair table mug cup plate glass paper
box bag tea coffee milk bread rice pasta apple orange soap candle light heart star holder set of the
and for with ##s ##ed ##ing
""".split()  # noqa: SIM905
LETTERS = tuple("abcdefghijklmnopqrstuvwxyz0123456789")


def vocabulary(words=None):
    """Special tokens, whole words, then letters as starts and as continuations: no word is unknown."""
    words = dict.fromkeys((*(words or WORDS), *LETTERS, *(f"##{letter}" for letter in LETTERS)))
    return [*SPECIAL, *words]


def write_tiny_preset(directory, words=None, hidden=16, layers=2, seed=7):
    """Writes a KerasHub preset of a tiny BERT and its WordPiece tokenizer; returns the directory."""
    import keras_hub

    tokens = vocabulary(words)
    backbone = keras_hub.models.BertBackbone(
        vocabulary_size=len(tokens),
        num_layers=layers,
        num_heads=2,
        hidden_dim=hidden,
        intermediate_dim=2 * hidden,
        max_sequence_length=512,
        dropout=0.0,
    )
    random = np.random.default_rng(seed)
    for weight in backbone.weights:
        mean = 1.0 if weight.path.endswith("gamma") else 0.0
        weight.assign(
            random.normal(
                mean, 0.05 if weight.path.endswith(("gamma", "beta", "bias")) else 0.3, weight.shape
            )
        )
    tokenizer = keras_hub.models.BertTokenizer(vocabulary=tokens, lowercase=True, strip_accents=True)
    Path(directory).mkdir(parents=True, exist_ok=True)
    backbone.save_to_preset(str(directory))
    tokenizer.save_to_preset(str(directory))
    return str(directory)


def tiny_hf_tensors(tokens, hidden=16, layers=2, intermediate=32, positions=64, seed=11):
    """Random weights under Hugging Face's names: {name: float32 array}."""
    random = np.random.default_rng(seed)
    shapes = {
        "embeddings.word_embeddings.weight": (tokens, hidden),
        "embeddings.position_embeddings.weight": (positions, hidden),
        "embeddings.token_type_embeddings.weight": (2, hidden),
        "embeddings.LayerNorm.weight": (hidden,),
        "embeddings.LayerNorm.bias": (hidden,),
        "pooler.dense.weight": (hidden, hidden),
        "pooler.dense.bias": (hidden,),
    }
    for layer in range(layers):
        prefix = f"encoder.layer.{layer}."
        for name in (
            "attention.self.query",
            "attention.self.key",
            "attention.self.value",
            "attention.output.dense",
        ):
            shapes[f"{prefix}{name}.weight"] = (hidden, hidden)
            shapes[f"{prefix}{name}.bias"] = (hidden,)
        shapes[f"{prefix}intermediate.dense.weight"] = (intermediate, hidden)
        shapes[f"{prefix}intermediate.dense.bias"] = (intermediate,)
        shapes[f"{prefix}output.dense.weight"] = (hidden, intermediate)
        shapes[f"{prefix}output.dense.bias"] = (hidden,)
        for name in ("attention.output.LayerNorm", "output.LayerNorm"):
            shapes[f"{prefix}{name}.weight"] = (hidden,)
            shapes[f"{prefix}{name}.bias"] = (hidden,)
    tensors = {}
    for name, shape in shapes.items():
        mean = 1.0 if name.endswith("LayerNorm.weight") else 0.0
        tensors[name] = random.normal(mean, 0.3, shape).astype(np.float32)
    return tensors


def write_tiny_hf_bert(directory, dtype=np.float32, prefix="", pooling="mean", words=None, **config):
    """Writes a Hugging Face BERT directory as sentence-transformers does; returns the tensors.

    Args:
      dtype: of the stored tensors, np.float32 or np.float16.
      prefix: put before each tensor's name, as in checkpoints saved with a head ("bert.").
      pooling: "mean", "cls", or None to leave modules.json out.
      config: overrides of config.json.
    """
    from safetensors.numpy import save_file

    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    tokens = vocabulary(words)
    tensors = {name: value.astype(dtype) for name, value in tiny_hf_tensors(len(tokens)).items()}
    save_file({prefix + name: value for name, value in tensors.items()}, str(directory / "model.safetensors"))
    (directory / "vocab.txt").write_text("".join(f"{token}\n" for token in tokens), encoding="utf-8")
    values = {
        "architectures": ["BertModel"],
        "model_type": "bert",
        "hidden_act": "gelu",
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_attention_heads": 2,
        "num_hidden_layers": 2,
        "max_position_embeddings": 64,
        "type_vocab_size": 2,
        "layer_norm_eps": 1e-12,
        "position_embedding_type": "absolute",
        "hidden_dropout_prob": 0.1,
        "vocab_size": len(tokens),
        **config,
    }
    (directory / "config.json").write_text(json.dumps(values), encoding="utf-8")
    (directory / "tokenizer_config.json").write_text(json.dumps({"do_lower_case": True}), encoding="utf-8")
    if pooling is not None:
        names = [("", "Transformer"), ("1_Pooling", "Pooling"), ("2_Normalize", "Normalize")]
        modules = [
            {"idx": index, "name": str(index), "path": path, "type": f"sentence_transformers.models.{kind}"}
            for index, (path, kind) in enumerate(names)
        ]
        (directory / "modules.json").write_text(json.dumps(modules), encoding="utf-8")
        (directory / "1_Pooling").mkdir(exist_ok=True)
        (directory / "1_Pooling" / "config.json").write_text(
            json.dumps(
                {"pooling_mode_mean_tokens": pooling == "mean", "pooling_mode_cls_token": pooling == "cls"}
            ),
            encoding="utf-8",
        )
    return tensors
