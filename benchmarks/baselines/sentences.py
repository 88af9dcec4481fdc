"""A sentence encoder, as published or fine-tuned with sentence-transformers, in the baselines' own environment."""

import argparse
import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.baselines.purchases import binary, user_items
from benchmarks.baselines.task import Task, load_task, rank_by_scores, save_arrays

BATCH = 64
LEARNING_RATE = 5e-5
SEED = 0


def fine_tune(model: Any, task: Task, epochs: int) -> None:
    """MultipleNegativesRankingLoss on every distinct (query, text of an item it led to), all weights, in place."""
    from datasets import Dataset
    from sentence_transformers import SentenceTransformerTrainer, SentenceTransformerTrainingArguments
    from sentence_transformers.losses import MultipleNegativesRankingLoss
    from sentence_transformers.training_args import BatchSamplers

    there = np.flatnonzero(task.event_queries != "")
    pairs = sorted({(str(task.event_queries[n]), str(task.texts[task.event_items[n]])) for n in there})
    print(f"  fine-tuning on {len(pairs):,} pairs, {epochs} epochs", flush=True)
    with tempfile.TemporaryDirectory() as directory:
        arguments = SentenceTransformerTrainingArguments(
            output_dir=directory,
            num_train_epochs=epochs,
            per_device_train_batch_size=BATCH,
            learning_rate=LEARNING_RATE,
            batch_sampler=BatchSamplers.NO_DUPLICATES,
            save_strategy="no",
            logging_steps=20,
            report_to=[],
            seed=SEED,
            use_cpu=True,
            dataloader_pin_memory=False,
        )
        data = Dataset.from_dict(
            {"anchor": [query for query, _ in pairs], "positive": [text for _, text in pairs]}
        )
        loss = MultipleNegativesRankingLoss(model)
        SentenceTransformerTrainer(model=model, args=arguments, train_dataset=data, loss=loss).train()


def request_vectors(
    task: Task, items: NDArray[np.float32], queries: NDArray[np.float32]
) -> NDArray[np.float32]:
    """A request's query, or without one the mean of the items its user has acted on; float32 [Q, D], length 1 or 0.

    Args:
      task: the requests.
      items: float32 [N, D], unit vectors of the item texts.
      queries: float32 [Q, D], of the queries; not looked at where there is none.
    """
    history = binary(user_items(task))
    rows = np.where(task.users >= 0, task.users, 0)
    means = (
        np.asarray(history[rows] @ items) * (task.users >= 0)[:, np.newaxis]
        if history.shape[0]
        else 0 * queries
    )
    vectors = np.where((task.queries != "")[:, np.newaxis], queries, means)
    return (vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)).astype(np.float32)


def encode(model: Any, texts: NDArray[np.str_]) -> NDArray[np.float32]:
    """Unit vectors of texts, each distinct one encoded once."""
    distinct, place = np.unique(texts, return_inverse=True)
    print(f"  encoding {len(distinct):,} texts", flush=True)
    vectors = model.encode(
        distinct.tolist(), batch_size=BATCH, normalize_embeddings=True, show_progress_bar=False
    )
    return np.asarray(vectors, np.float32)[place]


def main() -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("task", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--encoder", required=True, help="directory in Hugging Face's layout")
    parser.add_argument("--epochs", type=int, default=0, help="0: as published")
    parser.add_argument("--depth", type=int, required=True)
    options = parser.parse_args()
    os.environ |= {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    import torch
    from sentence_transformers import SentenceTransformer

    torch.manual_seed(SEED)
    task = load_task(options.task)
    model = SentenceTransformer(options.encoder, device="cpu")
    if options.epochs:
        fine_tune(model, task, options.epochs)
    items, queries = encode(model, task.texts), encode(model, task.queries)
    requests = request_vectors(task, items, queries)
    save_arrays(options.out, rank_by_scores(task, lambda block: requests[block] @ items.T, options.depth))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
