"""A small shop, and small towers with the real ones' signatures: serving is tested without training."""

import functools
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import grpc
import numpy as np
import pyarrow as pa
import pytest
import tensorflow as tf
import tensorflow_text as tf_text
from pyarrow import parquet
from tensorflow.core.framework.tensor_pb2 import TensorProto
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

from serving import server as servers
from serving.bundle import publish
from serving.client import wait_until_available
from serving.item_attributes import attribute_columns, attribute_schema
from serving.settings import IndexSettings
from serving.write_bundle import Catalogue, write_bundle
from transform.features import item_inputs, query_inputs
from transform.settings import Feature, FeatureSettings

DIMENSION = 8
FEATURES = FeatureSettings(
    user=(Feature(name="segment", kind="category"),), context=(Feature(name="basket", kind="number"),)
)
COLOURS = ("red", "blue", "green", "white", "black", "pink")
THINGS = ("mug", "lamp", "candle", "box", "plate", "clock", "bowl", "vase", "tray", "frame")


class Towers(tf.Module):
    """Sums of words and of known items; a vocabulary file and a tf.Text tokenizer as the real towers have."""

    def __init__(self, vocabulary_file: str, rows: int, seed: int) -> None:
        super().__init__()
        random = np.random.default_rng(seed)
        self.words = tf.Variable(random.normal(size=(512, DIMENSION)), dtype=tf.float32)
        self.items = tf.Variable(random.normal(size=(rows + 1, DIMENSION)), dtype=tf.float32)
        self.tokenizer = tf_text.WhitespaceTokenizer()
        self.table = tf.lookup.StaticHashTable(
            tf.lookup.TextFileInitializer(
                vocabulary_file,
                tf.string,
                tf.lookup.TextFileIndex.WHOLE_LINE,
                tf.int64,
                tf.lookup.TextFileIndex.LINE_NUMBER,
            ),
            default_value=-1,
        )

    def text(self, strings: tf.Tensor) -> tf.Tensor:
        words = self.tokenizer.tokenize(tf.strings.lower(strings))
        rows = tf.ragged.map_flat_values(tf.strings.to_hash_bucket_fast, words, 512)
        return tf.reduce_sum(tf.ragged.map_flat_values(lambda r: tf.gather(self.words, r), rows), axis=1)

    def ids(self, ids: tf.Tensor) -> tf.Tensor:
        known = self.table.lookup(ids) + 1
        return tf.gather(self.items, known) * tf.cast(known > 0, tf.float32)[..., tf.newaxis]

    def embed_query(self, **inputs: tf.Tensor) -> dict[str, tf.Tensor]:
        ages = inputs["history_ages"]
        ages = tf.where(tf.math.is_nan(ages) | (ages < 0), 30.0, ages)
        weight = tf.exp(-ages / 30.0) * tf.where(inputs["history_event_types"] == "purchase", 1.0, 0.5)
        history = tf.reduce_sum(self.ids(inputs["history_item_ids"]) * weight[..., tf.newaxis], axis=1)
        basket = tf.where(tf.math.is_nan(inputs["basket"]), 0.0, inputs["basket"])
        vector = self.text(inputs["query"]) + history + self.text(inputs["segment"])
        return {"embedding": vector + 0.01 * basket[:, tf.newaxis], "history_bonus": self.bonus(inputs)}

    def bonus(self, inputs: dict[str, tf.Tensor]) -> tf.Tensor:
        """2 for every known history item of type "loved", where it comes first."""
        ids, loved = inputs["history_item_ids"], inputs["history_event_types"] == "loved"
        same = tf.cast(tf.equal(ids[:, :, tf.newaxis], ids[:, tf.newaxis, :]), tf.float32)
        first = tf.reduce_sum(tf.linalg.band_part(same, -1, 0), axis=2) <= 1.0
        return 2.0 * tf.cast(first & loved & (self.table.lookup(ids) >= 0), tf.float32)

    def embed_item(self, **inputs: tf.Tensor) -> dict[str, tf.Tensor]:
        words = tf.strings.join([inputs["title"], inputs["brand"], inputs["category"]], " ")
        price = tf.where(tf.math.is_nan(inputs["price"]), 0.0, inputs["price"])
        return {"embedding": self.text(words) + self.ids(inputs["item_id"]) + 0.01 * price[:, tf.newaxis]}


@functools.cache
def load_model(directory: str) -> Any:
    """A SavedModel, loaded once a test session."""
    return tf.saved_model.load(directory)


class Shop(NamedTuple):
    """What the tests know about the small shop.

    Attributes:
      towers_dir: SavedModel with embed_query and embed_item.
      bundle_dir: a sealed bundle of it.
      catalogue: its items.
      items: dense item inputs, name -> array.
    """

    towers_dir: str
    bundle_dir: str
    catalogue: Catalogue
    items: dict[str, np.ndarray]

    def embed_queries(self, **inputs: object) -> np.ndarray:
        """Query vectors straight from the towers, in float64; absent inputs are filled in."""
        model = load_model(self.towers_dir)
        rows = max(len(value) for value in inputs.values())  # type: ignore[arg-type]
        length = len(inputs.get("history_item_ids", [[]])[0])  # type: ignore[index]
        feed = {}
        for name, spec in query_inputs(FEATURES).items():
            empty = np.full((rows, length)[: spec.rank], "" if spec.dtype == "string" else np.nan, object)
            feed[name] = tf.constant(inputs.get(name, empty.tolist() if empty.size else empty), spec.dtype)
            feed[name] = tf.reshape(feed[name], (rows, length)[: spec.rank])
        return model.signatures["embed_query"](**feed)["embedding"].numpy().astype(np.float64)

    def best(self, vector: np.ndarray, k: int = 10) -> list[str]:
        """Ids of the largest inner products, by a matrix product in float64."""
        scores = self.catalogue.vectors.astype(np.float64) @ vector
        return [self.catalogue.item_ids[row] for row in np.argsort(-scores, kind="stable")[:k]]


