"""The configurations in the Kubernetes manifests, read as the servers read them."""

from pathlib import Path

import pytest
import yaml
from google.protobuf import text_format
from tensorflow_serving.config import model_server_config_pb2

from serving.batching import BatchingParameters
from serving.batching_file import read_batching_parameters
from serving.model_config import read_model_config

FOLDER = Path(__file__).parents[2] / "kubeflow" / "serving"


def write_files(manifest: str, folder: Path) -> None:
    """As the kubelet mounts a ConfigMap."""
    documents = yaml.safe_load_all((FOLDER / manifest).read_text())
    (config_map,) = (document for document in documents if document["kind"] == "ConfigMap")
    for name, text in config_map["data"].items():
        (folder / name).write_text(text)


@pytest.mark.parametrize("manifest", ["tandem.yaml", "canary.yaml"])
def test_both_servers_read_the_configuration(manifest: str, tmp_path: Path) -> None:
    write_files(manifest, tmp_path)
    served = read_model_config(str(tmp_path / "models.config"))
    assert (served.name, served.base_path) == ("retrieval", "/models/retrieval")
    assert read_batching_parameters(str(tmp_path / "batching.config")) == BatchingParameters(64, 0, 2)
    text = (tmp_path / "models.config").read_text()
    stock = text_format.Parse(text, model_server_config_pb2.ModelServerConfig())
    assert stock.model_config_list.config[0].model_platform == "tensorflow"


def test_the_canary_has_two_versions_by_label(tmp_path: Path) -> None:
    write_files("canary.yaml", tmp_path)
    choice = read_model_config(str(tmp_path / "models.config")).choice
    assert choice.labels == {"stable": 1767225600, "canary": 1767312000}
