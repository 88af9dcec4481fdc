"""What a changed catalogue must answer: every item embedded by the towers and compared, in float64."""

from typing import Any

import numpy as np
import tensorflow as tf

from serving.loaded_bundle import LoadedBundle
from tests.serving.conftest import FEATURES, Shop, load_model
from transform.features import query_inputs


class Client:
    """Someone who waits as long as it takes."""

    entrypoint = "GRPC"

    def time_remaining(self) -> float | None:
        return None

    def is_active(self) -> bool:
        return True


def embed_item(shop: Shop, item: dict[str, Any]) -> np.ndarray:
    """Straight from the towers, in float64."""
    feed = {name: tf.constant([item.get(name, "")]) for name in ("item_id", "title", "brand", "category")}
    feed["price"] = tf.constant([item.get("price", np.nan)], tf.float32)
    return (
        load_model(shop.towers_dir)
        .signatures["embed_item"](**feed)["embedding"]
        .numpy()[0]
        .astype(np.float64)
    )


def own_items(shop: Shop) -> dict[str, dict[str, Any]]:
    rows = (dict(zip(shop.items, values, strict=True)) for values in zip(*shop.items.values(), strict=True))
    return {
        row["item_id"]: {k: v if k != "price" else float(v) for k, v in row.items() if v != "" and v == v}
        for row in rows
    }


def inputs_of(query: str, history: tuple[str, ...] = ()) -> dict[str, np.ndarray]:
    """One request; what is in its history was loved."""
    inputs: dict[str, np.ndarray] = {}
    for name, spec in query_inputs(FEATURES).items():
        shape = (1, len(history))[: spec.rank]
        inputs[name] = np.full(shape, b"" if spec.dtype == "string" else np.nan, object)
        if spec.dtype != "string":
            inputs[name] = inputs[name].astype(np.float32)
    inputs["query"] = np.array([query.encode()], object)
    inputs["history_item_ids"] = np.array([[item.encode() for item in history]], object).reshape(1, -1)
    inputs["history_event_types"] = np.full((1, len(history)), b"loved", object)
    return inputs


def answers_as(
    bundle: LoadedBundle, live: dict[str, np.ndarray], query: str, history: tuple[str, ...] = ()
) -> bool:
    """Whether both ways of retrieval give the best 20 by inner product in float64, plus the bonus of the history's items."""
    inputs = inputs_of(query, history)
    embedded = bundle.run("embed_query", inputs)
    vector = embedded["embedding"][0].astype(np.float64)
    expected = {item_id: float(item @ vector) for item_id, item in live.items()}
    for item_id, bonus in zip(history, embedded["history_bonus"][0].tolist(), strict=True):
        if item_id in expected:
            expected[item_id] += bonus
    best = sorted(expected.values(), reverse=True)[:20]
    for signature in ("serving_default", "exact"):
        answer = bundle.run(signature, inputs)
        ids = [item_id.decode() for item_id in answer["item_ids"][0]]
        scores = [answer["scores"][0], [expected.get(i, np.nan) for i in ids]]
        if len(set(ids)) < len(ids) or len(ids) != len(best):
            return False
        if not np.allclose(scores, [best, best], rtol=1e-4, atol=1e-4):
            return False
    return True


def ids_of(bundle: LoadedBundle, query: str = "red mug") -> set[str]:
    return {item.decode() for item in bundle.run("serving_default", inputs_of(query))["item_ids"][0]}
