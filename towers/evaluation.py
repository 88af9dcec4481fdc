"""Full-corpus metrics of a model that is still in memory, for TensorBoard and the run's summary."""

from typing import Any

import numpy as np
import tensorflow as tf

from towers.catalogue import Catalogue
from towers.datasets import query_batches
from towers.examples import Requests
from towers.metrics import RetrievalMetrics, evaluate_retrieval
from towers.two_tower import TwoTower
from transform.features import HISTORY_ITEMS, KNOWN_POSITIVES, TARGET_ITEMS
from transform.settings import FeatureSettings


def evaluate_model(
    model: TwoTower, catalogue: Catalogue, requests: Requests, features: FeatureSettings
) -> dict[str, float]:
    """Full-corpus metrics of all rows of split eval, the evaluation views mixed as they come.

    The items that a view leaves out are no candidates. The Evaluator's figures, view by view, are the official ones.
    """
    return evaluate_requests(model, catalogue, requests, features).means()


def evaluate_requests(
    model: TwoTower, catalogue: Catalogue, requests: Requests, features: FeatureSettings
) -> RetrievalMetrics:
    """Full-corpus metrics of each row that has a target in the catalogue's vocabulary, in order.

    Args:
      model: built.
      catalogue: every item; all of them are candidates.
      requests: rows of split eval.
      features: declared features.
    """
    model.use_catalogue(catalogue, np.ones(len(catalogue.tokens), np.float32))
    embed_items = tf.function(model.embed_catalogue_items, autograph=False, reduce_retracing=True)
    embed_queries = tf.function(
        lambda batch: (model.embed_queries(batch), model.history_bonus(batch)),
        autograph=False,
        reduce_retracing=True,
    )
    items = np.concatenate(
        [
            embed_items(tf.constant(block)).numpy()
            for block in np.array_split(catalogue.items, _parts(catalogue))
        ]
    )
    vectors, bonus = [], []
    for batch in query_batches(requests, features):
        embedded, added = embed_queries({name: tf.constant(value) for name, value in batch.items()})
        vectors.append(embedded.numpy())
        for history, values in zip(batch[HISTORY_ITEMS], added.numpy(), strict=True):
            bonus.append((history[values > 0] - 1, values[values > 0]))
    queries = np.concatenate(vectors)
    targets, known = requests.columns[TARGET_ITEMS], requests.columns[KNOWN_POSITIVES]
    rows = np.flatnonzero(np.diff(targets.offsets))

    def of(column: Any, row: int) -> np.ndarray:
        return np.unique(column.values[column.offsets[row] : column.offsets[row + 1]]) - 1

    return evaluate_retrieval(
        queries[rows],
        items,
        [of(targets, row) for row in rows],
        [of(known, row) for row in rows],
        [bonus[row] for row in rows],
    )


def _parts(catalogue: Catalogue) -> int:
    return max(1, -(-len(catalogue.items) // 4096))
