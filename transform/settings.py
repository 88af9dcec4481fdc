"""What a shop declares about its data: features, event types, spans and time ranges."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

RESERVED_NAMES = frozenset(
    {
        # Columns of the dataset that have a meaning of their own.
        "item_id",
        "user_id",
        "timestamp",
        "event_type",
        "query",
        "weight",
        "session_id",
        # Raw features and Transform outputs that InteractionGen and Transform add.
        "item",
        "item_tokens",
        "item_word_tokens",
        "item_word_numbers",
        "item_ids",
        "exclude_item_ids",
        "exclude_history",
        "query_tokens",
        "query_lexemes",
        "item_lexemes",
        "item_lexeme_words",
        "history_item_ids",
        "history_event_types",
        "history_ages",
        "history_items",
        "history_types",
        "target_item_ids",
        "target_items",
        "target_weights",
        "known_positive_ids",
        "known_positives",
        "view",
        "user_group",
        "query_group",
    }
)


class Feature(BaseModel):
    """One declared column."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(
        pattern=r"^[A-Za-z][A-Za-z0-9_]*$",
        description="Column name in the dataset, and feature name everywhere.",
    )
    kind: Literal["category", "path", "number"] = Field(
        description="category: a string; path: a string of levels, 'A > B > C'; number: a float, bucketed."
    )


