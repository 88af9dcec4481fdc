"""From a built model to a trained one: starting vectors, optimizer, number of steps, and the steps themselves."""

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from towers.catalogue import Catalogue, encode_texts
from towers.datasets import Batches
from towers.draws import draws_of
from towers.layer_rates import encoder_scales
from towers.loss import expected_slots
from towers.optimizer import RowAdam
from towers.precision import with_loss_scaling
from towers.schedule import RunDecay
from towers.settings import TrainingSettings
from towers.text_projection import principal_directions
from towers.two_tower import TwoTower

_STRETCH = 50  # steps between two reports
_SOME_TEXTS = 4096  # enough for the directions in which texts differ


def prepare_model(
    model: TwoTower, batches: Batches, catalogue: Catalogue, negatives: int, is_new: bool = True
) -> None:
    """Gives a model its catalogue, and a new one projections that keep most of what the encoder says of its texts.

    Args:
      model: as `build_model` returns it.
      batches: what it will be trained on; says how often each item is a candidate.
      catalogue: every item.
      negatives: evenly drawn candidates a step.
      is_new: whether its weights stay as they start; not where a state is restored into it.
    """
    if is_new:
        texts = catalogue.text[1:] if catalogue.text is not None else _some_texts(model, catalogue)
        # The first coordinate says what is popular (see `build_model`); texts take the others.
        directions = principal_directions(texts, model.query_tower.dimension - 1)
        directions = np.pad(directions, ((0, 0), (1, 0)))
        model.query_tower.text.kernel.assign(directions)
        model.item_tower.text.kernel.assign(directions)
    if is_new and model.lexical is not None and catalogue.lexemes is not None:
        model.lexical.start_from(catalogue.lexemes[1:])
    made_up = model.settings.made_up_queries
    own = (1.0 - made_up) * batches.own_slots(len(catalogue.tokens))
    model.use_catalogue(catalogue, expected_slots(own, negatives + made_up * batches.pairs_per_batch))


def _some_texts(model: TwoTower, catalogue: Catalogue) -> np.ndarray:
    """Encodes texts of the catalogue, drawn evenly: float32 [n, E]."""
    items = np.random.default_rng(0).permutation(catalogue.items)[:_SOME_TEXTS]
    return encode_texts(model.encoder, catalogue.tokens[items])


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
    scales = encoder_scales(model.encoder, scale, settings.encoder_layer_decay)
    projections = (model.query_tower.text.kernel, model.item_tower.text.kernel)
    scales |= {kernel.path: settings.projection_rate for kernel in projections}
    set_optimizer(model, RunDecay(rate, steps, start, settings.warm_up), scales, policy)


def set_optimizer(model: keras.Model, rate: RunDecay, scales: dict[str, float], policy: str) -> None:
    """Compiles a model with RowAdam and builds its slots: see `RowAdam` for rate and scales."""
    model.compile(optimizer=with_loss_scaling(RowAdam(rate, scales), policy))
    model.optimizer.build(model.trainable_variables)


def fit(
    model: keras.Model, batches: Batches, steps: int, callbacks: list[Any], seed: int = 0, done: int = 0
) -> None:
    """Trains up to so many steps on the model's strategy; callbacks hear of every fiftieth, as of Keras epochs, and may stop it.

    Keras' own `fit` cannot: on several machines it gives every one the same batches, and stops on ragged ones.

    Args:
      model: compiled.
      batches: of all replicas together; each machine makes the parts of its own.
      steps: of this run.
      callbacks: the same on all machines, but for those that only write.
      seed: of what is drawn in a step.
      done: steps of this run that an earlier process did.
    """
    strategy = model.distribute_strategy
    dataset = strategy.distribute_datasets_from_function(lambda context: batches.dataset(done, context))
    iterator = iter(dataset)

    def on_replica(batch: Any, step: Any) -> None:
        replica = tf.distribute.get_replica_context().replica_id_in_sync_group
        with draws_of(seed, step, replica):
            model.train_step(batch)

    @tf.function(autograph=False)
    def train_step(iterator: Any, step: Any) -> None:
        strategy.run(on_replica, args=(next(iterator), step))

    listeners = keras.callbacks.CallbackList(callbacks, model=model)
    listeners.on_train_begin()
    while done < steps and not model.stop_training:
        stretch = min(_STRETCH, steps - done)
        listeners.set_params({"steps": stretch})
        listeners.on_epoch_begin(done // _STRETCH)
        model.reset_metrics()
        _seed_layers(model, seed, done)
        for step in range(done, done + stretch):
            train_step(iterator, tf.constant(step, tf.int64))
            listeners.on_train_batch_end(step)
        done += stretch
        listeners.on_epoch_end(done // _STRETCH, model.get_metrics_result())
    listeners.on_train_end()


def _seed_layers(model: keras.Model, seed: int, step: int) -> None:
    """Sets the seeds of Keras' own layers (dropout of an encoder that trains) to what they are at this step."""
    states = [variable for variable in model.variables if "seed_generator" in variable.path]
    for number, state in enumerate(states):
        state.assign(np.random.SeedSequence((seed, step, number)).generate_state(2).astype(np.int64) % 2**31)
