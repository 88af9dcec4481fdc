"""Training batches: requests in random order, each with a few of its targets."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow as tf

from towers.examples import Requests, request_columns
from towers.hard_negatives import HARD_NEGATIVES, HardNegatives
from towers.query_texts import QUERY_TEXT
from transform.errors import TandemError
from transform.features import KNOWN_POSITIVES, TARGET_ITEMS, TARGET_WEIGHTS
from transform.settings import FeatureSettings


class Batches:
    """An endless stream of batches that holds about `pairs` (request, target) pairs each.

    A request is encoded once for all the targets it brings into the batch, at most `targets_per_request` of them,
    drawn anew each time; so a basket of 40 items costs one history, and does not fill the batch.

    Args:
      requests: transformed training rows.
      features: declared features.
      pairs: mean number of pairs a batch, over all replicas.
      targets_per_request: targets of one request in one batch, at most.
      replicas: the number of requests a batch is a multiple of it.
      seed: of order and draws; the same seed gives the same batches.

    Raises:
      TandemError: no row has a target.
    """

    def __init__(
        self,
        requests: Requests,
        features: FeatureSettings,
        pairs: int,
        targets_per_request: int,
        replicas: int = 1,
        seed: int = 0,
    ) -> None:
        self._requests = requests
        self._names = (*request_columns(features), *({QUERY_TEXT} & set(requests.columns)))
        self._limit = targets_per_request
        self._seed = seed
        targets = requests.columns[TARGET_ITEMS]
        self._lengths = np.diff(targets.offsets)
        self.rows = np.flatnonzero(self._lengths)
        if not len(self.rows):
            raise TandemError(
                f"{requests.size} training rows, none with a target, expected at least one;"
                " check features.event_types and the spans."
            )
        taken = np.minimum(self._lengths[self.rows], targets_per_request)
        wanted = max(1, round(pairs / taken.mean()))
        self.requests_per_batch = -(-wanted // replicas) * replicas
        self.pairs_per_batch = self.requests_per_batch * float(taken.mean())
        self._hard: HardNegatives | None = None

    def use_hard_negatives(self, mined: HardNegatives) -> None:
        """Has batches made from now on bring each pair's hard negatives; mined for the same requests."""
        self._hard = mined

    def own_slots(self, item_rows: int) -> np.ndarray:
        """float64 [item_rows], mean number of pairs a batch that each item is the target of.

        A row with n targets is drawn once an epoch and gives min(n, limit) of them: each with chance min(1, limit / n).
        """
        targets = self._requests.columns[TARGET_ITEMS]
        chance = np.minimum(1.0, self._limit / np.maximum(self._lengths, 1))
        count = np.bincount(targets.values, np.repeat(chance, self._lengths), minlength=item_rows)
        return count * self.requests_per_batch / len(self.rows)

    def stream(
        self, start: int = 0, parts: tuple[slice, ...] = (slice(None),)
    ) -> Iterator[dict[str, np.ndarray]]:
        """Yields batches for ever, from batch number `start` on; each depends on seed and number only.

        Args:
          start: number of the first batch.
          parts: which rows of each batch to yield, one part after the other; the whole batch if left out.
        """
        size, number = self.requests_per_batch, start
        orders: dict[int, np.ndarray] = {}
        while True:
            place = np.arange(number * size, (number + 1) * size)
            epochs = place // len(self.rows)
            for epoch in range(epochs[0], epochs[-1] + 1):
                if epoch not in orders:
                    orders[epoch] = np.random.default_rng((self._seed, epoch)).permutation(self.rows)
            rows = np.array([orders[e][p] for e, p in zip(epochs, place % len(self.rows), strict=True)])
            orders = {epoch: order for epoch, order in orders.items() if epoch >= epochs[-1]}
            chosen = self.draw_targets(rows, np.random.default_rng((self._seed, 1, number)))
            yield from (self.batch(rows[part], chosen[part]) for part in parts)
            number += 1

    def draw_targets(self, rows: np.ndarray, random: np.random.Generator) -> np.ndarray:
        """Draws up to `targets_per_request` of each row's targets, without repeats.

        Args:
          rows: int [R].
          random: what draws.

        Returns:
          int64 [R, W], places in the column of targets; -1 behind them.
        """
        column = self._requests.columns[TARGET_ITEMS]
        lengths = column.lengths(rows)
        width = max(int(lengths.max(initial=0)), 1)
        there = np.arange(width) < lengths[:, np.newaxis]
        order = np.argsort(np.where(there, random.random(there.shape), 2.0), axis=1)[:, : self._limit]
        drawn = np.take_along_axis(there, order, axis=1)
        return np.where(drawn, column.offsets[rows][:, np.newaxis] + order, -1)

    def batch(self, rows: np.ndarray, chosen: np.ndarray) -> dict[str, np.ndarray]:
        """Puts rows and their drawn targets together: int [R], int64 [R, W] -> name -> [R, W], 0 behind the values."""
        columns = self._requests.columns
        batch = {name: columns[name].padded(rows) for name in (*self._names, KNOWN_POSITIVES)}
        there = chosen >= 0
        for name in (TARGET_ITEMS, TARGET_WEIGHTS):
            values = columns[name].values
            batch[name] = np.where(there, values[np.maximum(chosen, 0)], 0).astype(values.dtype)
        if self._hard is not None:
            batch[HARD_NEGATIVES] = self._hard.of(chosen)
        return batch

    def dataset(self, start: int = 0, context: Any = None) -> tf.data.Dataset:
        """The stream as a `tf.data.Dataset` of dicts of [R, None] tensors.

        Args:
          start: number of the first batch.
          context: `tf.distribute.InputContext`; then one machine's share: of each batch the parts of its replicas, one
            after the other. The parts of all machines make the batch, and no two hold the same request.
        """
        size = self.requests_per_batch
        parts: tuple[slice, ...] = (slice(None),)
        if context is not None:
            here = context.num_replicas_in_sync // context.num_input_pipelines
            first = context.input_pipeline_id * here
            size //= context.num_replicas_in_sync
            parts = tuple(slice(n * size, (n + 1) * size) for n in range(first, first + here))
        names = (*self._names, KNOWN_POSITIVES, TARGET_ITEMS, TARGET_WEIGHTS)
        signature: dict[str, Any] = {
            name: tf.TensorSpec([size, None], tf.float32 if name == TARGET_WEIGHTS else tf.int32)
            for name in names
        }
        if self._hard is not None:
            signature[HARD_NEGATIVES] = tf.TensorSpec([size, None, self._hard.items.shape[1]], tf.int32)
        dataset = tf.data.Dataset.from_generator(
            lambda: self.stream(start, parts), output_signature=signature
        )
        return dataset.prefetch(4)


def query_batches(
    requests: Requests, features: FeatureSettings, size: int = 256
) -> Iterator[dict[str, np.ndarray]]:
    """Yields the query inputs of all rows in order, `size` rows at a time."""
    for start in range(0, requests.size, size):
        rows = np.arange(start, min(start + size, requests.size))
        names = (*request_columns(features), *({QUERY_TEXT} & set(requests.columns)))
        yield {name: requests.columns[name].padded(rows) for name in names}
