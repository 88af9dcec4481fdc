"""Full-corpus metrics of a model that is still in memory, for TensorBoard and the run's summary."""

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
    queries, items, bonus = embed_all(model, catalogue, requests, features)
    rows = np.flatnonzero(np.diff(requests.columns[TARGET_ITEMS].offsets))
    targets, known = (items_of(requests, name, rows) for name in (TARGET_ITEMS, KNOWN_POSITIVES))
    return evaluate_retrieval(queries[rows], items, targets, known, [bonus[row] for row in rows])


def embed_all(
    model: TwoTower, catalogue: Catalogue, requests: Requests, features: FeatureSettings
) -> tuple[np.ndarray, np.ndarray, list[tuple[np.ndarray, np.ndarray]]]:
    """Embeds requests and the whole catalogue.

    Returns:
      float32 [R, D]; float32 [N, D], row n - 1 of item n; and of each request distinct rows of these with their bonus.
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
    return np.concatenate(vectors), items, bonus


def items_of(requests: Requests, name: str, rows: np.ndarray) -> list[np.ndarray]:
    """Distinct items in a column of each row, by place among the items' vectors; -1 is one that is not there."""
    column = requests.columns[name]
    return [
        np.unique(column.values[start:end]) - 1
        for start, end in zip(column.offsets[rows], column.offsets[rows + 1], strict=True)
    ]


def _parts(catalogue: Catalogue) -> int:
    return max(1, -(-len(catalogue.items) // 4096))
