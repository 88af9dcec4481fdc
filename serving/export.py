"""The bundle's SavedModel: the trained towers, every item's vector, and the five signatures."""

import collections
import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from serving.history_bonus import add_bonus
from serving.inputs import EXAMPLES, input_specs, parse_dense
from serving.manifest import BundleError
from serving.metrics import METRICS, retrieval_metrics
from serving.related import RELATED, score_related
from transform.features import HISTORY_ITEM_IDS, ITEM_ID, KNOWN_POSITIVE_IDS, TARGET_ITEM_IDS

if TYPE_CHECKING:
    import tensorflow as tf

SIGNATURES = ("serving_default", "embed_query", "embed_item", "evaluate", RELATED)

# Scores held at once, in floats (64 MiB): a large batch is answered in blocks of requests.
_SCORES = 1 << 24
# Requests embedded at once by `evaluate`.
_BLOCK = 128


def export_bundle(
    towers_dir: str,
    item_ids: Sequence[str],
    item_vectors: NDArray[np.float32],
    out_dir: str,
    k: int,
) -> int:
    """Writes a SavedModel that any TensorFlow Serving with tf.Text loads.

    serving_default: query inputs -> `item_ids` string [B, k], `scores` float32 [B, k], exact, best first.
    embed_query: query inputs -> `embedding` float32 [B, D] and `history_bonus` float32 [B, H]; an item's score is the
      inner product of the vectors, plus the bonus at its place in `history_item_ids`.
    embed_item: item inputs -> `embedding` float32 [B, D].
    evaluate: `examples` string [B], serialised raw eval rows -> `METRICS`, float32 [B] each.
    related: `item_id` string [B] -> `item_ids` string [B, k], `scores` float32 [B, k], cosines, exact, best first, never
      the item itself; an id that is not in the catalogue is refused. k is one less where there are only k items.
    Beside the signatures, the function `parse_queries` turns serialised raw rows into query inputs.

    Args:
      towers_dir: SavedModel with signatures embed_query and embed_item over dense inputs.
      item_ids: N distinct ids; neither empty nor with a line break.
      item_vectors: float32 [N, D], in the same order.
      out_dir: where to write; must not hold a SavedModel.
      k: items a query is answered with.

    Returns:
      The k that was exported: no more than there are items.

    Raises:
      BundleError: the ids are not distinct, cannot be stored, or do not match the vectors.
    """
    import tensorflow as tf
    import tensorflow_text  # noqa: F401  registers the tokenizer's ops

    _check(item_ids, item_vectors)
    towers = tf.saved_model.load(towers_dir)
    module = tf.Module()
    module.towers = towers
    k = min(k, len(item_ids))
    ids_file = _write_ids(item_ids, os.path.join(out_dir, ".item_ids"))
    try:
        signatures = _add_functions(module, towers, item_ids, item_vectors, k, ids_file)
        tf.saved_model.save(module, out_dir, signatures=signatures)
    finally:
        os.remove(ids_file)
        os.rmdir(os.path.dirname(ids_file))
    return k


