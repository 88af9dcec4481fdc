"""Dynamic loss scaling whose replicas skip a step all together, or none of them."""

from typing import Any

import keras
import tensorflow as tf


@keras.saving.register_keras_serializable("tandem")
class JointLossScale(keras.optimizers.LossScaleOptimizer):
    """Keras' loss scaling, but a gradient that is not finite on one replica counts for all.

    Keras asks before gradients are summed, so each replica would decide by its own: on one machine the first replica's
    word lets another's infinity into the weights, and of two machines one would wait for a sum that the other skips.
    """

    def check_finite(self, grads: Any) -> Any:
        """Whether all gradients of all replicas are finite: bool []."""
        mine = tf.cast(super().check_finite(grads), tf.float32)
        context = tf.distribute.get_replica_context()
        if context is None or context.num_replicas_in_sync == 1:
            return mine > 0.0
        found = context.all_reduce(tf.distribute.ReduceOp.SUM, mine)
        return found > context.num_replicas_in_sync - 0.5
