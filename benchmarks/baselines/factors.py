"""ALS and BPR of the `implicit` library, in the baselines' own environment: TASK in, RANKING out."""

import argparse
import os
from pathlib import Path

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # implicit has threads of its own

import numpy as np

from benchmarks.baselines.purchases import binary, user_items
from benchmarks.baselines.task import Ranking, Task, load_task, rank_by_scores, save_arrays

FACTORS = 64
SEED = 0


def factors(task: Task, method: str, iterations: int) -> Ranking:
    """Ranks by the inner product of a user's and an item's learnt factors; unknown users get popularity.

    Args:
      task: the requests.
      method: "als" (Hu, Koren & Volinsky 2008) or "bpr" (Rendle et al. 2009).
      iterations: passes over the data.
    """
    import implicit

    bought = binary(user_items(task))
    if method == "als":
        model = implicit.als.AlternatingLeastSquares(FACTORS, iterations=iterations, random_state=SEED)
    else:
        model = implicit.bpr.BayesianPersonalizedRanking(FACTORS, iterations=iterations, random_state=SEED)
    model.fit(bought)
    items = np.asarray(model.item_factors, np.float32)
    # A last row of zeros scores all items alike: popularity, by their order.
    users = np.vstack([np.asarray(model.user_factors, np.float32), np.zeros((1, items.shape[1]), np.float32)])
    known = np.diff(bought.indptr)[task.users] > 0 if bought.shape[0] else np.zeros(len(task.users), bool)
    rows = np.where((task.users >= 0) & known, task.users, len(users) - 1)
    return rank_by_scores(task, lambda block: users[rows[block]] @ items.T)


def main() -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("task", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--method", choices=("als", "bpr"), required=True)
    parser.add_argument("--iterations", type=int, required=True)
    options = parser.parse_args()
    save_arrays(options.out, factors(load_task(options.task), options.method, options.iterations))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
