"""BM25 on stemmed item texts (`bm25s`, PyStemmer), in the baselines' own environment: TASK in, RANKING out."""

import argparse
from pathlib import Path

import numpy as np

from benchmarks.baselines.task import Ranking, Task, load_task, rank_by_scores, save_arrays


def bm25(task: Task, depth: int) -> Ranking:
    """Ranks by Lucene's BM25 (k1 1.5, b 0.75) of the query in the item's text; English stems and stop words.

    Items without a word of the query are not ranked.
    """
    import bm25s
    import Stemmer

    stemmer = Stemmer.Stemmer("english")

    def words(texts: list[str]) -> list[list[str]]:
        return bm25s.tokenize(texts, stopwords="en", stemmer=stemmer, return_ids=False, show_progress=False)

    index = bm25s.BM25()
    index.index(words(task.texts.tolist()), show_progress=False)
    queries = words(task.queries.tolist())

    def score(block: slice) -> np.ndarray:
        scores = np.zeros((block.stop - block.start, len(task.texts)), np.float32)
        for row, query in enumerate(queries[block]):
            known = [word for word in query if word in index.vocab_dict]
            if known:
                scores[row] = index.get_scores(known)
        print(f"  {block.stop:,} of {len(queries):,} queries", flush=True)
        return np.where(scores > 0, scores, -np.inf)

    return rank_by_scores(task, score, depth)


def main() -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("task", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--depth", type=int, required=True)
    options = parser.parse_args()
    save_arrays(options.out, bm25(load_task(options.task), options.depth))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
