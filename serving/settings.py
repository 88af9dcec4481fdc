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
        " x 128.",
    )
    partition_above: int = Field(
        default=100_000,
        ge=0,
        description="Items above which the catalogue is partitioned into a tree; up to it every item is"
        " scored with"
        " quantised vectors, which misses far less and takes about 0.3 ms for 100,000 x 128.",
    )
    leaves: int | None = Field(
        default=None,
        ge=1,
        description="Partitions of the tree; none: the square root of the number of items, ScaNN's own"
        " advice.",
    )
    searched_share: float = Field(
        default=0.25,
        gt=0,
        le=1,
        description="Share of the partitions that a query looks into; more is slower and misses less.",
    )
    reorder: int = Field(
        default=500,
        ge=1,
        description="Candidates scored again with their full float32 vectors; several times k keeps recall"
        " high.",
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
    def _reorders_at_least_k(self) -> "IndexSettings":
        if self.reorder < self.k:
            raise ValueError(f"reorder is {self.reorder}, expected at least k ({self.k})")
        return self