class FeatureSettings(BaseModel):
    """What the towers see: text columns, declared features, event types and lengths."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    item_text: tuple[str, ...] = Field(
        default=("title", "brand", "category"),
        description="Columns of items joined with a space for the encoder, in order; must contain title.",
    )
    item: tuple[Feature, ...] = Field(
        default=(
            Feature(name="category", kind="path"),
            Feature(name="brand", kind="category"),
            Feature(name="price", kind="number"),
        ),
        description="Columns of items with an embedding of their own in the item tower.",
    )
    user: tuple[Feature, ...] = Field(
        default=(), description="Columns of users that the query tower sees (profile)."
    )
    context: tuple[Feature, ...] = Field(
        default=(),
        description="Columns of events that are known when the request is made (device, shop, hour, ...).",
    )
    event_types: dict[str, float] = Field(
        default={"purchase": 1.0},
        description="Event type -> weight as a training target; a type that is not listed is history only.",
    )
    history_length: int = Field(
        default=200, ge=1, le=1000, description="Newest events kept as history, in events."
    )
    query_tokens: int = Field(
        default=16,
        ge=3,
        le=512,
        description="Tokens kept of a query, start and end included; shop queries are short.",
    )
    item_tokens: int = Field(
        default=32, ge=3, le=512, description="Tokens kept of an item's text, start and end included."
    )
    lexical_buckets: int = Field(
        default=0,
        ge=0,
        le=1 << 24,
        description="Rows of the table of hashed words and word pieces that texts are also matched by, beside the"
        " encoder: brands, model numbers, misspellings. 0: the encoder alone; 65536 suits 100,000 items.",
    )
    cooccurrence_items: int = Field(
        default=0,
        ge=0,
        le=20000,
        description="So many items that most users acted on are also matched by which of them go together in all users'"
        " histories (EASE), anew in each run. The cost is cubic in it: 10000 take 20 s and 1.3 GB. 0: only by what is trained.",
    )
    number_buckets: int = Field(
        default=16, ge=2, le=1000, description="Quantile buckets of each number feature."
    )
    category_min_count: int = Field(
        default=1,
        ge=1,
        description="A category or path value seen in fewer rows than this has no index of its own.",
    )

    @field_validator("item_text")
    @classmethod
    def _has_title(cls, columns: tuple[str, ...]) -> tuple[str, ...]:
        if "title" not in columns:
            raise ValueError(
                f"got {list(columns)}, expected a list that contains 'title', the one text every item has"
            )
        if len(set(columns)) != len(columns):
            raise ValueError(f"got {list(columns)}, expected each column once")
        taken = sorted(set(columns) & RESERVED_NAMES)
        if taken:
            raise ValueError(f"{', '.join(taken)}: reserved by Tandem, not a text column; rename the column")
        return columns

    @field_validator("event_types")
    @classmethod
    def _has_targets(cls, weights: dict[str, float]) -> dict[str, float]:
        if not weights:
            raise ValueError(
                "got no event type, expected at least one, such as {purchase: 1.0}; all others are history"
            )
        for name, weight in weights.items():
            if not name:
                raise ValueError("got an empty event type, expected its name as the events spell it")
            if not 0.0 < weight < float("inf"):
                raise ValueError(
                    f"{name}: got weight {weight}, expected a finite number above 0, or no entry at all"
                )
        return weights

    @model_validator(mode="after")
    def _names_are_unique(self) -> "FeatureSettings":
        names = [feature.name for feature in (*self.item, *self.user, *self.context)]
        for name in sorted(set(names)):
            if names.count(name) > 1:
                raise ValueError(
                    f"{name}: declared {names.count(name)} times over item, user and context features,"
                    " expected each name once; rename the column in one of the files"
                )
            if name in RESERVED_NAMES:
                raise ValueError(f"{name}: reserved by Tandem, not a feature name; rename the column")
        for feature in (*self.user, *self.context):
            if feature.name.startswith("filter_"):
                raise ValueError(f"{feature.name}: reserved for filters of items; rename the column")
        numbers = {feature.name for feature in self.item if feature.kind == "number"}
        if numbers & set(self.item_text):
            raise ValueError(
                f"{', '.join(sorted(numbers & set(self.item_text)))}: a number cannot be in item_text"
            )
        clash = sorted(set(self.item_text) & {feature.name for feature in (*self.user, *self.context)})
        if clash:
            raise ValueError(
                f"{', '.join(clash)}: in item_text and a user or context feature; rename one of the columns"
            )
        if any(feature.name == "title" and feature.kind != "category" for feature in self.item):
            raise ValueError("title: only kind 'category' is possible for the title")
        return self


class DataSettings(BaseModel):
    """Which part of the dataset a run uses, and how it is split by time."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    dataset: str = Field(min_length=1, description="Dataset directory (items, users, events/span-<n>).")
    window_spans: int = Field(
        default=52,
        ge=1,
        description="A first run learns from the targets of at most that many newest spans, in spans; a warm start"
        " learns some of them again.",
    )
    history_spans: int = Field(
        default=52,
        ge=0,
        description="Spans read before the oldest target's span, for history only, in spans.",
    )
    holdout_days: float = Field(
        default=7,
        gt=0,
        description="Newest days held out of training for evaluation; a week covers every weekday.",
    )
    replay_share: float = Field(
        default=0.15,
        ge=0,
        le=1,
        description="Share of the window's requests that a warm start learns again, for those just before the new ones;"
        " older ones decay. Without any, a model forgets what this week did not sell.",
    )
    replay_half_life_days: float = Field(
        default=28,
        gt=0,
        description="After so many days a request is half as likely to be learnt again.",
    )
    replay_rare_factor: float = Field(
        default=4,
        ge=1,
        description="Times as likely to be learnt again if all that a request led to is tail items, which have few"
        " others; in proportion where some are.",
    )
    target_half_life_days: float | None = Field(
        default=None,
        gt=0,
        description="A training request so many days old weighs half as much, so that what sells now counts; unset, all"
        " weigh the same.",
    )
    anchor_share: float = Field(
        default=0.02,
        ge=0,
        lt=1,
        description="Share of all requests that no run learns from: the older ones judge what was forgotten.",
    )
    known_positive_days: float = Field(
        default=7,
        ge=0,
        description="Days around a request in which the same user's other items are never negatives for it.",
    )
    tail_max_events: int = Field(
        default=10,
        ge=1,
        description="An item with at most that many events before the cut is a tail item, in events.",
    )
    max_rejected_share: float = Field(
        default=0.01,
        ge=0,
        le=1,
        description="The run stops when a larger share of the rows is rejected; 0.01 = 1 %.",
    )
