"""What the towers are made of and how they are trained: encoder, model and training settings."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator


class EncoderSettings(BaseModel):
    """The text encoder that both towers share, and how much of it is trained."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())

    preset: str = Field(
        min_length=1, description="Directory of a KerasHub preset, as `tandem encoder import` writes it."
    )
    trainable: Literal["frozen", "last_layers", "lora", "all"] = Field(
        default="frozen",
        description="How much of the encoder is trained; frozen texts are encoded once, so it is by"
        " far the cheapest.",
    )
    last_layers: int = Field(
        default=2,
        ge=1,
        description="Transformer layers trained when trainable is last_layers, and in tuning_steps, counted from the top.",
    )
    lora_rank: int = Field(
        default=8,
        ge=1,
        description="Rank of the low-rank updates when trainable is lora; 8 is 1 % of MiniLM's weights.",
    )
    tuning_steps: int = Field(
        default=0,
        ge=0,
        description="With trainable frozen: steps of a run from scratch in which the last layers learn which texts answer"
        " which queries, before the towers are trained. Later runs keep that encoder, so they encode new texts only.",
    )
    tuning_batch_size: int = Field(
        default=128,
        ge=2,
        description="Pairs of a query and an item's text in each of them, over all replicas.",
    )

    @model_validator(mode="after")
    def _tune_what_is_frozen_later(self) -> "EncoderSettings":
        if self.tuning_steps and self.trainable != "frozen":
            raise ValueError(
                f"tuning_steps is {self.tuning_steps} and trainable is {self.trainable}, expected frozen:"
                " an encoder is tuned before the towers or with them; set tuning_steps to 0"
            )
        return self


