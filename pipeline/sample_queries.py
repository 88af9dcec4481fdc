"""What a bundle finds for a few held-out requests, as a table to look at."""

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from transform.features import HISTORY_ITEM_IDS, QUERY

FOUND, BOUGHT = 5, 3  # best items of a request, and items of its history, that are named


def sample_queries(bundle_dir: str, examples: Sequence[bytes], items: pa.Table) -> str:
    """Asks a bundle exactly.

    Args:
      bundle_dir: its SavedModel.
      examples: raw held-out rows.
      items: columns item_id and title.

    Returns:
      Markdown: a line a request, what was asked (the query, or else titles of the history) and the titles that were found,
      best first.
    """
    import tensorflow as tf
    import tensorflow_text  # noqa: F401  registers the tokenizer's ops

    lines = ["| asked | found |", "| --- | --- |"]
    if examples:
        titles = dict(zip(items["item_id"].to_pylist(), items["title"].to_pylist(), strict=True))
        model = tf.saved_model.load(bundle_dir)
        inputs = model.parse_queries(tf.constant(examples))
        found = model.signatures["serving_default"](**inputs)["item_ids"].numpy()[:, :FOUND]
        arrays = {name: value.numpy() for name, value in inputs.items()}
        for row, item_ids in enumerate(found.tolist()):
            lines.append(f"| {_asked(arrays, row, titles)} | {_named(item_ids, titles)} |")
    return "\n".join(lines)


def _asked(inputs: Mapping[str, Any], row: int, titles: Mapping[str, str]) -> str:
    query = _plain(inputs[QUERY][row].decode()) if QUERY in inputs else ""
    history = inputs[HISTORY_ITEM_IDS][row, :BOUGHT].tolist()
    return query or "history: " + _named([one for one in history if one], titles)


def _named(item_ids: Sequence[bytes], titles: Mapping[str, str]) -> str:
    return "; ".join(_plain(titles.get(one.decode()) or one.decode()) for one in item_ids)


def _plain(text: str) -> str:
    """One line that is no markup of a table."""
    return " ".join(text.replace("|", "/").split())
