"""How a pushed bundle ranks the held-out requests, through its own signatures and item vectors."""

from pathlib import Path

import numpy as np

from benchmarks.baselines.task import DEPTH, Ranking, best_items
from benchmarks.held_out import HeldOut
from serving.bundle import verify_bundle, versions
from serving.manifest import Manifest
from transform.errors import TandemError
from transform.features import HISTORY_ITEM_IDS

_BATCH = 64


def choose_version(push_dir: str, version: int | None) -> Path:
    """The bundle of a version, or of the newest.

    Raises:
      TandemError: it is not there.
    """
    there = versions(push_dir) if Path(push_dir).is_dir() else []
    chosen = version if version is not None else max(there, default=None)
    if chosen not in there:
        raise TandemError(
            f"version {version or 'any'} is not in {push_dir!r}; versions there: {there or 'none'}."
        )
    return Path(push_dir, str(chosen))


def check_bundle(bundle: Path, held_out: HeldOut) -> Manifest:
    """Verifies a bundle, and that it was trained on nothing that it would be asked.

    Raises:
      TandemError: it is damaged, or has learnt from the held-out time.
    """
    manifest = verify_bundle(bundle)
    if manifest.trained_until is None or manifest.trained_until > held_out.cut:
        raise TandemError(
            f"{bundle} has learnt until {_moment(manifest.trained_until)}, but the held-out time starts at"
            f" {_moment(held_out.cut)}: give the dataset directory and profile of the run that pushed it."
        )
    return manifest


def rank_by_bundle(bundle: Path, held_out: HeldOut) -> Ranking:
    """Ranks the whole catalogue for each request: inner product plus the bonus of its own history, exact.

    Args:
      bundle: directory of the SavedModel.
      held_out: the requests; one row of each is what the bundle is asked with.

    Raises:
      TandemError: the bundle's catalogue is another one.
    """
    import tensorflow as tf
    import tensorflow_text  # noqa: F401  registers the tokenizer's ops

    model = tf.saved_model.load(str(bundle))
    embed = model.signatures["embed_query"]
    ids = [item.decode() for item in model.item_ids.numpy()]
    rows = {item: row for row, item in enumerate(ids)}  # the bundle's order, in which ties are told apart
    if set(rows) != set(held_out.item_ids):
        raise TandemError(
            f"{bundle} knows {len(rows):,} items, {len(set(rows) & set(held_out.item_ids)):,} of them among the"
            f" dataset's {len(held_out.item_ids):,}; expected the same catalogue: push again from this dataset directory."
        )
    bundle_row = np.array([rows[item] for item in held_out.item_ids])
    task_row = np.argsort(bundle_row)
    vectors = model.item_vectors.numpy()
    task = held_out.task
    asked = np.unique(held_out.requests, return_index=True)[1]
    items = np.full((len(task.users), DEPTH), -1, np.int64)
    scores = np.full((len(task.users), DEPTH), -np.inf, np.float32)
    for start in range(0, len(asked), _BATCH):
        examples = [held_out.examples[row] for row in asked[start : start + _BATCH]]
        inputs = model.parse_queries(tf.constant(examples, tf.string))
        embedded = embed(**inputs)
        block = embedded["embedding"].numpy() @ vectors.T
        histories, bonuses = inputs[HISTORY_ITEM_IDS].numpy(), embedded["history_bonus"].numpy()
        for request, row, history, bonus in zip(
            range(start, len(asked)), block, histories, bonuses, strict=False
        ):
            for place in np.flatnonzero(bonus > 0):
                row[rows[history[place].decode()]] += bonus[place]
            row[bundle_row[task.excluded_of(request)]] = -np.inf
            best = best_items(row, DEPTH)
            items[request, : len(best)], scores[request, : len(best)] = task_row[best], row[best]
        print(f"  {min(start + _BATCH, len(asked)):,} of {len(asked):,} requests", flush=True)
    return Ranking(items, scores)


def _moment(seconds: float | None) -> str:
    return "a time it does not name" if seconds is None else str(np.datetime64(int(seconds), "s"))
