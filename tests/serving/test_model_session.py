"""A session answers as the SavedModel does, gives its memory back, and says what cannot be loaded."""

import gc
import shutil
import weakref
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2

from serving.inputs import no_value
from serving.manifest import BundleError
from serving.model_session import ModelSession
from serving.warmup import read_warmup_requests
from tests.serving.conftest import Shop, load_model


@pytest.fixture(scope="module")
def session(shop: Shop) -> ModelSession:
    return ModelSession(shop.bundle_dir)


def test_every_signature_takes_and_gives_what_the_saved_model_does(session: ModelSession, shop: Shop) -> None:
    signatures = load_model(shop.bundle_dir).signatures
    assert session.specs.keys() == session.signature_defs.keys() == set(signatures)
    for name, specs in session.specs.items():
        assert {n: (s.dtype, s.shape.rank) for n, s in specs.items()} == {
            n: (s.dtype, s.shape.rank) for n, s in signatures[name].structured_input_signature[1].items()
        }


@pytest.mark.parametrize("signature", ["serving_default", "embed_query", "embed_item"])
def test_answers_are_those_of_the_saved_model(session: ModelSession, shop: Shop, signature: str) -> None:
    inputs = {}
    for name, spec in session.specs[signature].items():
        shape = (3, 2)[: spec.shape.rank]
        inputs[name] = np.full(shape, no_value(spec.dtype), spec.dtype.as_numpy_dtype)
    for request in read_warmup_requests(shop.bundle_dir):
        for name, value in request.inputs.items():
            if name in inputs and inputs[name].ndim == 1:
                inputs[name][:] = tf.make_ndarray(value)[0]
    feed = {name: tf.constant(value) for name, value in inputs.items()}
    expected = load_model(shop.bundle_dir).signatures[signature](**feed)
    found = session.run(signature, inputs)
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        if value.dtype == tf.string:
            assert found[name].tolist() == value.numpy().tolist()
        else:
            np.testing.assert_allclose(found[name], value.numpy(), rtol=1e-5, atol=1e-6)


def test_variables_are_read(session: ModelSession, shop: Shop) -> None:
    assert session.variable("item_ids").tolist() == [item.encode() for item in shop.catalogue.item_ids]
    with pytest.raises(BundleError, match="no variable 'nothing'"):
        session.variable("nothing")


def test_a_session_goes_with_its_object(shop: Shop) -> None:
    session = ModelSession(shop.bundle_dir)
    inner = weakref.ref(session._session)
    del session
    gc.collect()
    assert inner() is None


def test_what_cannot_be_loaded_is_said(shop: Shop, tmp_path: Path) -> None:
    bundle = tmp_path / "bundle"
    shutil.copytree(shop.bundle_dir, bundle)
    shutil.rmtree(bundle / "variables")
    with pytest.raises(BundleError, match="cannot be loaded.*push it again"):
        ModelSession(bundle)
    stored = saved_model_pb2.SavedModel.FromString((bundle / "saved_model.pb").read_bytes())
    nodes = stored.meta_graphs[0].graph_def.node
    del nodes[next(n for n, node in enumerate(nodes) if node.op == "VarHandleOp")]  # others take from it
    (bundle / "saved_model.pb").write_bytes(stored.SerializeToString())
    with pytest.raises(BundleError, match="cannot be loaded.*push it again"):
        ModelSession(bundle)
    (bundle / "saved_model.pb").write_bytes(b"graph")
    with pytest.raises(BundleError, match="cannot be loaded.*push it again"):
        ModelSession(bundle)
    (bundle / "saved_model.pb").unlink()
    with pytest.raises(BundleError, match="cannot be loaded.*push it again"):
        ModelSession(bundle)
