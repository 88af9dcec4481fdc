"""Where a training step's time goes, part by part, and how long its encoder's bare matrix products take."""

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from towers.catalogue import Catalogue
from towers.datasets import Batches
from towers.two_tower import TwoTower

WARM_UP = 2  # calls before the clock runs: tracing, and the memory that is then kept


def step_parts(model: TwoTower, batches: Batches, catalogue: Catalogue, count: int) -> dict[str, float]:
    """Seconds of input, encoder, the rest of the forward pass, backward pass and optimizer; medians over batches.

    Each is the difference of two measured calls: encoder, forward, forward and backward, whole step. Input is made by
    another thread while a step runs.

    Args:
      model: compiled.
      batches: what it is trained on, one target a request.
      catalogue: every item.
      count: batches measured.
    """
    stream, drawn, made = batches.stream(), [], []
    for _ in range(count + WARM_UP):
        started = time.perf_counter()
        drawn.append(next(stream))
        made.append(time.perf_counter() - started)
    tensors = [{name: tf.constant(value) for name, value in batch.items()} for batch in drawn]

    def encode(batch: dict[str, Any]) -> Any:
        items = batch["target_items"][:, 0]
        return model.encode_queries(batch, True), model._encode_catalogue_texts(items, True)

    def forward(batch: dict[str, Any]) -> Any:
        return model.compute_loss(batch, y_pred=model(batch, training=True))

    def backward(batch: dict[str, Any]) -> Any:
        with tf.GradientTape() as tape:
            loss = forward(batch)
        return tape.gradient(loss, [variable.value for variable in model.trainable_variables])

    def step(batch: dict[str, Any]) -> Any:
        return model.train_step(batch)["loss"]

    calls = [encode, forward, backward, step]
    if catalogue.text is not None:  # nothing is encoded in a step
        calls[0] = lambda _: None
    whole = [
        median_seconds(tf.function(call, autograph=False, reduce_retracing=True), tensors) for call in calls
    ]
    names = ("encoder", "rest of forward", "backward", "optimizer")
    parts = {name: max(b - a, 0.0) for name, a, b in zip(names, [0.0, *whole[:-1]], whole, strict=True)}
    return {"input": float(np.median(made[WARM_UP:]))} | parts


def matmul_seconds(
    batches: Batches, catalogue_tokens: np.ndarray, backbone: Any, first: int, trained: int
) -> float:
    """Seconds of the encoder's matrix products of a step, forward and backward, one after the other and nothing else.

    Args:
      batches: what is trained on; the tokens of the first batch are counted.
      catalogue_tokens: int [N + 1, L].
      backbone: a `BertBackbone`.
      first: layers that are not run, from the bottom.
      trained: layers that have a backward pass, from the top.
    """
    batch = next(batches.stream())
    tokens = [
        int((batch["query_tokens"] > 0).sum()),
        int((catalogue_tokens[batch["target_items"]] > 0).sum()),
    ]
    hidden, inner, layers = backbone.hidden_dim, backbone.intermediate_dim, backbone.num_layers
    shapes = [(hidden, hidden)] * 4 + [(hidden, inner), (inner, hidden)]
    products: list[tuple[Any, Any, dict[str, bool]]] = []
    for count in tokens:
        for rows, columns in shapes:
            x, w, y = (
                tf.random.normal(shape) for shape in ((count, rows), (rows, columns), (count, columns))
            )
            products += [(x, w, {})] * (layers - first)
            products += [(y, w, {"transpose_b": True}), (x, y, {"transpose_a": True})] * trained

    def run(_: Any) -> Any:
        for left, right, how in products:
            tf.matmul(left, right, **how)

    return median_seconds(run, [None] * 5)


def median_seconds(call: Callable[[Any], Any], arguments: list[Any]) -> float:
    """Median over the calls after the first `WARM_UP`."""
    taken = []
    for argument in arguments:
        started = time.perf_counter()
        call(argument)
        taken.append(time.perf_counter() - started)
    return float(np.median(taken[WARM_UP:]))
