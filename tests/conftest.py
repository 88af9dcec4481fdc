"""What every test process needs before anything imports TensorFlow."""

from transform.runtime import prepare_environment

prepare_environment()
