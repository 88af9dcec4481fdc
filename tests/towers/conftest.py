from transform.runtime import prepare_environment

prepare_environment()
