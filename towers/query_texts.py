"""The distinct training queries, and what a frozen encoder makes of them, worked out once before the first step."""

from typing import Any

import numpy as np
import tensorflow as tf

from towers.examples import Column, Requests
from towers.text_cache import encode_new_texts
from transform.features import QUERY_TOKENS

QUERY_TEXT = "query_text"  # row of the distinct queries, in a batch


def index_queries(requests: Requests) -> tuple[Requests, np.ndarray]:
    """Numbers the distinct queries.

    Args:
      requests: training rows.

    Returns:
      the requests with a column `QUERY_TEXT`, one value a row, 0 for no query; and int [U + 1, L], tokens, row 0 zero.
    """
    tokens = requests.columns[QUERY_TOKENS].padded(np.arange(requests.size))
    distinct, index = np.unique(np.pad(tokens, ((1, 0), (0, 0))), axis=0, return_inverse=True)
    column = Column(index.reshape(-1)[1:].astype(np.int32), np.arange(requests.size + 1))
    return Requests(requests.columns | {QUERY_TEXT: column}), distinct


def encode_queries(encoder: Any, requests: Requests) -> tuple[Requests, np.ndarray]:
    """Encodes each distinct query once.

    Args:
      encoder: a `TextEncoder` that training does not change.
      requests: training rows.

    Returns:
      the requests with a column `QUERY_TEXT`, one value a row, 0 for no query; and float32 [U + 1, E], row 0 zero.
    """
    requests, distinct = index_queries(requests)
    vectors, _ = encode_new_texts(encoder, distinct, "queries")  # the first is the one without a token
    return requests, vectors


def has_text_of(inputs: dict[str, Any]) -> Any:
    """Whether transformed requests have a query text: bool [B]."""
    return tf.reduce_any(inputs[QUERY_TOKENS] > 0, axis=1)
