"""Embeds the catalogue with Beam: items in, Parquet files of id, title, category, vector and attributes out."""

import os
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from types import MappingProxyType
from typing import Any

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from apache_beam.utils.shared import Shared
from numpy.typing import NDArray
from pyarrow import parquet

from serving.inputs import input_specs, parse_dense
from serving.item_attributes import attribute_columns, attribute_schema, write_attributes
from serving.manifest import BundleError
from serving.write_bundle import Catalogue
from towers.export import EMBED_ITEM_OF_TEXT, TEXT_VECTOR
from towers.item_rows import ItemRows
from towers.text_cache import has_texts, load_vectors
from transform.features import ITEM_ID, TITLE

# Items embedded at once: enough to keep the processor busy, small enough for any memory.
_BATCH = 256
_CATEGORY = "category"
_VECTOR = "vector"
_SCHEMA = pa.schema(
    [
        (ITEM_ID, pa.string()),
        (TITLE, pa.string()),
        (_CATEGORY, pa.string()),
        (_VECTOR, pa.list_(pa.float32())),
    ]
)
# What all items' texts are joined as: 64-bit offsets, since 2 GB of titles are some 40 million items.
_TEXTS = pa.schema([(name, pa.large_string()) for name in (ITEM_ID, TITLE, _CATEGORY)])


def embed_items(
    pipeline: beam.Pipeline,
    items_pattern: str,
    towers_dir: str,
    out_dir: str,
    text_columns: Sequence[str] = (TITLE,),
    state_dir: str | None = None,
    attributes: Mapping[str, str] = MappingProxyType({}),
) -> None:
    """Runs the pipeline: every stored item through `embed_item`.

    Items of one text come to the model together, because a text is encoded once a batch.

    Args:
      pipeline: a pipeline that was not run yet.
      items_pattern: TFRecord files of raw items, as InteractionGen writes them.
      towers_dir: SavedModel with signature embed_item; each worker loads it once.
      out_dir: where the Parquet files go.
      text_columns: what the encoder reads of an item.
      state_dir: training state of the towers; if it holds the catalogue's encoded texts, none is encoded again.
      attributes: name -> kind of the item inputs that are kept as they are, to be filtered on.
    """
    with pipeline as root:
        _ = (
            root
            | "ReadItems" >> beam.io.ReadFromTFRecord(items_pattern)
            | "KeyByText" >> beam.Map(_with_text, tuple(text_columns))
            | "SameTextTogether" >> beam.GroupByKey()
            | "DropText" >> beam.FlatMap(lambda group: group[1])
            | "BatchItems" >> beam.BatchElements(min_batch_size=_BATCH, max_batch_size=_BATCH)
            | "EmbedItems" >> beam.ParDo(_EmbedItems(towers_dir, state_dir, dict(attributes)))
            | "WriteVectors"
            >> beam.io.WriteToParquetBatched(
                os.path.join(out_dir, "items"), _schema(attributes), file_name_suffix=".parquet"
            )
        )


def read_embedded_items(directory: str) -> Catalogue:
    """Reads what `embed_items` wrote, ordered by item id.

    Raises:
      BundleError: there is no item, or an id is there twice.
    """
    files = _files(directory)
    tables = [parquet.read_table(file, columns=list(_TEXTS.names)).cast(_TEXTS) for file in files]
    count = sum(map(len, tables))
    if not count:
        raise BundleError("the examples hold no item, expected at least one in split 'items'.")
    texts = pa.concat_tables(tables)
    order = pc.sort_indices(texts[ITEM_ID])
    ids, titles, categories = (texts[name].take(order).to_pylist() for name in _TEXTS.names)
    for before, item in pairwise(ids):
        if before == item:
            raise BundleError(f"item id {item!r} is there twice, expected distinct ids: mend the items file.")
    row_of = np.empty(count, np.int64)
    row_of[order.to_numpy()] = np.arange(count)
    return Catalogue(ids, titles, categories, _read_vectors(files, row_of))


