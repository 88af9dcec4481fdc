"""What every test process needs before anything imports or runs TensorFlow."""

from towers.precision import prepare_devices
from towers.settings import TrainingSettings
from transform.runtime import prepare_environment

prepare_environment()
prepare_devices(TrainingSettings(replicas=2))
