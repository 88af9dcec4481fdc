"""Seconds of sentence-transformers' training steps, of the very fine-tuning that quality is compared with."""

import argparse
import json
import os
import time
from pathlib import Path

import numpy as np

from benchmarks.baselines.sentences import SEED, fine_tune
from benchmarks.baselines.task import load_task


def main() -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("task", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--encoder", required=True, help="directory in Hugging Face's layout")
    parser.add_argument("--tokens", type=int, required=True, help="of a text, at most")
    options = parser.parse_args()
    os.environ |= {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    import torch
    from sentence_transformers import SentenceTransformer

    torch.manual_seed(SEED)
    model = SentenceTransformer(options.encoder, device="cpu")
    model.max_seq_length = options.tokens
    calls: list[tuple[float, float]] = []
    model.register_forward_pre_hook(lambda *_: calls.append((time.perf_counter(), time.process_time())))
    fine_tune(model, load_task(options.task), 1)
    # Two calls a step, queries and texts: from one step's first to the next one's is a whole step, input included.
    wall, processor = np.diff(np.array(calls[::2]), axis=0).T
    result = {
        "seconds": wall.tolist(),
        "processor_seconds": processor.tolist(),
        "threads": torch.get_num_threads(),
    }
    options.out.write_text(json.dumps(result), encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
