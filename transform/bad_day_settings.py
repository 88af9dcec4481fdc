"""How far a day may differ from the days that the previous push has seen, and served requests from those trained on."""

from collections.abc import Iterable

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from transform.errors import TandemError

FEW_EVENTS = "few_events"
DRIFT = "drift:"
FLOOD = "flood:"
SKEW = "skew:"


class BadDaySettings(BaseModel):
    """Bars against the previous push and for served requests, and the anomalies that are let through by name."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    max_category_drift: float = Field(
        default=0.3,
        gt=0,
        le=1,
        description="Largest change of one value's share (L-infinity) of a category or path feature, as a share of 1;"
        " no value counts as a value. A few hundred rows differ by a tenth through chance alone.",
    )
    max_number_drift: float = Field(
        default=0.3,
        gt=0,
        le=1,
        description="Largest Jensen-Shannon divergence of a number feature, from 0 (equal) to 1 (nothing in common)."
        " Prices in cents instead of euros reach 1, a third dearer 0.1; chance alone 0.2 on 30 rows.",
    )
    min_events_share: float = Field(
        default=0.5,
        ge=0,
        le=1,
        description="Fewest events of a new span, as a share of the median of the spans before it; below a half most"
        " are missing. Lower it where weekends or seasons halve the trade.",
    )
    max_item_share_rise: float = Field(
        default=0.1,
        gt=0,
        le=1,
        description="How much larger the most frequent item's share of a span's events may be than the median of the"
        " spans before it, as a share of 1; a tenth of all events on one item is a robot or a broken log.",
    )
    max_category_skew: float = Field(
        default=0.1,
        gt=0,
        le=1,
        description="Largest difference of one value's share (L-infinity) between served requests and training, of a"
        " category of requests; chance alone makes 0.03 of 500 requests.",
    )
    max_number_skew: float = Field(
        default=0.05,
        gt=0,
        le=1,
        description="Largest Jensen-Shannon divergence between served requests and training, of a number of requests"
        " by tenths of its training values. Twice as large numbers reach 0.09, another unit 0.8; chance alone 0.01 of"
        " 500 requests.",
    )
    min_skew_requests: int = Field(
        default=500,
        ge=1,
        description="Fewest logged requests that are compared with training; chance moves the shares of fewer.",
    )
    baseline_spans: int = Field(
        default=28,
        ge=1,
        description="Newest spans of the previous push whose medians count, in spans; four weeks of days hold every"
        " weekday and still follow the seasons.",
    )
    allow: tuple[str, ...] = Field(
        default=(),
        description="Anomalies that never stop a run, by the name that is printed with them, such as drift:weekday"
        " for a feature that is another one every day; --allow adds to them for one run.",
    )

    @field_validator("allow")
    @classmethod
    def _are_names(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        for name in names:
            prefix, _, what = name.partition(":")
            if name != FEW_EVENTS and not (f"{prefix}:" in (DRIFT, FLOOD, SKEW) and what):
                raise ValueError(
                    f"got {name!r}, expected the name of an anomaly as it is printed: {FEW_EVENTS}, {DRIFT}FEATURE,"
                    f" {FLOOD}ITEM_ID or {SKEW}FEATURE"
                )
        return names

    def allowing(self, names: Iterable[str]) -> "BadDaySettings":
        """The same bars with more names let through.

        Raises:
          TandemError: a name is none of an anomaly.
        """
        try:
            return self.model_validate({**self.model_dump(), "allow": (*self.allow, *names)})
        except ValidationError as error:
            raise TandemError(f"--allow: {error.errors()[0]['msg']}.") from error
