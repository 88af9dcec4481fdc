"""Run as a process of its own: loss and gradients of one batch, then weights after some steps, as .npz.

python -m tests.towers.one_process DEVICES PRESET OUT

Trains on so many logical CPU devices, or with TF_CONFIG as one of several workers.
"""

import sys

from transform.runtime import prepare_environment

prepare_environment()

import keras  # noqa: E402
import numpy as np  # noqa: E402
import tensorflow as tf  # noqa: E402

from tests.towers import shop  # noqa: E402
from towers.fit import compile_model, fit  # noqa: E402
from towers.precision import make_strategy  # noqa: E402
from towers.settings import TrainingSettings  # noqa: E402

STEPS = 60


def make(strategy, preset):
    with strategy.scope():
        keras.utils.set_random_seed(7)
        # No dropout: replicas draw their own random numbers.
        model = shop.model(preset, item_id_dropout=0, history_dropout=0, history_unknown=0)
        compile_model(
            model, TrainingSettings(learning_rate=0.01, encoder_learning_rate=1e-3), "float32", STEPS, 0
        )
    return model


def loss_and_gradients(strategy, model):
    """Loss and dense gradients of the first batch, summed over replicas as the optimizer sees them."""
    replicas = strategy.num_replicas_in_sync
    batch = next(shop.batches(replicas=2, hard_negatives=2).stream())  # the same rows for 1 and 2 replicas
    part = {name: np.array_split(value, replicas) for name, value in batch.items()}

    def of_replica(context):
        index = context.replica_id_in_sync_group
        return {name: tf.constant(values[index]) for name, values in part.items()}

    def step(inputs):
        with tf.GradientTape() as tape:
            loss = model.compute_loss(inputs, y_pred=model(inputs, training=True))
        variables = model.trainable_variables
        gradients = tape.gradient(loss, variables)
        context = tf.distribute.get_replica_context()
        dense = [tf.convert_to_tensor(gradient) for gradient in gradients]
        return context.all_reduce("sum", [loss, *dense])

    inputs = strategy.experimental_distribute_values_from_function(of_replica)
    summed = tf.function(lambda: strategy.run(step, args=(inputs,)), autograph=False)()
    first = [np.asarray(strategy.experimental_local_results(value)[0]) for value in summed]
    names = ["loss", *(f"gradient:{variable.path}" for variable in model.trainable_variables)]
    return dict(zip(names, first, strict=True))


class Losses(keras.callbacks.Callback):
    """What is reported of each stretch."""

    def __init__(self):
        super().__init__()
        self.values = []

    def on_epoch_end(self, epoch, logs=None):
        self.values.append(float(logs["loss"]))


def main(devices, preset, out):
    strategy = make_strategy(TrainingSettings(replicas=devices))
    model = make(strategy, preset)
    found = loss_and_gradients(strategy, model)
    losses = Losses()
    fit(model, shop.batches(replicas=2, hard_negatives=2), STEPS, [losses])
    found["reported"] = np.array(losses.values)
    found |= {f"trained:{variable.path}": np.asarray(variable) for variable in model.trainable_variables}
    found |= {f"norm:{path}": norm for path, norm in model.optimizer.gradient_norms().items()}
    np.savez(out, **found)
    if devices == 2:
        # A second run in the same process, with tables of other sizes, as a local pipeline has it.
        shop.ITEMS = 40
        loss_and_gradients(strategy, make(strategy, preset))


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2], sys.argv[3])
