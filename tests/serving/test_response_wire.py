"""What is written as bytes is what protocol buffers would have written."""

from typing import Any

import hypothesis.extra.numpy as arrays
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st
from tensorflow_serving.apis.predict_pb2 import PredictResponse

from serving.response_wire import response_bytes

_SHAPES = arrays.array_shapes(min_dims=1, max_dims=2, min_side=0, max_side=5)
_NUMBERS = arrays.arrays(np.float32, _SHAPES)
# A length takes one byte up to 127, two up to 16,383.
_TEXTS = arrays.arrays(object, _SHAPES, elements=st.binary(max_size=200) | st.just(b"x" * 17_000))


@given(
    outputs=st.dictionaries(st.text(max_size=200), _NUMBERS | _TEXTS, max_size=3),
    model=st.text(max_size=5),
    version=st.integers(0, 2**63 - 1),
)
def test_reads_as_what_was_written(outputs: dict[str, Any], model: str, version: int) -> None:
    response = PredictResponse()
    written = response_bytes(model, "serving_default", version, outputs)
    assert response.ParseFromString(written) == len(written)
    spec = response.model_spec
    assert (spec.name, spec.signature_name, spec.version.value) == (model, "serving_default", version)
    assert set(response.outputs) == set(outputs)
    for name, array in outputs.items():
        tensor = response.outputs[name]
        is_number = array.dtype == np.float32
        assert tensor.dtype == (tf.float32 if is_number else tf.string).as_datatype_enum
        assert [dim.size for dim in tensor.tensor_shape.dim] == list(array.shape)
        values = np.array(tensor.float_val, np.float32) if is_number else list(tensor.string_val)
        assert len(values) == array.size and not tensor.tensor_content
        if is_number:
            assert values.tobytes() == array.tobytes()
        else:
            assert values == array.ravel().tolist()
        known = set(tensor.DESCRIPTOR.fields_by_name) - {"dtype", "tensor_shape", "float_val", "string_val"}
        assert not known & {field.name for field, _ in tensor.ListFields()}


@pytest.mark.parametrize("wrong", [np.array([1, 2]), np.array([1.5]), np.array(["text"])])
def test_an_array_of_another_kind_is_no_answer(wrong: Any) -> None:
    with pytest.raises(TypeError):
        response_bytes("retrieval", "serving_default", 1, {"scores": wrong})
