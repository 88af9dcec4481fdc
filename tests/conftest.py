"""What every test process needs before anything imports TensorFlow, or runs on it."""

import hypothesis
import pytest

from transform.runtime import prepare_environment

prepare_environment()
# The same examples in every run: a failure can be run again, and a passing change is not refused for an example of an hour ago.
# `pytest --hypothesis-profile default` looks for new ones.
hypothesis.settings.register_profile("repeatable", derandomize=True, deadline=None)
hypothesis.settings.load_profile("repeatable")


@pytest.fixture(autouse=True)
def same_draws():
    """Initial weights and dropout of every test from one seed, whichever tests ran before it."""
    import keras

    keras.utils.set_random_seed(20)


@pytest.fixture(scope="session", autouse=True)
def two_devices():
    """Two logical CPU devices for tests that train two replicas: they can only be made before TensorFlow runs anything."""
    from towers.precision import prepare_devices
    from towers.settings import TrainingSettings

    prepare_devices(TrainingSettings(replicas=2))