def _add_functions(
    module: Any,
    towers: Any,
    item_ids: Sequence[str],
    item_vectors: NDArray[np.float32],
    k: int,
    ids_file: str,
) -> dict[str, Any]:
    import tensorflow as tf

    embed_query, embed_item = towers.signatures["embed_query"], towers.signatures["embed_item"]
    queries = input_specs(embed_query)
    module.item_ids = tf.Variable(list(item_ids), dtype=tf.string, trainable=False, name="item_ids")
    module.item_vectors = tf.Variable(item_vectors, dtype=tf.float32, trainable=False, name="item_vectors")
    lengths = np.linalg.norm(item_vectors, axis=1)
    module.item_lengths = tf.Variable(lengths, dtype=tf.float32, trainable=False, name="item_lengths")
    module.rows = tf.lookup.StaticHashTable(
        tf.lookup.TextFileInitializer(
            ids_file,
            tf.string,
            tf.lookup.TextFileIndex.WHOLE_LINE,
            tf.int64,
            tf.lookup.TextFileIndex.LINE_NUMBER,
        ),
        default_value=-1,
    )
    count, dimension = item_vectors.shape

    def embed(inputs: "dict[str, tf.Tensor]") -> "dict[str, tf.Tensor]":
        embedded = embed_query(**inputs)
        return {
            "embedding": tf.ensure_shape(embedded["embedding"], [None, dimension]),
            "history_bonus": embedded["history_bonus"],
        }

    def score(request: "dict[str, tf.Tensor]") -> "tf.Tensor":
        scores = tf.matmul(request["embedding"], module.item_vectors, transpose_b=True)
        return add_bonus(scores, module.rows.lookup(request[HISTORY_ITEM_IDS]), request["history_bonus"])

    def top(request: "dict[str, tf.Tensor]") -> "dict[str, tf.Tensor]":
        scores, rows = tf.math.top_k(score(request), k)
        return {"item_ids": tf.gather(module.item_ids, rows), "scores": scores}

    def measure(request: "dict[str, tf.Tensor]") -> "dict[str, tf.Tensor]":
        examples = request[EXAMPLES]
        names = (TARGET_ITEM_IDS, KNOWN_POSITIVE_IDS)
        listed = tf.io.parse_example(
            examples, {name: tf.io.RaggedFeature(tf.string, row_splits_dtype=tf.int64) for name in names}
        )
        targets, excluded = (
            listed[name].with_flat_values(module.rows.lookup(listed[name].flat_values)) for name in names
        )
        inputs = parse_dense(examples, queries)
        scores = score(embed(inputs) | {HISTORY_ITEM_IDS: inputs[HISTORY_ITEM_IDS]})
        return retrieval_metrics(scores, targets, excluded)

    @tf.function(autograph=False)
    def serving_default(**inputs: "tf.Tensor") -> "dict[str, tf.Tensor]":
        out = {
            "item_ids": tf.TensorSpec([None, k], tf.string),
            "scores": tf.TensorSpec([None, k], tf.float32),
        }
        request = embed(inputs) | {HISTORY_ITEM_IDS: inputs[HISTORY_ITEM_IDS]}
        return _in_blocks(top, request, max(1, _SCORES // count), out)

    @tf.function(autograph=False)
    def query_embedding(**inputs: "tf.Tensor") -> "dict[str, tf.Tensor]":
        return embed(inputs)

    @tf.function(autograph=False)
    def item_embedding(**inputs: "tf.Tensor") -> "dict[str, tf.Tensor]":
        return {"embedding": tf.ensure_shape(embed_item(**inputs)["embedding"], [None, dimension])}

    @tf.function(autograph=False)
    def evaluate(examples: "tf.Tensor") -> "dict[str, tf.Tensor]":
        out = {name: tf.TensorSpec([None], tf.float32) for name in METRICS}
        return _in_blocks(measure, {EXAMPLES: examples}, min(_BLOCK, max(1, _SCORES // count)), out)

    def nearest(request: "dict[str, tf.Tensor]") -> "dict[str, tf.Tensor]":
        scores, rows = tf.math.top_k(score_related(module, request[ITEM_ID]), min(k, count - 1))
        return {"item_ids": tf.gather(module.item_ids, rows), "scores": scores}

    @tf.function(autograph=False)
    def related(item_id: "tf.Tensor") -> "dict[str, tf.Tensor]":
        unknown = tf.boolean_mask(item_id, module.rows.lookup(item_id) < 0)
        reason = ["input item_id holds", unknown, ", expected ids of items in the catalogue"]
        known = tf.debugging.Assert(tf.equal(tf.size(unknown), 0), reason)
        out = {
            "item_ids": tf.TensorSpec([None, min(k, count - 1)], tf.string),
            "scores": tf.TensorSpec([None, min(k, count - 1)], tf.float32),
        }
        with tf.control_dependencies([known]):
            return _in_blocks(nearest, {ITEM_ID: tf.identity(item_id)}, max(1, _SCORES // count), out)

    serialised = tf.TensorSpec([None], tf.string, name=EXAMPLES)
    module.parse_queries = tf.function(
        lambda examples: parse_dense(examples, queries), input_signature=[serialised], autograph=False
    )
    return {
        "serving_default": serving_default.get_concrete_function(**queries),
        "embed_query": query_embedding.get_concrete_function(**queries),
        "embed_item": item_embedding.get_concrete_function(**input_specs(embed_item)),
        "evaluate": evaluate.get_concrete_function(serialised),
        RELATED: related.get_concrete_function(tf.TensorSpec([None], tf.string, name=ITEM_ID)),
    }


def _in_blocks(
    function: "Callable[[dict[str, tf.Tensor]], dict[str, tf.Tensor]]",
    rows: "dict[str, tf.Tensor]",
    block: int,
    out: "dict[str, tf.TensorSpec]",
) -> "dict[str, tf.Tensor]":
    """Applies a function to at most `block` rows at a time, to bound memory, and joins what it returns."""
    import tensorflow as tf

    total = tf.shape(next(iter(rows.values())))[0]
    blocks = (total + block - 1) // block
    arrays = tuple(
        tf.TensorArray(spec.dtype, size=blocks, infer_shape=False, element_shape=spec.shape)
        for spec in out.values()
    )

    def step(index: "tf.Tensor", arrays: Any) -> Any:
        here = slice(index * block, tf.minimum(total, (index + 1) * block))
        result = function({name: value[here] for name, value in rows.items()})
        return index + 1, tuple(
            array.write(index, result[name]) for array, name in zip(arrays, out, strict=True)
        )

    _, arrays = tf.while_loop(lambda index, _: index < blocks, step, (0, arrays), parallel_iterations=1)
    return {name: array.concat() for name, array in zip(out, arrays, strict=True)}


def _check(item_ids: Sequence[str], item_vectors: NDArray[np.float32]) -> None:
    if item_vectors.ndim != 2 or len(item_ids) != len(item_vectors) or not len(item_ids):
        raise BundleError(
            f"received {len(item_ids)} item ids and vectors of shape {list(item_vectors.shape)},"
            " expected one vector for each of at least one item."
        )
    if len(set(item_ids)) != len(item_ids):
        twice = next(item for item, count in collections.Counter(item_ids).items() if count > 1)
        raise BundleError(f"item id {twice!r} is there twice, expected distinct ids: mend the items file.")
    for item in item_ids:
        if not item or "\n" in item or "\r" in item:
            raise BundleError(
                f"item id {item!r} is empty or holds a line break, expected one line: mend the items file."
            )


def _write_ids(item_ids: Sequence[str], directory: str) -> str:
    """One id a line, for the lookup table; saving copies it into `assets/`."""
    os.makedirs(directory, exist_ok=True)
    path = os.path.join(directory, "item_ids.txt")
    with open(path, "w", encoding="utf-8", newline="\n") as file:
        file.writelines(f"{item}\n" for item in item_ids)
    return path
