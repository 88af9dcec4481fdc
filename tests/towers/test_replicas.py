"""Tests of training on several devices and by several workers: nothing of it may show in what is learnt."""

import numpy as np
import pytest

from tests.tiny_encoder import write_tiny_preset
from tests.towers.cluster import start, tf_configs

ONE, TWO_DEVICES, CHIEF, WORKER = range(4)


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """One batch, and some steps, by one device, by two, and by two workers; each worker's own view."""
    folder = tmp_path_factory.mktemp("replicas")
    preset = write_tiny_preset(folder / "preset")
    placed = [(1, None), (2, None), *((1, config) for config in tf_configs(2))]
    running = [
        start("tests.towers.one_process", devices, preset, folder / f"{n}.npz", tf_config=config)
        for n, (devices, config) in enumerate(placed)
    ]
    try:
        assert [process.wait(timeout=1800) for process in running] == [0, 0, 0, 0]
    finally:
        for process in running:
            process.kill()
    return [dict(np.load(folder / f"{n}.npz")) for n in range(len(placed))]


@pytest.mark.parametrize("place", [TWO_DEVICES, CHIEF, WORKER])
def test_the_loss_is_that_of_one_device(results, place):
    np.testing.assert_allclose(results[place]["loss"], results[ONE]["loss"], rtol=1e-5)


@pytest.mark.parametrize("place", [TWO_DEVICES, CHIEF, WORKER])
def test_every_gradient_is_that_of_one_device(results, place):
    one, other = results[ONE], results[place]
    names = sorted(name for name in one if name.startswith("gradient:"))
    variables = {name.removeprefix("gradient:") for name in names}
    assert {"item_tower/ids", "query_tower/history/near", "repeat/log_weights"} <= variables
    assert any("transformer_layer_1" in name for name in names)
    for name in names:
        np.testing.assert_allclose(other[name], one[name], atol=1e-5, err_msg=name)
    for name in ("item_tower/ids", "repeat/log_weights"):
        assert np.abs(one[f"gradient:{name}"]).max() > 1e-4


@pytest.mark.parametrize("place", [TWO_DEVICES, CHIEF, WORKER])
def test_what_is_reported_is_the_loss_over_all_replicas(results, place):
    np.testing.assert_allclose(results[place]["reported"], results[ONE]["reported"], rtol=1e-4)


@pytest.mark.parametrize("place", [TWO_DEVICES, CHIEF, WORKER])
def test_training_ends_with_the_weights_of_one_device(results, place):
    one, other = results[ONE], results[place]
    for name in (name for name in one if name.startswith("trained:")):
        np.testing.assert_allclose(other[name], one[name], atol=1e-3, err_msg=name)


def test_workers_hold_the_same_weights_to_the_last_bit(results):
    chief, worker = results[CHIEF], results[WORKER]
    for name in (name for name in chief if name.startswith("trained:")):
        np.testing.assert_array_equal(worker[name], chief[name], err_msg=name)


@pytest.mark.parametrize("place", [TWO_DEVICES, CHIEF, WORKER])
def test_gradient_norms_are_those_over_all_replicas(results, place):
    one, other = results[ONE], results[place]
    names = [name for name in one if name.startswith("norm:")]
    assert sum(one[name] > 1e-3 for name in names) > 5
    for name in names:
        np.testing.assert_allclose(other[name], one[name], rtol=0.02, atol=1e-4, err_msg=name)
