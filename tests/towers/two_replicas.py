"""Run as a process of its own: prints loss and gradients of one batch on N logical CPU devices as .npz.

python -m tests.towers.two_replicas REPLICAS PRESET OUT
"""

import sys

from transform.runtime import prepare_environment

prepare_environment()

import keras  # noqa: E402
import numpy as np  # noqa: E402
import tensorflow as tf  # noqa: E402

from tests.towers import shop  # noqa: E402
from towers.precision import make_strategy  # noqa: E402
from towers.settings import TrainingSettings  # noqa: E402


def loss_and_gradients(replicas, preset):
    """Loss and dense gradients of the first batch, summed over replicas as the optimizer sees them."""
    strategy = make_strategy(TrainingSettings(replicas=replicas))
    with strategy.scope():
        keras.utils.set_random_seed(7)
        # No dropout: replicas draw their own random numbers.
        model = shop.model(preset, item_id_dropout=0, history_dropout=0, history_unknown=0)
    batch = next(shop.batches(replicas=2).stream())  # the same rows for 1 and 2 replicas
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
    names = ["loss", *(variable.path for variable in model.trainable_variables)]
    return dict(zip(names, first, strict=True))


if __name__ == "__main__":
    np.savez(sys.argv[3], **loss_and_gradients(int(sys.argv[1]), sys.argv[2]))
    if sys.argv[1] == "2":
        # A second run in the same process, with tables of other sizes, as a local pipeline has it.
        shop.ITEMS = 40
        loss_and_gradients(2, sys.argv[2])