def make_items() -> dict[str, np.ndarray]:
    """60 items: every colour of every thing."""
    titles = [f"{colour} {thing}" for thing in THINGS for colour in COLOURS]
    count = len(titles)
    return {
        "item_id": np.array(sorted(f"sku-{number}" for number in range(count)), object),
        "title": np.array(titles, object),
        "brand": np.array(["acme" if n % 3 else "" for n in range(count)], object),
        "category": np.array([f"home > {title.split()[1]}s" for title in titles], object),
        "price": np.array([np.nan if n % 7 == 0 else 1.0 + n for n in range(count)], np.float32),
    }


def save_towers(directory: Path, seed: int) -> str:
    """Writes the SavedModel of `Towers`."""
    items = make_items()
    known = directory.parent / f"{directory.name}-vocabulary.txt"
    known.write_text("".join(f"{item}\n" for item in items["item_id"][:-6]))  # the last six are new items
    towers = Towers(str(known), len(items["item_id"]) - 6, seed)
    specs = [
        {name: tf.TensorSpec([None] * spec.rank, spec.dtype, name) for name, spec in inputs.items()}
        for inputs in (query_inputs(FEATURES), item_inputs(FEATURES))
    ]
    signatures = {
        name: tf.function(getattr(towers, name)).get_concrete_function(**spec)
        for name, spec in zip(("embed_query", "embed_item"), specs, strict=True)
    }
    tf.saved_model.save(towers, str(directory), signatures=signatures)
    known.unlink()  # the SavedModel must stand alone
    return str(directory)


def save_attributes(items: dict[str, np.ndarray], path: Path) -> str:
    """Writes the declared features of items as CatalogIndexer does."""
    kinds = {feature.name: feature.kind for feature in FEATURES.item}
    inputs = {
        name: items[name] if kind == "number" else np.array([v.encode() for v in items[name]], object)
        for name, kind in kinds.items()
    }
    columns = attribute_columns(inputs, kinds)
    parquet.write_table(pa.Table.from_arrays(columns, schema=attribute_schema(kinds)), path)
    return str(path)


def make_shop(directory: Path, seed: int = 0, settings: IndexSettings | None = None) -> Shop:
    """Towers, catalogue and a sealed bundle in a directory."""
    directory.mkdir(parents=True, exist_ok=True)
    towers_dir = save_towers(directory / "towers", seed)
    items = make_items()
    embed = load_model(towers_dir).signatures["embed_item"]
    vectors = embed(**{name: tf.constant(value) for name, value in items.items()})["embedding"].numpy()
    catalogue = Catalogue(list(items["item_id"]), list(items["title"]), list(items["category"]), vectors)
    state = directory / "training_state"
    state.mkdir()
    (state / "step.json").write_text("{}")
    write_bundle(
        towers_dir,
        catalogue,
        str(directory / "bundle"),
        settings or IndexSettings(k=20),
        spans=(1, 2),
        trained_until=86400,
        training_state=str(state),
        attributes=save_attributes(items, directory / "item_attributes.parquet"),
    )
    return Shop(towers_dir, str(directory / "bundle"), catalogue, items)


@pytest.fixture(scope="session")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    """A shop whose bundle answers 20 items."""
    yield make_shop(tmp_path_factory.mktemp("shop"))
    load_model.cache_clear()  # TensorFlow complains about what is left when the interpreter ends


@pytest.fixture(scope="session")
def other_shop(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    """The same items after another training: other vectors."""
    return make_shop(tmp_path_factory.mktemp("other_shop"), seed=1)


@pytest.fixture
def push_dir(shop: Shop, tmp_path: Path) -> Iterator[Path]:
    """A push directory with version 1."""
    publish(shop.bundle_dir, tmp_path / "push", 1)
    yield tmp_path / "push"


@pytest.fixture(scope="session")
def address(shop: Shop, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    push_dir = tmp_path_factory.mktemp("push")
    publish(shop.bundle_dir, push_dir, 7)
    server = servers.start(push_dir, 0, poll_seconds=0.05)
    wait_until_available(f"127.0.0.1:{server.port}")
    yield f"127.0.0.1:{server.port}"
    server.stop()


@pytest.fixture(scope="session")
def stub(address: str) -> Iterator[prediction_service_pb2_grpc.PredictionServiceStub]:
    with grpc.insecure_channel(address) as channel:
        yield prediction_service_pb2_grpc.PredictionServiceStub(channel)


def request_of(signature: str = "", *, name: str = "retrieval", **inputs) -> predict_pb2.PredictRequest:
    request = predict_pb2.PredictRequest()
    request.model_spec.name = name
    request.model_spec.signature_name = signature
    for key, value in inputs.items():
        request.inputs[key].CopyFrom(value if isinstance(value, TensorProto) else tf.make_tensor_proto(value))
    return request


def wait_for(condition: Callable[[], object], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)
