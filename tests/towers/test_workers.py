"""Tests of who a worker is, of what each gets to learn from, and of checkpoints."""

import itertools
import json

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.towers.shop import batches
from towers.checkpoints import Checkpoints, newest_checkpoint
from towers.draws import draws_of, uniform
from towers.loss_scale import JointLossScale
from towers.precision import make_strategy
from towers.settings import TrainingSettings
from towers.state import TrainingState
from towers.worker import main, read_job
from towers.workers import Workers, read_workers
from transform.errors import TandemError

CLUSTER = {"chief": ["a:1"], "worker": ["b:1", "c:1"], "evaluator": ["d:1"]}


def config(kind, index, cluster=None):
    task = {"type": kind, "index": index}
    return {"TF_CONFIG": json.dumps({"cluster": cluster or CLUSTER, "task": task})}


def test_the_chief_comes_first_and_workers_follow_in_their_order():
    places = [read_workers(config(*task)) for task in (("chief", 0), ("worker", 0), ("worker", 1))]
    assert places == [Workers(3, 0), Workers(3, 1), Workers(3, 2)]
    assert [place.is_chief for place in places] == [True, False, False]
    # Without a chief, TensorFlow takes worker 0 for it.
    only_workers = {"worker": ["a:1", "b:1"]}
    assert read_workers(config("worker", 0, only_workers)).is_chief
    assert not read_workers(config("worker", 1, only_workers)).is_chief


def test_a_process_that_is_alone_needs_no_cluster():
    assert read_workers({}) == Workers(1, 0)
    assert read_workers(config("chief", 0, {"chief": ["a:1"]})) == Workers(1, 0)


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[]",
        json.dumps({"cluster": CLUSTER}),
        *(config(*t)["TF_CONFIG"] for t in (("worker", 2), ("evaluator", 0))),
    ],
)
def test_a_tf_config_that_places_nobody_is_one_clear_line(text):
    with pytest.raises(TandemError, match="TF_CONFIG is .* expected JSON with cluster.chief"):
        read_workers({"TF_CONFIG": text})


def parts_of(pipelines, replicas, steps=3):
    """What each machine's replicas get: machine -> [steps x replicas of a machine] batches."""
    found = []
    for machine in range(pipelines):
        context = tf.distribute.InputContext(pipelines, machine, replicas)
        dataset = batches(replicas=4).dataset(2, context)
        found.append(list(itertools.islice(dataset.as_numpy_iterator(), steps * replicas // pipelines)))
    return found


@pytest.mark.parametrize(("machines", "replicas"), [(1, 1), (1, 4), (2, 2), (2, 4), (4, 4)])
def test_the_parts_of_all_machines_are_the_batch_without_overlap(machines, replicas):
    found, here = parts_of(machines, replicas), replicas // machines
    whole = list(itertools.islice(batches(replicas=4).stream(2), 3))
    for step, batch in enumerate(whole):
        parts = [part for machine in found for part in machine[step * here : (step + 1) * here]]
        assert len(parts) == replicas
        for name, expected in batch.items():
            # A part is as wide as its own longest row.
            wide = [np.pad(p[name], ((0, 0), (0, expected.shape[1] - p[name].shape[1]))) for p in parts]
            np.testing.assert_array_equal(np.concatenate(wide), expected, err_msg=name)


def drawn(step, replica, seed=3):
    with draws_of(seed, step, replica):
        return [uniform([4]).numpy().tolist(), uniform([4], 1, 1000, dtype=tf.int32).numpy().tolist()]


def test_draws_depend_on_seed_step_replica_and_place_and_on_nothing_before():
    first = drawn(7, 1)
    tf.random.uniform([5])
    assert drawn(7, 1) == first
    others = [drawn(8, 1), drawn(7, 0), drawn(7, 1, seed=4)]
    assert all(other[n] != first[n] for other in others for n in (0, 1))
    with draws_of(3, 7, 1):
        assert uniform([4]).numpy().tolist() != uniform([4]).numpy().tolist()
    assert all(0 <= value < 1 for value in first[0]) and all(1 <= value < 1000 for value in first[1])


def scaled(optimizer_class):
    """A weight of 1, the optimizer, and a step whose gradient is infinite on one of two replicas."""
    strategy = make_strategy(TrainingSettings(replicas=2))
    with strategy.scope():
        weight = keras.Variable(np.ones(3, np.float32))
        optimizer = optimizer_class(keras.optimizers.SGD(1.0), initial_scale=8.0)
        optimizer.build([weight])

    @tf.function(autograph=False)
    def step(infinite_on):
        def on_replica():
            me = tf.distribute.get_replica_context().replica_id_in_sync_group
            gradient = tf.where(tf.equal(me, infinite_on), tf.fill([3], np.inf), tf.fill([3], 8.0))
            optimizer.apply([gradient], [weight])

        strategy.run(on_replica)

    return weight, optimizer, step


def test_a_gradient_that_is_infinite_on_one_replica_skips_the_step_on_all():
    weight, optimizer, step = scaled(JointLossScale)
    for replica in (0, 1):
        step(tf.constant(replica))
        np.testing.assert_array_equal(np.asarray(weight), np.ones(3))
    assert float(np.asarray(optimizer.dynamic_scale)) == 2.0, "halved twice"
    step(tf.constant(-1))
    # Gradients of 8 over a scale of 2, summed over two replicas.
    np.testing.assert_allclose(np.asarray(weight), 1 - 2 * 8 / 2)


def test_keras_own_loss_scaling_would_let_it_into_the_weights():
    weight, _, step = scaled(keras.optimizers.LossScaleOptimizer)
    step(tf.constant(1))
    assert not np.isfinite(np.asarray(weight)).any()


def state_of(step):
    return TrainingState({}, step, None, {}, {}, {"w": np.full(2, float(step))}, {})


def test_the_newest_whole_checkpoint_is_gone_on_from(tmp_path):
    assert newest_checkpoint(tmp_path / "none") is None
    checkpoints = Checkpoints(tmp_path, lambda done: state_of(100 + done), seconds=0, done=50)
    checkpoints.set_params({"steps": 50})
    for epoch in range(2):
        checkpoints.on_epoch_end(epoch)
    assert newest_checkpoint(tmp_path).step == 250
    assert [place.name for place in tmp_path.iterdir()] == ["step-000000000250"]
    # The chief died before it had written the last file of the next one.
    (tmp_path / "step-000000000300").mkdir()
    assert newest_checkpoint(tmp_path).step == 250


def test_checkpoints_keep_their_distance(tmp_path):
    checkpoints = Checkpoints(tmp_path, state_of, seconds=3600)
    checkpoints.set_params({"steps": 50})
    checkpoints.on_epoch_end(0)
    assert list(tmp_path.iterdir()) == []


def test_a_worker_without_a_job_is_one_clear_line(tmp_path, capsys):
    (tmp_path / "job.json").write_text('{"features": {}, "unknown": 1}')
    with pytest.raises(TandemError, match="no training job"):
        read_job(tmp_path / "job.json")
    assert main([str(tmp_path / "none.json")]) == 2
    assert "none.json: no training job" in capsys.readouterr().err
