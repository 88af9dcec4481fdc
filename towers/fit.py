"""From a built model to a trained one: starting vectors, optimizer, number of steps, and the steps themselves."""

from typing import Any

import numpy as np

from towers.catalogue import Catalogue
from towers.datasets import Batches
from towers.loss import expected_slots
from towers.optimizer import RowAdam
from towers.precision import with_loss_scaling
from towers.schedule import RunDecay
from towers.settings import TrainingSettings
from towers.text_projection import principal_directions
from towers.two_tower import TwoTower

_STRETCH = 50  # steps between two reports


def prepare_model(model: TwoTower, batches: Batches, catalogue: Catalogue, negatives: int) -> None:
    """Gives a new model its catalogue, and where texts are encoded once, projections that keep most of them.

    Args:
      model: as `build_model` returns it.
      batches: what it will be trained on; says how often each item is a candidate.
      catalogue: every item.
      negatives: evenly drawn candidates a step.
    """
    if catalogue.text is not None:
        # The first coordinate says what is popular (see `build_model`); texts take the others.
        directions = principal_directions(catalogue.text[1:], model.query_tower.dimension - 1)
        directions = np.pad(directions, ((0, 0), (1, 0)))
        model.query_tower.text.kernel.assign(directions)
        model.item_tower.text.kernel.assign(directions)
    if model.lexical is not None and catalogue.lexemes is not None:
        model.lexical.start_from(catalogue.lexemes[1:])
    made_up = model.settings.made_up_queries
    own = (1.0 - made_up) * batches.own_slots(len(catalogue.tokens))
    model.use_catalogue(catalogue, expected_slots(own, negatives + made_up * batches.pairs_per_batch))


def count_steps(settings: TrainingSettings, batches: Batches, warm: bool) -> int:
    """Steps of a run: as set, but no more than `max_epochs` passes over the requests."""
    wanted = settings.warm_start_steps if warm else settings.steps
    return min(wanted, int(np.ceil(settings.max_epochs * len(batches.rows) / batches.requests_per_batch)))


def compile_model(model: TwoTower, settings: TrainingSettings, policy: str, steps: int, start: int) -> None:
    """Sets the optimizer and builds its slots, so that a state can be restored into them.

    Args:
      model: built.
      settings: learning rates.
      policy: Keras dtype policy.
      steps: of this run, over which the rate falls.
      start: optimizer steps of the runs before; above 0, this is a warm start.
    """
    rate = settings.warm_start_learning_rate if start else settings.learning_rate
    scale = settings.encoder_learning_rate / rate if rate else 0.0
    optimizer = RowAdam(
        RunDecay(rate, steps, start),
        encoder_scale=scale,
        encoder_variables=model.encoder.trainable_variables,
    )
    model.compile(optimizer=with_loss_scaling(optimizer, policy))
    model.optimizer.build(model.trainable_variables)


def fit(model: TwoTower, batches: Batches, steps: int, callbacks: list[Any]) -> None:
    """Trains for so many steps; callbacks hear of every fiftieth."""
    dataset = batches.dataset()
    whole, rest = divmod(steps, _STRETCH)
    if whole:
        model.fit(dataset, epochs=whole, steps_per_epoch=_STRETCH, verbose=0, callbacks=callbacks)
    if rest:
        tail = batches.dataset(start=whole * _STRETCH)
        model.fit(tail, epochs=1, steps_per_epoch=rest, verbose=0, callbacks=callbacks)
