"""Dense inputs of a signature: their specs, what stands for "no value", how stored examples become them."""

import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import tensorflow as tf
    from tensorflow.core.protobuf.meta_graph_pb2 import SignatureDef

# The input of signature `evaluate`: serialised examples, bytes rather than text.
EXAMPLES = "examples"


def input_specs(signature: Any) -> "dict[str, tf.TensorSpec]":
    """Name -> `tf.TensorSpec` of what a loaded SavedModel's signature takes, in alphabetical order."""
    return dict(sorted(signature.structured_input_signature[1].items()))


def stored_input_specs(saved_model_dir: str, signature: str) -> "dict[str, tf.TensorSpec]":
    """The same, read from a SavedModel's file without loading the model."""
    from tensorflow.core.protobuf import saved_model_pb2

    with open(os.path.join(saved_model_dir, "saved_model.pb"), "rb") as file:
        model = saved_model_pb2.SavedModel.FromString(file.read())
    return signature_specs(model.meta_graphs[0].signature_def[signature])


def signature_specs(definition: "SignatureDef") -> "dict[str, tf.TensorSpec]":
    """The same of a stored signature."""
    import tensorflow as tf

    return {
        name: tf.TensorSpec(tf.TensorShape(info.tensor_shape), tf.dtypes.as_dtype(info.dtype), name)
        for name, info in sorted(definition.inputs.items())
    }


def no_value(dtype: Any) -> Any:
    """What a client may send, and what is filled in, where there is no value: "", NaN or false.

    Raises:
      ValueError: the dtype is neither string nor float32 nor bool.
    """
    import tensorflow as tf

    if dtype == tf.string:
        return b""
    if dtype == tf.float32:
        return float("nan")
    if dtype == tf.bool:
        return False
    raise ValueError(f"dtype is {dtype}, expected string, float32 or bool: dense inputs know no other")


def parse_dense(examples: "tf.Tensor", specs: "dict[str, tf.TensorSpec]") -> "dict[str, tf.Tensor]":
    """Reads stored examples into dense inputs; an absent value becomes `no_value`.

    Args:
      examples: string [B], serialised `tf.Example` as InteractionGen writes them.
      specs: inputs to make, [B] or [B, n] each.

    Returns:
      Name -> tensor of its spec's dtype and rank.
    """
    import tensorflow as tf

    features = {
        name: tf.io.RaggedFeature(spec.dtype, row_splits_dtype=tf.int64) for name, spec in specs.items()
    }
    parsed = tf.io.parse_example(examples, features)
    dense = {}
    for name, spec in specs.items():
        absent = tf.constant(no_value(spec.dtype), spec.dtype)
        if spec.shape.rank == 1:
            dense[name] = parsed[name].to_tensor(absent, shape=[None, 1])[:, 0]
        else:
            dense[name] = parsed[name].to_tensor(absent)
    return dense
