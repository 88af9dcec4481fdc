"""The one typed, validated object that configures a pipeline, loaded from a YAML profile."""

from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from pipeline.settings_file import one_line, read_mapping
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
        description="Options for Beam in every stage that uses it; the default runs in this process, and names an image so"
        " that TFX does not pack itself for workers elsewhere (4 seconds a component); clusters: docs/kubeflow.md.",
    )

    @field_validator("gates")
    @classmethod
    def _judge_a_first_run(cls, gates: tuple[Gate, ...]) -> tuple[Gate, ...]:
        if all(gate.at_least is None for gate in gates):
            raise ValueError("no gate has at_least, expected one at least: it is the only bar of a first run")
        return gates

    @model_validator(mode="after")
    def _stop_on_what_decides(self) -> "Settings":
        wanted = self.training.early_stopping_metric
        if self.training.early_stopping and wanted not in {gate.metric for gate in self.gates}:
            raise ValueError(
                f"training.early_stopping_metric is {wanted}, and no gate looks at it, expected one of"
                f" {', '.join(sorted({gate.metric for gate in self.gates}))}: what decides on the push decides when to stop"
            )
        return self

    @model_validator(mode="after")
    def _leave_the_towers_something(self) -> "Settings":
        views = {
            "lexical_dimension": self.features.lexical_buckets and self.model.lexical_dimension,
            "cooccurrence_dimension": self.features.cooccurrence_items and self.model.cooccurrence_dimension,
        }
        if any(views.values()) and sum(views.values()) >= self.model.dimension:
            taken = " and ".join(f"model.{name} is {length}" for name, length in views.items() if length)
            raise ValueError(
                f"{taken} of model.dimension {self.model.dimension}, expected fewer, or nothing is left for the towers;"
                " set features.lexical_buckets or features.cooccurrence_items to 0 to go without"
            )
        return self

    @model_validator(mode="after")
    def _add_up_in_one_unit(self) -> "Settings":
        if self.features.cooccurrence_items and self.model.normalize:
            raise ValueError(
                "features.cooccurrence_items is set and model.normalize is true, expected one of them: what goes"
                " together is added to scores that are logarithms of odds, and vectors of length 1 have others"
            )
        return self


def load_settings(profile: str | Path, overrides: dict[str, Any] | None = None) -> Settings:
    """Reads and checks a YAML profile.

    Args:
      profile: path of the YAML file.
      overrides: dotted setting -> value, put over the file's own, such as {"data.dataset": "shop"}; None values are left out.

    Raises:
      TandemError: the file is missing, is no YAML mapping, or holds a wrong key or value; the message names the key.
    """
    tree = read_mapping(profile, "profile", "pipeline/profiles/demo.yaml", "data")
    for dotted, value in (overrides or {}).items():
        if value is not None:
            _put(tree, dotted.split("."), value)
    try:
        return Settings.model_validate(tree)
    except ValidationError as error:
        raise TandemError(f"profile {str(profile)!r}: {one_line(error, Settings)}") from error


def _put(tree: dict[str, Any], keys: list[str], value: Any) -> None:
    for key in keys[:-1]:
        tree = tree.setdefault(key, {})
    tree[keys[-1]] = value
