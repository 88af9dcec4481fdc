"""Tests of towers.replicas."""

import subprocess
import sys

import numpy as np
import pytest

from tests.tiny_encoder import write_tiny_preset


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """Loss and gradients of one batch on one device and on two; the latter's process then runs a second model."""
    folder = tmp_path_factory.mktemp("replicas")
    preset = write_tiny_preset(folder / "preset")
    command = [sys.executable, "-W", "ignore", "-m", "tests.towers.two_replicas"]
    running = [subprocess.Popen([*command, str(n), preset, str(folder / f"{n}.npz")]) for n in (1, 2)]
    assert [process.wait(timeout=300) for process in running] == [0, 0]
    return [dict(np.load(folder / f"{n}.npz")) for n in (1, 2)]


def test_two_devices_have_the_loss_of_one(results):
    one, two = results
    np.testing.assert_allclose(two["loss"], one["loss"], rtol=1e-5)


def test_two_devices_have_every_gradient_of_one(results):
    one, two = results
    names = sorted(set(one) - {"loss"})
    assert {"item_tower/ids", "query_tower/history/near", "repeat/log_weights"} <= set(names)
    assert any("transformer_layer_1" in name for name in names)
    for name in names:
        np.testing.assert_allclose(two[name], one[name], atol=1e-5, err_msg=name)
    assert all(np.abs(one[name]).max() > 1e-4 for name in ("item_tower/ids", "repeat/log_weights"))
