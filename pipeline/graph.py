"""The whole pipeline on one screen."""

import json
import os

import tensorflow_model_analysis as tfma  # noqa: F401  registers the evaluation protos that TFX serialises
from tfx import v1 as tfx
from tfx.proto import transform_pb2

from pipeline.evaluator import eval_config
from pipeline.example_validator import StrictExampleValidator
from pipeline.gatekeeper import Gatekeeper
from pipeline.index_validator import IndexValidator
from pipeline.previous_push import PreviousPush
from pipeline.push_board import PushBoard
from pipeline.pusher import Pusher
from pipeline.settings import Settings
from serving.catalog_indexer import CatalogIndexer
from transform.features import HISTORIES, written_splits
from transform.interaction_gen import InteractionGen


def create_pipeline(
    settings: Settings,
    *,
    schema_file: str,
    span: int = -1,
    previous_version: int = -1,
    input_fingerprint: str = "",
    started: float = 0.0,
) -> tfx.dsl.Pipeline:
    """Wires every component; nothing flows back except the previous push.

    Args:
      settings: the profile.
      schema_file: the curated schema that ImportSchemaGen takes in.
      span: newest span to use; -1 is the newest there is when the run starts.
      previous_version: version to start from; 0 starts anew, -1 is the newest when the run starts.
      input_fingerprint: changes when the data does, so that cached results are used only for the same data.
      started: when the run started, seconds UTC, for the lineage; 0 where that is not known.
    """
    root = os.path.abspath(settings.paths.pipeline_root)
    features = settings.features.model_dump_json()
    encoder = settings.encoder.model_dump_json()

    previous = PreviousPush(push_dir=os.path.abspath(settings.paths.push_dir), version=previous_version)
    interactions = InteractionGen(
        data=settings.data.model_dump_json(),
        features=features,
        span=span,
        input_fingerprint=input_fingerprint,
        previous_push=previous.outputs["push"],
    )
    examples = interactions.outputs["examples"]
    statistics = tfx.components.StatisticsGen(examples=examples, exclude_splits=[HISTORIES])
    schema = tfx.components.ImportSchemaGen(schema_file=schema_file)
    validator = StrictExampleValidator(
        statistics=statistics.outputs["statistics"],
        schema=schema.outputs["schema"],
        examples=examples,
        previous_push=previous.outputs["push"],
        features=features,
        bad_days=settings.bad_days.model_dump_json(),
    )
    transform = tfx.components.Transform(
        examples=examples,
        schema=schema.outputs["schema"],
        preprocessing_fn="transform.preprocessing.preprocessing_fn",
        splits_config=transform_pb2.SplitsConfig(
            analyze=["train", "items"], transform=list(written_splits(settings.features))
        ),
        custom_config={"features": features, "encoder_preset": settings.encoder.preset},
        disable_analyzer_cache=True,  # its keys are whole splits, which change with every run
        disable_statistics=True,  # StatisticsGen has them
    )
    transform.add_upstream_node(validator)
    trainer = tfx.components.Trainer(
        run_fn="towers.trainer.run_fn",
        examples=transform.outputs["transformed_examples"],
        transform_graph=transform.outputs["transform_graph"],
        schema=schema.outputs["schema"],
        base_model=previous.outputs["push"],
        train_args=tfx.proto.TrainArgs(splits=["train"]),
        eval_args=tfx.proto.EvalArgs(splits=["eval"]),
        custom_config={
            "features": features,
            "encoder": encoder,
            "model": settings.model.model_dump_json(),
            "training": settings.training.model_dump_json(),
        },
    )
    indexer = CatalogIndexer(
        model=trainer.outputs["model"],
        examples=examples,
        statistics=statistics.outputs["statistics"],
        features=features,
        index=settings.index.model_dump_json(),
        bad_days=settings.bad_days.model_dump_json(),
    )
    evaluator = tfx.components.Evaluator(
        examples=examples, model=indexer.outputs["bundle"], example_splits=["eval"], eval_config=eval_config()
    )
    gatekeeper = Gatekeeper(
        bundle=indexer.outputs["bundle"],
        previous_push=previous.outputs["push"],
        examples=examples,
        gates=json.dumps([gate.model_dump() for gate in settings.gates]),
    )
    index_validator = IndexValidator(
        bundle=indexer.outputs["bundle"], examples=examples, index=settings.index.model_dump_json()
    )
    pusher = Pusher(
        bundle=indexer.outputs["bundle"],
        examples=examples,
        evaluation=evaluator.outputs["evaluation"],
        model_blessing=gatekeeper.outputs["blessing"],
        index_blessing=index_validator.outputs["blessing"],
        previous_push=previous.outputs["push"],
        push_dir=os.path.abspath(settings.paths.push_dir),
        started=started,
    )
    board = PushBoard(
        bundle=indexer.outputs["bundle"],
        previous_push=previous.outputs["push"],
        model_blessing=gatekeeper.outputs["blessing"],
        pushed=pusher.outputs["pushed"],
        examples=examples,
        log_dir=os.path.join(root, "tensorboard", "pushes"),
    )
    return tfx.dsl.Pipeline(
        pipeline_name=settings.name,
        pipeline_root=root,
        components=[
            previous,
            interactions,
            statistics,
            schema,
            validator,
            transform,
            trainer,
            indexer,
            evaluator,
            gatekeeper,
            index_validator,
            pusher,
            board,
        ],
        enable_cache=True,
        metadata_connection_config=tfx.orchestration.metadata.sqlite_metadata_connection_config(
            os.path.join(root, "metadata.sqlite")
        ),
        beam_pipeline_args=list(settings.beam_args),
    )
