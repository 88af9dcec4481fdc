"""The Trainer's entry: transformed examples in, towers as a SavedModel and a training state out."""

import json
import logging
import os
import shutil
import time
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from towers.architecture import describe_architecture
from towers.build import build_model, keyed_variables
from towers.catalogue import Catalogue
from towers.checkpoints import Checkpoints, newest_checkpoint
from towers.datasets import Batches
from towers.early_stopping import EarlyStopping, hold_out
from towers.encoder import load_encoder
from towers.evaluation import evaluate_model
from towers.examples import Requests, read_catalogue, read_histories, read_requests
from towers.export import export_towers
from towers.fit import compile_model, count_steps, fit, prepare_model
from towers.item_rows import save_item_rows
from towers.job import Job, clear_other_checkpoints, parse_job, settings_text, summary_path
from towers.made_up import make_up_queries
from towers.mining import mine_hard_negatives, mine_once, mining_step
from towers.precision import choose_precision, make_strategy
from towers.progress import Progress
from towers.query_texts import encode_queries, index_queries
from towers.serving_copy import ServingCopy
from towers.snapshot import restore_snapshot, take_snapshot
from towers.state import TrainingState, carry_state, check_architecture, load_state, save_state
from towers.text_cache import encode_new_texts, has_texts, save_texts
from towers.text_states import TextStates, states_fit
from towers.tune_encoder import has_weights, load_weights, save_weights, tune_encoder
from towers.two_tower import TwoTower
from towers.vocabulary import Vocabulary, load_vocabularies
from towers.workers import agree, of_chief, read_workers, wait_for_all
from transform.features import ITEM_ID_VOCABULARY
from transform.runtime import check_environment

logger = logging.getLogger("tandem.train")


def run_fn(fn_args: Any) -> None:
    """What TFX's Trainer calls.

    Args:
      fn_args: `tfx.components.FnArgs` with custom_config features, encoder, model and training as JSON.

    Raises:
      TandemError: bad settings, input or previous state; or training diverged.
    """
    check_environment()
    job = parse_job(fn_args)
    clear_other_checkpoints(job)
    train(job)


