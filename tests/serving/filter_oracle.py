"""What filters let through, one item and one request at a time."""

import math
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2

from serving.loaded_bundle import LoadedBundle
from serving.predict import models_refusals, pack_answer, read_question
from serving.request_inputs import Limits
from tests.serving.conftest import Shop

NAN = math.nan
HISTORY = [["sku-3", "sku-50", "sku-3", "gone"]]
LOVED = [["loved", "loved", "view", "loved"]]  # a bonus of 2 each


def predict(
    bundle: LoadedBundle, request: predict_pb2.PredictRequest, run: Any = None
) -> predict_pb2.PredictResponse:
    """What the server does between message and message; `run` instead of the bundle's."""
    question = read_question(bundle, request, Limits())
    with models_refusals(question.signature):
        outputs = (run or bundle.run)(question.signature, question.inputs)
    answer = pack_answer("retrieval", bundle.manifest.version, question, outputs)
    return predict_pb2.PredictResponse.FromString(answer)


def passes(item: dict[str, Any], filters: dict[str, Any], history: list[str]) -> bool:
    """The rules, one item and one request at a time."""

    def levels(path: str) -> list[str]:
        return [level.strip() for level in path.split(">") if level.strip()]

    categories = [levels(path) for path in filters.get("filter_category", []) if path]
    brands = [brand for brand in filters.get("filter_brand", []) if brand]
    least, most = filters.get("filter_price", (NAN, NAN))
    only = [item_id for item_id in filters.get("filter_item_ids", []) if item_id]
    own = levels(item["category"])
    return (
        (not categories or any(path and own[: len(path)] == path for path in categories))
        and (not brands or item["brand"] in brands)
        and (math.isnan(least) or item["price"] >= least)
        and (math.isnan(most) or item["price"] <= most)
        and (not only or item["item_id"] in only)
        and item["item_id"] not in filters.get("exclude_item_ids", [])
        and not (filters.get("exclude_history") and item["item_id"] in history)
    )


def best(shop: Shop, filters: dict[str, Any], **query: list[Any]) -> list[tuple[str, float]]:
    """The best 20 that pass, with the bonus of the history, in float64."""
    scores = shop.catalogue.vectors.astype(np.float64) @ shop.embed_queries(**query)[0]
    history = query.get("history_item_ids", [[]])[0]
    loved = {
        i
        for i, how in zip(history, query.get("history_event_types", [[]])[0], strict=False)
        if how == "loved"
    }
    rows = [dict(zip(shop.items, values, strict=True)) for values in zip(*shop.items.values(), strict=True)]
    passing = [
        (row["item_id"], score + 2.0 * (row["item_id"] in loved))
        for row, score in zip(rows, scores, strict=True)
        if passes(row, filters, history)
    ]
    return sorted(passing, key=lambda pair: -pair[1])[:20]


def expected(shop: Shop, filters: dict[str, Any], **query: list[Any]) -> dict[str, Any]:
    """The same, as `answered` is to be."""
    return best_20(best(shop, filters, **query))


def tensors(filters: dict[str, Any]) -> dict[str, Any]:
    """Inputs of a batch of one."""
    given: dict[str, Any] = {}
    for name, value in filters.items():
        if name == "exclude_history":
            given[name] = np.array([value])
        elif name == "filter_price":
            given[name] = np.array([value], np.float32)
        else:
            given[name] = tf.reshape(tf.constant(value, tf.string), [1, -1])
    return {name: tf.make_tensor_proto(value) for name, value in given.items()}


def answered(answer: Any, row: int = 0) -> dict[str, list[Any]]:
    """One row of an answer: its ids, the scores of items, and those of the places that no item fills."""
    ids = [item.decode() for item in tf.make_ndarray(answer.outputs["item_ids"])[row]]
    scores = tf.make_ndarray(answer.outputs["scores"])[row].tolist()
    filled = len([item for item in ids if item])
    return {"ids": ids, "scores": scores[:filled], "rest": scores[filled:]}


def best_20(wanted: list[tuple[str, float]]) -> dict[str, Any]:
    """What `answered` is to be; scores to 1e-4."""
    rest = 20 - len(wanted)
    return {
        "ids": [item for item, _ in wanted] + [""] * rest,
        "scores": pytest.approx([score for _, score in wanted], rel=1e-4, abs=1e-5),
        "rest": [float(np.finfo(np.float32).min)] * rest,
    }
