"""TensorFlow Serving's own configuration of models, `ModelServerConfig`, as text or as a message."""

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from serving.version_choice import VersionChoice
from transform.errors import TandemError

if TYPE_CHECKING:
    from tensorflow_serving.config.model_server_config_pb2 import ModelConfig, ModelServerConfig


class ServedModel(NamedTuple):
    """What a configuration says.

    Attributes:
      name: that requests must give.
      base_path: the push directory; "" where the configuration leaves it out.
      choice: which versions are served.
    """

    name: str
    base_path: str
    choice: VersionChoice


def read_model_config(path: str) -> ServedModel:
    """Reads a file in the text format that `tensorflow_model_server --model_config_file` takes.

    Raises:
      TandemError: the file cannot be read, is no `ModelServerConfig`, or asks for what is not offered.
    """
    from google.protobuf import text_format
    from tensorflow_serving.config.model_server_config_pb2 import ModelServerConfig

    try:
        config = text_format.Parse(Path(path).read_text(encoding="utf-8"), ModelServerConfig())
    except OSError as error:
        raise TandemError(
            f"{path} cannot be read ({error.strerror}), expected a model configuration: name another with"
            " --model-config-file."
        ) from error
    except (text_format.ParseError, UnicodeDecodeError) as error:
        raise TandemError(
            f"{path} is no text of a ModelServerConfig ({error}): mend it, or name another with"
            " --model-config-file."
        ) from error
    try:
        return served_model(config)
    except TandemError as error:
        raise TandemError(f"{path}: {error}") from error


def served_model(config: "ModelServerConfig") -> ServedModel:
    """The one model of a configuration.

    Raises:
      TandemError: it is not one, or asks for what is not offered.
    """
    models = config.model_config_list.config
    if len(models) != 1:
        raise TandemError(
            f"the configuration lists {len(models)} models, expected one in model_config_list: a server serves"
            " one push directory."
        )
    (model,) = models
    if not model.name:
        raise TandemError("the model has no name, expected the one that clients ask for: add name.")
    if model.model_platform not in ("", "tensorflow"):
        raise TandemError(f"model_platform is {model.model_platform!r}, expected 'tensorflow' or none.")
    if model.HasField("logging_config"):
        raise TandemError("logging_config is not offered: leave it out, and name a --prediction-log instead.")
    return ServedModel(model.name, model.base_path, _choice(model))


def _choice(model: "ModelConfig") -> VersionChoice:
    labels = dict(model.version_labels)
    policy = model.model_version_policy
    kind = policy.WhichOneof("policy_choice")
    if kind == "specific":
        if not policy.specific.versions:
            raise TandemError("model_version_policy is specific without versions, expected at least one.")
        specific = frozenset(policy.specific.versions)
        for label, version in labels.items():
            if version not in specific:
                raise TandemError(
                    f"label {label!r} stands for version {version}, expected one of the specific versions"
                    f" {', '.join(map(str, sorted(specific)))}: list it, or change the label."
                )
        return VersionChoice(None, specific, labels)
    if kind == "all":
        return VersionChoice(None, None, labels)
    # As TensorFlow Serving: no policy, or one that names no number, is the newest one.
    return VersionChoice(policy.latest.num_versions or 1, None, labels)