def _read_vectors(files: Sequence[str], row_of: NDArray[np.int64]) -> NDArray[np.float32]:
    """Puts the n-th vector of all files into row `row_of[n]`, batch by batch: a catalogue's vectors fill most of a machine."""
    vectors: NDArray[np.float32] = np.empty((0, 0), np.float32)
    done = 0
    for file in files:
        # Few at a time: Arrow keeps memory for as many as it ever had of them, several times over.
        for batch in parquet.ParquetFile(file).iter_batches(_BATCH, columns=[_VECTOR]):
            rows = batch.column(0).flatten().to_numpy().reshape(len(batch), -1)
            if not done:
                vectors = np.empty((len(row_of), rows.shape[1]), np.float32)
            vectors[row_of[done : done + len(batch)]] = rows
            done += len(batch)
    return vectors


def write_embedded_attributes(directory: str, path: str) -> str | None:
    """Writes the attributes out of what `embed_items` wrote, ordered by item id; none where there are none.

    Returns:
      `path`, or none.
    """
    files = _files(directory)
    return write_attributes(files, path) if files else None


def _files(directory: str) -> list[str]:
    return sorted(os.path.join(directory, name) for name in os.listdir(directory))


def _schema(attributes: Mapping[str, str]) -> pa.Schema:
    return pa.unify_schemas([_SCHEMA, attribute_schema(attributes)])


def _with_text(example: bytes, columns: Sequence[str]) -> tuple[bytes, bytes]:
    import tensorflow as tf

    feature = tf.train.Example.FromString(example).features.feature
    return b"\0".join(b"".join(feature[name].bytes_list.value) for name in columns), example


class _EmbedItems(beam.DoFn):
    """Serialised items -> one table a batch."""

    def __init__(self, towers_dir: str, state_dir: str | None, attributes: Mapping[str, str]) -> None:
        self._towers_dir = towers_dir
        self._state_dir = state_dir
        self._attributes = attributes
        self._shared = Shared()
        self._model: Any = None

    def setup(self) -> None:
        self._model = self._shared.acquire(
            lambda: _Model(self._towers_dir, self._state_dir, self._attributes)
        )

    def process(self, batch: Sequence[bytes]) -> Iterator[pa.Table]:
        yield self._model.embed(batch)


class _Model:
    """The loaded towers; a class of our own, because `Shared` keeps only a weak reference."""

    def __init__(self, towers_dir: str, state_dir: str | None, attributes: Mapping[str, str]) -> None:
        import tensorflow as tf
        import tensorflow_text  # noqa: F401  registers the tokenizer's ops

        self._attributes = attributes
        self._schema = _schema(attributes)
        self._towers = tf.saved_model.load(towers_dir)
        specs = input_specs(self._towers.signatures["embed_item"])
        self._texts = _Texts(state_dir) if state_dir is not None and has_texts(state_dir) else None
        self._signature = self._towers.signatures[EMBED_ITEM_OF_TEXT if self._texts else "embed_item"]
        self._parse = tf.function(
            lambda examples: parse_dense(examples, specs),
            input_signature=[tf.TensorSpec([None], tf.string)],
            autograph=False,
        )

    def embed(self, examples: Sequence[bytes]) -> pa.Table:
        inputs = self._parse(list(examples))
        known = {TEXT_VECTOR: self._texts.of(inputs[ITEM_ID].numpy())} if self._texts else {}
        vectors = self._signature(**inputs, **known)["embedding"].numpy().astype(np.float32)

        def strings(name: str) -> list[str]:
            values = inputs[name].numpy() if name in inputs else [b""] * len(examples)
            return [value.decode("utf-8") for value in values]

        offsets = pa.array(np.arange(len(examples) + 1, dtype=np.int32) * vectors.shape[1])
        columns = [
            pa.array(strings(ITEM_ID)),
            pa.array(strings(TITLE)),
            pa.array(strings(_CATEGORY)),
            pa.ListArray.from_arrays(offsets, pa.array(vectors.ravel())),
            *attribute_columns({name: inputs[name].numpy() for name in self._attributes}, self._attributes),
        ]
        return pa.Table.from_arrays(columns, schema=self._schema)


class _Texts:
    """The encoded texts of a training state, by item id; mapped from its files."""

    def __init__(self, state_dir: str) -> None:
        self._rows = ItemRows(state_dir)
        self._vectors = load_vectors(state_dir)

    def of(self, item_ids: Any) -> Any:
        """bytes [B] -> float32 [B, E]."""
        return np.asarray(self._vectors[self._rows.of(item_ids.tolist())])