class ModelSettings(BaseModel):
    """Shape of the two towers."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())

    dimension: int = Field(
        default=128,
        ge=1,
        le=1024,
        description="Length of query and item vectors, in floats; sets the index's size.",
    )
    lexical_dimension: int = Field(
        default=256,
        ge=1,
        description="How many of them say how a text is spelt, where features.lexical_buckets is set; fewer than all.",
    )
    view_loss: float = Field(
        default=0.3,
        ge=0,
        description="Weight of the losses that the lexical part and the rest have alone, beside the joint one, where"
        " features.lexical_buckets is set: without, the part that learns faster starves the other.",
    )
    cooccurrence_dimension: int = Field(
        default=64,
        ge=2,
        description="How many of them say which items go together, and one of these what is on the rise, where"
        " features.cooccurrence_items is set; fewer than all.",
    )
    cooccurrence_weight: float = Field(
        default=4.0,
        ge=0,
        description="What goes together counts so much: EASE's score, a share of users, times this is added to a request's"
        " scores if it has no text. More finds more of what is new to a user, and less of what is bought again.",
    )
    trend_weight: float = Field(
        default=0.25,
        ge=0,
        description="An item whose users came twice as often in the last 32 days as the average item's counts 2 to the power"
        " of this as much, in such requests. 0: what sells now is only what training makes of it.",
    )
    normalize: bool = Field(
        default=False,
        description="Whether vectors have length 1. Off: an item's length may carry its popularity,"
        " which recommends better.",
    )
    temperature: float = Field(
        default=1.0,
        gt=0,
        description="Scores are divided by it in the loss; about 0.05 suits normalised vectors.",
    )
    item_ids: bool = Field(
        default=True,
        description="Whether an item that was a training target has a vector of its own beside its text and features. Off"
        " where few of the items that are asked for were targets before, as with search judgments.",
    )
    item_id_dropout: float = Field(
        default=0.1,
        ge=0,
        lt=1,
        description="Share of items whose id embedding is left out of a training step, so that new"
        " items live on their text.",
    )
    history_dropout: float = Field(
        default=0.3,
        ge=0,
        lt=1,
        description="Share of history entries left out of a training step; keeps the towers from"
        " copying the history only.",
    )
    history_unknown: float = Field(
        default=0.05,
        ge=0,
        lt=1,
        description="Share of requests of a training step whose event types and ages are hidden, as clients"
        " that only know ids send them.",
    )
    made_up_queries: float = Field(
        default=0.1,
        ge=0,
        lt=1,
        description="Share of training pairs that are replaced by an item drawn evenly from the catalogue and two to four"
        " neighbouring words of its text as a query (a frozen encoder sees the whole text), so that search works in a shop"
        " that has no query log.",
    )


class TrainingSettings(BaseModel):
    """How the towers are trained."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())

    batch_size: int = Field(
        default=1024,
        ge=2,
        description="Pairs a step over all replicas; each pair's item is a negative of the others.",
    )
    targets_per_request: int = Field(
        default=8,
        ge=1,
        description="Items of one request in one batch, at most; a request is encoded once for all of them.",
    )
    negatives: int = Field(
        default=0,
        ge=0,
        description="Items drawn evenly from the catalogue as further negatives of a step, over all replicas.",
    )
    hard_negatives: int = Field(
        default=0,
        ge=0,
        description="Items that each pair has as negatives of its own: those that rank next below the pair's item, found once a"
        " run in the whole catalogue, by a warm start from the last push, by a first run halfway; for 50,000 pairs at most.",
    )
    hard_negative_margin: float = Field(
        default=1.0,
        ge=0,
        description="How far below the pair's own item they score at least, score divided by temperature; what scores"
        " higher may be wanted, too. 1: their odds are at most 1/e of its.",
    )
    steps: int = Field(default=1000, ge=0, description="Steps of a first run (no previous push), in batches.")
    warm_start_steps: int = Field(
        default=300, ge=0, description="Steps of a run that starts from a previous push, in batches."
    )
    max_epochs: float = Field(
        default=2.0,
        gt=0,
        description="A run stops after that many passes over its requests; more learn them by heart.",
    )
    early_stopping: int = Field(
        default=0,
        ge=0,
        description="Training ends after so many evaluations without a gain and keeps the best weights; a twentieth of the"
        " training requests, 2,000 at most, is held out for it. 0: all steps are taken, all requests learnt.",
    )
    early_stopping_metric: Literal["recall_at_10", "recall_at_100", "ndcg_at_10", "mrr"] = Field(
        default="recall_at_10", description="What has to gain; a metric that a gate looks at."
    )
    evaluation_steps: int = Field(
        default=200,
        ge=50,
        description="Steps between two such evaluations, over the whole catalogue; rounded up to fifties.",
    )
    learning_rate: float = Field(
        default=0.005, ge=0, description="Step size of Adam for everything but the encoder."
    )
    warm_start_learning_rate: float = Field(
        default=0.002,
        ge=0,
        description="The same in a run that starts from a previous push: what is learnt already needs smaller steps.",
    )
    projection_rate: float = Field(
        default=1.0,
        ge=0,
        le=1,
        description="The projections of encoded texts learn at learning_rate times this. They start as the directions in which"
        " the catalogue's texts differ; large steps lose those.",
    )
    encoder_learning_rate: float = Field(
        default=2e-5,
        ge=0,
        description="Step size of Adam for the encoder's trained weights; 2e-5 is usual for BERT.",
    )
    encoder_layer_decay: float = Field(
        default=1.0,
        gt=0,
        le=1,
        description="Each layer of the encoder has the step size of the one above it times this; 1: all have the same."
        " Below 1, the lower layers stay nearer to what they were pretrained to.",
    )
    warm_up: float = Field(
        default=0.0,
        ge=0,
        lt=1,
        description="Share of a run's steps over which all step sizes rise from near 0; 0.1 is usual where the encoder"
        " is trained.",
    )
    precision: Literal["auto", "float32", "mixed_float16", "mixed_bfloat16"] = Field(
        default="auto",
        description="Arithmetic of encoder and dense layers; auto: mixed_float16 on a GPU, float32 on a CPU.",
    )
    replicas: int = Field(
        default=1,
        ge=1,
        le=64,
        description="Logical CPU devices to train on when there is no GPU; with GPUs, all are used.",
    )
    seed: int = Field(default=17, ge=0, description="Seed of initial weights, shuffling and dropout.")
