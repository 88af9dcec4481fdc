"""The one typed, validated object that configures a pipeline, loaded from a YAML profile."""

import difflib
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from serving.settings import IndexSettings
from towers.settings import EncoderSettings, ModelSettings, TrainingSettings
from transform.bad_day_settings import BadDaySettings
from transform.errors import TandemError
from transform.settings import DataSettings, FeatureSettings


class Gate(BaseModel):
    """A bar before a push: the mean of one metric over one slice of held-out requests; see docs/decisions.md."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    metric: Literal["recall_at_10", "recall_at_100", "ndcg_at_10", "mrr"] = Field(
        description="Mean over held-out requests, full corpus, exact."
    )
    view: Literal["all", "unseen", "new_item", "tail_item", "anchor"] = Field(
        default="all",
        description="Which held-out targets count, or anchor: requests of older days, kept from training; see"
        " docs/data.md.",
    )
    user_group: Literal["new", "returning", "none"] | None = Field(
        default=None, description="Only requests of these users; none: requests without a user."
    )
    query_group: Literal["with_query", "without_query"] | None = Field(
        default=None, description="Only requests with, or without, a typed query."
    )
    at_least: float | None = Field(
        default=None,
        ge=0,
        le=1,
        description="Lowest mean that may be pushed, as a share; the only bar of a first run.",
    )
    lose_at_most: float | None = Field(
        default=None,
        ge=0,
        lt=1,
        description="Share of the previous push's mean, on the same requests, that may be lost: 0.05 lets 0.20"
        " fall to 0.19.",
    )
    confidence: float = Field(
        default=0.95,
        ge=0.5,
        lt=1,
        description="Coverage of the bootstrap interval that tells a loss from chance; only with lose_at_most.",
    )
    reason: str = Field(min_length=1, description="Why the bar stands where it does.")

    @model_validator(mode="after")
    def _has_a_bar(self) -> "Gate":
        if self.at_least is None and self.lose_at_most is None:
            raise ValueError("a gate needs at_least or lose_at_most, received neither")
        return self


class PathSettings(BaseModel):
    """Where a pipeline keeps its things; relative paths start at the working directory."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    pipeline_root: str = Field(description="Artifacts, metadata.sqlite and logs of every run.")
    push_dir: str = Field(description="Where versions are pushed and servers look for them.")


class Settings(BaseModel):
    """Everything a run is configured by."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(
        pattern=r"^[a-z][a-z0-9-]*$", description="Names the pipeline in metadata and on Kubeflow."
    )
    paths: PathSettings
    data: DataSettings
    features: FeatureSettings = FeatureSettings()
    encoder: EncoderSettings
    model: ModelSettings = ModelSettings()
    training: TrainingSettings = TrainingSettings()
    index: IndexSettings = IndexSettings()
    bad_days: BadDaySettings = BadDaySettings()
    gates: tuple[Gate, ...] = Field(
        min_length=1, description="Bars before a push; one has at_least, or a first run could not be judged."
    )
    beam_args: tuple[str, ...] = Field(
        default=("--runner=FnApiRunner", "--sdk_container_image=in-process"),
        description="Options for Beam; the default runs in this process, and names an image so that TFX does not"
        " pack itself for workers elsewhere (4 seconds a component).",
    )

    @field_validator("gates")
    @classmethod
    def _judge_a_first_run(cls, gates: tuple[Gate, ...]) -> tuple[Gate, ...]:
        if all(gate.at_least is None for gate in gates):
            raise ValueError("no gate has at_least, expected one at least: it is the only bar of a first run")
        return gates


def load_settings(profile: str | Path, overrides: dict[str, Any] | None = None) -> Settings:
    """Reads and checks a YAML profile.

    Args:
      profile: path of the YAML file.
      overrides: dotted setting -> value, put over the file's own, such as {"data.dataset": "shop"}; None values are left out.

    Raises:
      TandemError: the file is missing, is no YAML mapping, or holds a wrong key or value; the message names the key.
    """
    path = Path(profile)
    if not path.is_file():
        raise TandemError(
            f"profile {str(path)!r} does not exist; expected a YAML file, see pipeline/profiles/ for examples."
        )
    try:
        tree = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise TandemError(
            f"profile {str(path)!r} is not valid YAML: {' '.join(str(error).split())}"
        ) from error
    if not isinstance(tree, dict):
        raise TandemError(
            f"profile {str(path)!r} holds {type(tree).__name__}, expected a mapping of settings such as 'data:'."
        )
    for dotted, value in (overrides or {}).items():
        if value is not None:
            _put(tree, dotted.split("."), value)
    try:
        return Settings.model_validate(tree)
    except ValidationError as error:
        raise TandemError(f"profile {str(path)!r}: {_one_line(error)}") from error


def _put(tree: dict[str, Any], keys: list[str], value: Any) -> None:
    for key in keys[:-1]:
        tree = tree.setdefault(key, {})
    tree[keys[-1]] = value


def _one_line(error: ValidationError) -> str:
    problems = []
    for problem in error.errors():
        location = [str(part) for part in problem["loc"]]
        key = ".".join(location)
        if problem["type"] == "extra_forbidden":
            known = _known_keys(location[:-1])
            close = difflib.get_close_matches(location[-1], known, n=1)
            hint = (
                f"; did you mean {close[0]!r}?"
                if close
                else f"; expected one of {', '.join(known)}"
                if known
                else ""
            )
            problems.append(f"unknown setting {key!r}{hint}")
        elif problem["type"] == "missing":
            problems.append(f"setting {key!r} is missing")
        else:
            received = repr(problem["input"])
            shown = received if len(received) <= 80 else f"{received[:77]}..."
            problems.append(f"setting {key!r}: {problem['msg']}, received {shown}")
    return "; ".join(problems)


def _known_keys(location: list[str]) -> list[str]:
    model: Any = Settings
    for part in location:
        if part.isdigit():
            continue
        field = model.model_fields.get(part) if hasattr(model, "model_fields") else None
        if field is None:
            return []
        model = field.annotation
        model = next((a for a in getattr(model, "__args__", ()) if hasattr(a, "model_fields")), model)
    return sorted(model.model_fields) if hasattr(model, "model_fields") else []
