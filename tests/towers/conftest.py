"""What the towers' tests need before anything imports TensorFlow."""

from transform.runtime import prepare_environment

prepare_environment()
