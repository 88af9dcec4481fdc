"""What every test process needs before anything imports TensorFlow, or runs on it."""

import pytest

from transform.runtime import prepare_environment

prepare_environment()


@pytest.fixture(scope="session", autouse=True)
def two_devices():
    """Two logical CPU devices for tests that train two replicas: they can only be made before TensorFlow runs anything."""
    from towers.precision import prepare_devices
    from towers.settings import TrainingSettings

    prepare_devices(TrainingSettings(replicas=2))
