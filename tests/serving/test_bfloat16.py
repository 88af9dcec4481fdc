"""The encoder's kernels in bfloat16: its products are rounded as NumPy says, and nothing else is."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from numpy.typing import NDArray
from tensorflow.core.protobuf import saved_model_pb2

from serving.bfloat16 import multiplies_bfloat16
from serving.model_session import ModelSession
from tests.tiny_encoder import write_tiny_preset
from towers.encoder import load_encoder
from towers.settings import EncoderSettings


def rounded(values: NDArray[Any]) -> NDArray[np.float64]:
    return values.astype(tf.bfloat16.as_numpy_dtype).astype(np.float64)


class Products(tf.Module):
    """Products in the encoder's scope and beside it, and other uses of the encoder's kernels."""

    def __init__(self) -> None:
        super().__init__()
        random = np.random.default_rng(5)
        self.heads = tf.Variable(random.normal(size=(4, 2, 3)), dtype=tf.float32, name="heads")
        self.square = tf.Variable(random.normal(size=(4, 4)), dtype=tf.float32, name="square")
        self.plain = tf.Variable(random.normal(size=(4, 4)), dtype=tf.float32, name="plain")

    @tf.function
    def encode(self, x: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        with tf.name_scope("encoder"):
            squared = tf.matmul(tf.matmul(x, self.square), self.square)
            return squared, tf.einsum("ab,bcd->acd", x, self.heads)

    def once(self, x: tf.Tensor) -> tf.Tensor:
        with tf.name_scope("encoder"):
            return tf.matmul(x, self.square)

    @tf.function(input_signature=[tf.TensorSpec([None, 4], tf.float32, name="x")])
    def serve(self, x: tf.Tensor) -> dict[str, tf.Tensor]:
        squared, heads = self.encode(x)
        with tf.name_scope("tower"):
            plain = tf.matmul(x, self.plain)
        batched = self.once(x[tf.newaxis])[0]
        with tf.control_dependencies([tf.no_op()]):
            chosen = tf.cond(tf.shape(x)[0] > 2, lambda: self.once(x), lambda: x)
        looped = tf.map_fn(lambda rows: self.encode(rows)[0], tf.reshape(x, [-1, 2, 4]))
        return {
            "squared": squared,
            "heads": heads,
            "plain": plain,
            "looped": tf.reshape(looped, [-1, 4]),
            "batched": batched,
            "chosen": chosen,
            "added": x + self.square[0],
            "read": self.heads.read_value(),
        }


@pytest.fixture(scope="module")
def products(tmp_path_factory: pytest.TempPathFactory) -> tuple[Products, Path]:
    module, path = Products(), tmp_path_factory.mktemp("products")
    tf.saved_model.save(module, str(path), signatures={"serve": module.serve})
    return module, path


def return_directly(path: Path, copy: Path) -> Path:
    """The same SavedModel, whose functions return what they compute without an Identity between."""
    shutil.copytree(path, copy)
    stored = saved_model_pb2.SavedModel.FromString((path / "saved_model.pb").read_bytes())
    for function in stored.meta_graphs[0].graph_def.library.function:
        nodes = {node.name: node for node in function.node_def}
        for name, output in function.ret.items():
            node = nodes.get(output.split(":")[0])
            while node is not None and node.op == "Identity":
                output = function.ret[name] = node.input[0]
                node = nodes.get(output.split(":")[0])
    (copy / "saved_model.pb").write_bytes(stored.SerializeToString())
    return copy


@pytest.mark.parametrize("is_direct", [False, True])
def test_products_of_the_encoder_are_rounded_and_nothing_else_is(
    products: tuple[Products, Path], tmp_path: Path, is_direct: bool
) -> None:
    module, path = products
    if is_direct:
        path = return_directly(path, tmp_path / "direct")
    x = np.random.default_rng(6).normal(size=(6, 4)).astype(np.float32)
    heads, square, plain = (v.numpy() for v in (module.heads, module.square, module.plain))
    once = rounded(rounded(x) @ rounded(square))
    expected = {
        "squared": rounded(once @ rounded(square)),
        "heads": rounded(np.einsum("ab,bcd->acd", rounded(x), rounded(heads))),
        "plain": x.astype(np.float64) @ plain.astype(np.float64),
        "looped": rounded(once @ rounded(square)),
        "batched": once,
        "chosen": once,
        "added": x + rounded(square)[0],
        "read": rounded(heads),
    }
    found = ModelSession(path, bfloat16=True).run("serve", {"x": x})
    whole = ModelSession(path).run("serve", {"x": x})
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        close = 0.03 if name in ("looped", "chosen") else 1e-5  # there TensorFlow adds up in bfloat16
        np.testing.assert_allclose(found[name], value, rtol=close, atol=1e-6, err_msg=name)
        same = np.allclose(whole[name], value, rtol=1e-5, atol=1e-6)
        assert same == (name == "plain"), f"{name} cannot tell bfloat16 from float32"


def test_every_kernel_of_an_encoders_layers_is_held_so_and_vectors_hardly_differ(tmp_path: Path) -> None:
    layers = 3
    preset = write_tiny_preset(tmp_path / "preset", hidden=32, layers=layers)
    encoder = load_encoder(EncoderSettings(preset=preset), "float32")
    tokens = np.array([[2, 7, 9, 3, 0, 0], [2, 5, 3, 0, 0, 0], [2, 8, 6, 5, 4, 3], [0] * 6], np.int32)
    module = tf.Module()
    module.encoder = encoder
    module.encode = tf.function(
        lambda token_ids: {"embedding": encoder(token_ids)},
        input_signature=[tf.TensorSpec([None, None], tf.int32, name="token_ids")],
    )
    tf.saved_model.save(module, str(tmp_path / "towers"))
    towers = tf.saved_model.load(str(tmp_path / "towers"))  # as a bundle's model is made of the Trainer's
    tf.saved_model.save(towers, str(tmp_path / "model"), signatures={"encode": towers.encode})
    whole, half = (ModelSession(tmp_path / "model", bfloat16=each) for each in (False, True))
    made = [session.run("encode", {"token_ids": tokens})["embedding"] for session in (whole, half)]
    cosine = (made[0] * made[1]).sum(axis=1)
    assert (cosine[:3] > 0.9995).all()
    assert not np.allclose(made[0], made[1], atol=1e-6)
    assert not made[1][3].any()
    kernels = [
        v for v in encoder.backbone.variables if "transformer_layer" in v.path and v.path.endswith("kernel")
    ]
    nodes = half._session.graph.as_graph_def().node
    held = [node.attr["dtype"].type for node in nodes if node.op == "VarHandleOp"]
    assert held.count(tf.bfloat16.as_datatype_enum) == len(kernels) == 6 * layers


def test_processors_that_multiply_bfloat16_are_known_by_their_flags(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TF_ENABLE_ONEDNN_OPTS", raising=False)
    for flags, expected in (
        ("fpu avx512f avx512_bf16", True),
        ("fpu amx_bf16 amx_tile", True),
        ("fpu avx512f avx512_bf16x", False),
    ):
        (tmp_path / "cpuinfo").write_text(f"model name\t: a processor with avx512_bf16\nflags\t\t: {flags}\n")
        assert multiplies_bfloat16(tmp_path / "cpuinfo") is expected
    assert not multiplies_bfloat16(tmp_path / "not there")
    (tmp_path / "cpuinfo").write_text("flags\t\t: amx_bf16\n")
    for setting, expected in (("1", True), ("0", False)):  # 0: TensorFlow without oneDNN
        monkeypatch.setenv("TF_ENABLE_ONEDNN_OPTS", setting)
        assert multiplies_bfloat16(tmp_path / "cpuinfo") is expected
