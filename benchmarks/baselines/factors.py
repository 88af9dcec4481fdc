"""ALS and BPR of the `implicit` library, in the baselines' own environment: TASK in, RANKING out."""

import argparse
import os
import sys
from pathlib import Path

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # implicit has threads of its own

import numpy as np
from numpy.typing import NDArray

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
    model.fit(bought, show_progress=sys.stderr.isatty())
    users, items = (np.asarray(found, np.float32) for found in (model.user_factors, model.item_factors))
    return rank_by_factors(task, users, items)


def rank_by_factors(task: Task, users: NDArray[np.float32], items: NDArray[np.float32]) -> Ranking:
    """Ranks by inner product; a user without events gets popularity.

    Args:
      task: the requests.
      users: float32 [users, D]; a row for each that has events, or more.
      items: float32 [N, D].
    """
    # A last row of zeros scores all items alike: popularity, by their order.
    users = np.vstack([users, np.zeros((1, items.shape[1]), np.float32)])
    rows = np.where(np.isin(task.users, task.event_users) & (task.users >= 0), task.users, -1)
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
