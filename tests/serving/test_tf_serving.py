"""The stock TensorFlow Serving's configuration, read with its own protocol buffers."""

from pathlib import Path

from google.protobuf import text_format
from tensorflow_serving.config import model_server_config_pb2

from serving.settings import MODEL_NAME

FOLDER = Path(__file__).parents[2] / "serving" / "tf_serving"


def test_models_config_serves_the_name_that_clients_ask_for() -> None:
    text = (FOLDER / "models.config").read_text()
    parsed = text_format.Parse(text, model_server_config_pb2.ModelServerConfig())
    (model,) = parsed.model_config_list.config
    assert (model.name, model.model_platform) == (MODEL_NAME, "tensorflow")
    assert (
        model.base_path in (FOLDER / "README.md").read_text()
    )  # where the command mounts the push directory