def train(job: Job) -> dict[str, Any]:
    """Trains, evaluates and writes; returns the summary of the run.

    Where TF_CONFIG names several workers, each calls it with the same job, and the chief writes.

    Raises:
      TandemError: bad input or previous state; or training diverged.
    """
    import tensorflow_transform as tft

    started = time.perf_counter()
    workers, strategy = read_workers(), make_strategy(job.training)
    precision = choose_precision(job.training.precision, len(tf.config.list_physical_devices("GPU")))
    logger.info(
        "precision %s (%s), %d replica(s), worker %d of %d",
        precision.policy,
        precision.reason,
        strategy.num_replicas_in_sync,
        workers.rank + 1,
        workers.size,
    )
    keras.utils.set_random_seed(job.training.seed)
    transform_output = tft.TFTransformOutput(job.transform_graph)
    vocabularies = load_vocabularies(transform_output, job.features)
    previous = _previous_state(job, vocabularies)
    rows = vocabularies[ITEM_ID_VOCABULARY].rows
    requests = read_requests(job.train_files, job.features)
    catalogue = read_catalogue(job.item_files, job.features, rows)
    held_out = None
    if job.training.early_stopping:
        requests, held_out = hold_out(requests)
        logger.info("%d training requests held out", held_out.size)
    logger.info("%d training requests, %d items", requests.size, rows - 1)
    query_texts, encoded, query_tokens = None, 0, None
    tuned = _tuned_encoder(job, previous is not None, requests, catalogue, strategy, precision.policy)
    if job.encoder.trainable == "frozen":
        encoder = load_encoder(job.encoder, "float32", tuned)
        state_dir = job.previous_state if previous is not None else None
        if job.checkpoint_dir and has_texts(job.checkpoint_dir):
            state_dir = job.checkpoint_dir
        text, encoded = encode_new_texts(encoder, catalogue.tokens, "item texts", state_dir)
        catalogue = catalogue._replace(text=text)
        if job.checkpoint_dir and encoded and workers.is_chief:
            save_texts(job.checkpoint_dir, catalogue)
        requests, query_texts = encode_queries(encoder, requests)
    elif job.encoder.trainable == "last_layers":
        requests, query_tokens = index_queries(requests)
    batches = Batches(
        requests,
        job.features,
        job.training.batch_size,
        job.training.targets_per_request,
        strategy.num_replicas_in_sync,
        job.training.seed,
    )
    steps = count_steps(job.training, batches, previous is not None)
    pairs = int(np.ceil(steps * batches.pairs_per_batch * job.model.made_up_queries))
    made_up = make_up_queries(catalogue, pairs, job.training.seed) if pairs else None

    with strategy.scope():
        backbone = load_encoder(job.encoder, precision.policy, tuned)
        model = build_model(
            job.features, job.model, backbone, vocabularies, precision.policy, job.training.negatives
        )
        prepare_model(model, batches, catalogue, job.training.negatives, is_new=previous is None)
        if query_texts is not None:
            model.use_query_texts(query_texts)
        if made_up is not None:
            model.use_made_up_queries(made_up)
        start = previous.step if previous is not None else 0
        compile_model(model, job.training, precision.policy, steps, start)
        if previous is not None:
            restore_snapshot(model, previous)
            logger.info("warm start from step %d of %s", previous.step, job.previous_state)
        done = _go_on(job, model, start)
        if model.cooccurrence is not None:
            logger.info("solving what goes together in the users' histories")
            model.cooccurrence.learn(read_histories(job.history_files))
    if query_tokens is not None and states_fit(model.encoder, catalogue.tokens):
        texts = {"item texts": catalogue.tokens, "queries": query_tokens}
        if made_up is not None:
            texts["made-up queries"] = np.pad(made_up.tokens, ((1, 0), (0, 0)))
        model.use_text_states(*(TextStates(model.encoder, tokens, what) for what, tokens in texts.items()))
    agree(strategy, "the step to go on from", start + done)

    def snapshot(steps_done: int) -> TrainingState:
        architecture = describe_architecture(job.features, job.encoder, job.model)
        keyed = keyed_variables(model, job.features)
        return take_snapshot(model, architecture, vocabularies, keyed, start + steps_done)

    progress = Progress(
        steps, start, batches.pairs_per_batch, job.log_dir if workers.is_chief else None, done
    )
    progress.write_settings(settings_text(job))
    callbacks: list[Any] = [progress]
    copy = ServingCopy(job.features, job.encoder, job.model, vocabularies, query_texts)
    stopping = None
    if held_out is not None:

        def evaluate() -> float:
            metrics = evaluate_model(copy.of(model), catalogue, held_out, job.features)
            progress.write(metrics, "held_out")
            return of_chief(strategy, metrics[job.training.early_stopping_metric])

        stopping = EarlyStopping(
            job.training, steps, evaluate, snapshot, job.checkpoint_dir, start, done, workers.is_chief
        )
        callbacks.append(stopping)
    if workers.is_chief and job.checkpoint_dir:
        callbacks.append(Checkpoints(job.checkpoint_dir, snapshot, job.checkpoint_seconds, done))
    if job.training.hard_negatives:
        at = mining_step(steps, previous is not None)
        if done < at:
            fit(model, batches, at, callbacks, job.training.seed, done)
        batches.use_hard_negatives(
            mine_once(
                lambda: mine_hard_negatives(copy.of(model), catalogue, requests, job.features, job.training),
                job.checkpoint_dir,
                done > at,
                workers.is_chief,
            )
        )
        done = max(done, at)
    fit(model, batches, steps, callbacks, job.training.seed, done)
    if stopping is not None and stopping.best is not None:
        last = stopping.best
        with strategy.scope():
            restore_snapshot(model, last)
    else:
        last = snapshot(steps)
    if not workers.is_chief:
        wait_for_all(strategy)  # until the chief has written: should it die before, all go on together
        return {}

    save_state(job.state_dir, last)
    save_texts(job.state_dir, catalogue)
    if catalogue.text is not None:
        save_item_rows(job.state_dir, vocabularies[ITEM_ID_VOCABULARY].keys)
    if tuned is not None:
        save_weights(job.state_dir, tuned)
    served = copy.of(model)
    metrics = evaluate_model(served, catalogue, read_requests(job.eval_files, job.features), job.features)
    progress.write(metrics, "eval")
    logger.info("eval: %s", ", ".join(f"{name} {value:.4f}" for name, value in metrics.items()))
    export_towers(served, transform_output, job.features, job.serving_dir)
    summary: dict[str, Any] = {
        "warm_start": previous is not None,
        "steps": last.step - start,
        "total_steps": last.step,
        "encoded_texts": encoded,
        "pairs_per_second": round(progress.pairs_per_second, 1),
        "loss": progress.loss,
        "precision": precision.policy,
        "replicas": strategy.num_replicas_in_sync,
        "workers": workers.size,
        "seconds": round(time.perf_counter() - started, 1),
        "metrics": metrics,
    }
    summary_path(job).write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")
    wait_for_all(strategy)
    if job.checkpoint_dir:
        shutil.rmtree(job.checkpoint_dir, ignore_errors=True)
    return summary


def _go_on(job: Job, model: TwoTower, start: int) -> int:
    """Restores the newest checkpoint, if there is one: steps of this run that are done."""
    checkpoint = newest_checkpoint(job.checkpoint_dir) if job.checkpoint_dir else None
    if checkpoint is None:
        return 0
    restore_snapshot(model, checkpoint)
    logger.info("going on from the checkpoint of step %d", checkpoint.step)
    return checkpoint.step - start


def _previous_state(job: Job, vocabularies: dict[str, Vocabulary]) -> TrainingState | None:
    if job.previous_state is None:
        logger.info("no previous push: training from scratch")
        return None
    state = load_state(job.previous_state)
    wanted = describe_architecture(job.features, job.encoder, job.model)
    check_architecture(state.architecture, wanted, job.previous_state)
    return carry_state(state, vocabularies)


def _tuned_encoder(
    job: Job, is_warm: bool, requests: Requests, catalogue: Catalogue, strategy: Any, policy: str
) -> list[np.ndarray] | None:
    """The encoder's weights where it is tuned before the towers: by this run, one that died, or the first of all."""
    if not job.encoder.tuning_steps:
        return None
    if is_warm:
        return load_weights(str(job.previous_state))
    if job.checkpoint_dir and has_weights(job.checkpoint_dir):
        return load_weights(job.checkpoint_dir)
    log_dir = os.path.join(job.log_dir, "encoder") if job.log_dir and read_workers().is_chief else None
    tuned = tune_encoder(
        job.features, job.encoder, job.training, requests, catalogue.tokens, strategy, policy, log_dir
    )
    if job.checkpoint_dir and read_workers().is_chief:
        save_weights(job.checkpoint_dir, tuned)
    return tuned
