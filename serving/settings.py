"""How the index is built, and the bars it must clear before a bundle is pushed."""

from pydantic import BaseModel, ConfigDict, Field, model_validator

# The name that clients ask for, as TensorFlow Serving's models.config gives it.
MODEL_NAME = "retrieval"


class IndexSettings(BaseModel):
    """Settings of the nearest-neighbour index inside a bundle."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    k: int = Field(
        default=100,
        ge=1,
        le=1000,
        description="Items a query is answered with; a client shows fewer by taking the first ones.",
    )
    brute_force_below: int = Field(
        default=20_000,
        ge=0,
        description="Items below which ScaNN scores everything exactly, which takes about 0.5 ms for 20,000"
        " x 128; from there on the catalogue is partitioned.",
    )
    leaves: int | None = Field(
        default=None,
        ge=1,
        description="Partitions of the tree; none: the square root of the number of items, ScaNN's own"
        " advice.",
    )
    target_recall: float = Field(
        default=0.98,
        gt=0,
        le=1,
        description="Share of the exact top k that the index is tuned to find, at least cost, on vectors of held-out"
        " requests.",
    )
    min_recall: float = Field(
        default=0.95,
        ge=0,
        le=1,
        description="Lowest share of the exact top k that the index must find, on held-out requests.",
    )
    max_p99_ms: float = Field(
        default=250.0,
        gt=0,
        description="Slowest allowed 99th percentile of a single request (embedding and search), in"
        " milliseconds;"
        " wide, because the machine that validates is seldom the one that serves.",
    )

    @model_validator(mode="after")
    def _aims_at_the_bar(self) -> "IndexSettings":
        if self.target_recall < self.min_recall:
            raise ValueError(
                f"target_recall is {self.target_recall}, expected at least min_recall ({self.min_recall})"
            )
        return self
