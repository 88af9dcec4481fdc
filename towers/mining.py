"""When hard negatives are mined: once in a run, from what its model, or the last push, ranks highest."""

import logging
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from towers.catalogue import Catalogue
from towers.evaluation import embed_all, items_of
from towers.examples import Requests
from towers.hard_negatives import HardNegatives, rank_below
from towers.settings import TrainingSettings
from towers.two_tower import TwoTower
from transform.features import KNOWN_POSITIVES, TARGET_ITEMS
from transform.settings import FeatureSettings

logger = logging.getLogger("tandem.train")

MOST = 50_000  # pairs of a run that have hard negatives; each is compared with the whole catalogue


def mining_step(steps: int, warm: bool) -> int:
    """The step before which a run mines: a warm start from the last push's vectors, a first run halfway from its own."""
    return 0 if warm else steps // 2


def mine_hard_negatives(
    model: TwoTower,
    catalogue: Catalogue,
    requests: Requests,
    features: FeatureSettings,
    settings: TrainingSettings,
) -> HardNegatives:
    """Mines for the pairs of evenly drawn requests, exactly, among all items.

    Args:
      model: as it is served.
      catalogue: every item.
      requests: training rows.
      features: declared features.
      settings: how many, the margin and the seed.
    """
    started = time.perf_counter()
    targets = requests.columns[TARGET_ITEMS]
    rows = np.random.default_rng((settings.seed, 3)).permutation(np.flatnonzero(np.diff(targets.offsets)))
    rows = np.sort(rows[: max(1, np.searchsorted(np.cumsum(targets.lengths(rows)), MOST, side="right"))])
    some = requests.take(rows)
    queries, items, bonus = embed_all(model, catalogue, some, features)
    places = np.arange(some.size)
    own = np.split(some.columns[TARGET_ITEMS].values - 1, some.columns[TARGET_ITEMS].offsets[1:-1])
    margin = settings.hard_negative_margin * model.settings.temperature
    found = rank_below(
        queries,
        items,
        own,
        items_of(some, KNOWN_POSITIVES, places),
        bonus,
        min(settings.hard_negatives, len(items)),
        margin,
    )
    row = np.zeros(len(targets.values), np.int32)
    row[targets.places(rows)] = np.arange(1, len(found) + 1)
    logger.info(
        "%d hard negatives of %d pairs mined in %.1f s",
        (found >= 0).sum(),
        len(found),
        time.perf_counter() - started,
    )
    return HardNegatives(row, np.pad(found + 1, ((1, 0), (0, 0))))


def mine_once(
    mine: Callable[[], HardNegatives], checkpoint_dir: str | None, done: bool, writes: bool
) -> HardNegatives:
    """Mines, or takes what an earlier process of the run mined: its model was another then.

    Args:
      mine: what mines.
      checkpoint_dir: where it is kept, beside checkpoints, or None.
      done: whether the run is past the step of mining; then a file is there, if there are checkpoints.
      writes: whether this is the worker that writes.
    """
    path = Path(checkpoint_dir, "hard_negatives.npz") if checkpoint_dir else None
    if done and path is not None:
        with np.load(path) as stored:
            return HardNegatives(stored["row"], stored["items"])
    mined = mine()
    if path is not None and writes:
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_suffix(".unfinished.npz")
        np.savez(unfinished, **mined._asdict())
        unfinished.rename(path)
    return mined
