"""The baselines of each data set with their settings, each ranking made once and kept."""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.baselines.fusion import reciprocal_rank, weighted_sum
from benchmarks.baselines.purchases import (
    RECENT_DAYS,
    binary,
    bm25_weights,
    cosine_weights,
    ease,
    item_neighbours,
    own_most_frequent,
    popularity,
    user_items,
)
from benchmarks.baselines.task import Ranking, Task, save_arrays
from benchmarks.cached import Made, cached, code_of, fingerprint
from benchmarks.environment import LOCK, baseline_python, run_there
from benchmarks.held_out import HeldOut
from benchmarks.model_ranking import check_bundle, rank_by_bundle
from towers.encoder_source import find_source

FUSION_DEPTH = 1000  # items of a text ranking that can still rise by fusion
MOST_BOUGHT = 10_000
NEIGHBOURS = 20
EPOCHS = 2
BM25, UNTRAINED, FINE_TUNED = "BM25", "encoder, untrained", "encoder, fine-tuned"
WEIGHTS = tuple(round(0.1 * n, 1) for n in range(1, 10))


class Source(NamedTuple):
    """A data set and the settings of its baselines.

    Attributes:
      profile: of the run that pushes.
      is_search: baselines of texts rather than of purchases.
      regularisation: of EASE, in users.
      half_lives: of history in EASE, in days; the first is ItemKNN's too.
    """

    profile: str
    is_search: bool = False
    regularisation: float = 0.0
    half_lives: tuple[float, ...] = ()


SOURCES = {
    "home-depot": Source("home_depot.yaml", is_search=True),
    "online-retail": Source("online_retail.yaml", regularisation=500.0, half_lives=(45.0, 120.0)),
    "complete-journey": Source("complete_journey.yaml", regularisation=300.0, half_lives=(60.0,)),
}


class Bench:
    """One data set's rankings, each made once.

    Args:
      source: which baselines.
      task: what they are given.
      work: where rankings and the baselines' environment are kept.
      name: of the data set.
      encoder: directory or package of the sentence encoder.
    """

    def __init__(self, source: Source, task: Task, work: Path, name: str, encoder: str) -> None:
        self._source = source
        self._task = task
        self._encoder = encoder
        self._content = fingerprint(task)
        self._rankings = (work / name).resolve()
        self._environment = (work / "environment").resolve()
        self._rankings.mkdir(parents=True, exist_ok=True)
        self._task_file = self._rankings / f"task-{self._content[:16]}.npz"

    def baselines(self) -> dict[str, Callable[[], Made]]:
        """Name -> makes the ranking, or reads it."""
        return self._of_texts() if self._source.is_search else self._of_purchases()

    def fused(self, parts: dict[str, Made], score: Callable[[Ranking], float]) -> dict[str, Made]:
        """BM25 and the fine-tuned encoder made one; of the weighted sums, the one with the best score."""
        pair = [parts[BM25], parts[FINE_TUNED]]
        seconds = sum(made.seconds for made in pair)
        lists = [made.ranking for made in pair]
        sums = {weight: weighted_sum(lists, (1.0 - weight, weight)) for weight in WEIGHTS}
        best = max(WEIGHTS, key=lambda weight: score(sums[weight]))
        return {
            "BM25 + encoder, reciprocal rank": Made(reciprocal_rank(lists), seconds),
            f"BM25 + encoder, weighted sum ({best} encoder)": Made(sums[best], seconds),
        }

    def model(self, bundle: Path, held_out: HeldOut) -> Made:
        """The ranking of a pushed bundle."""
        manifest = check_bundle(bundle, held_out)
        asked = hashlib.sha256(b"\0".join(held_out.examples)).hexdigest()
        key = {"files": manifest.files, "task": self._content, "asked": asked}
        return cached(
            self._rankings, f"version {bundle.name}", key, lambda _: rank_by_bundle(bundle, held_out)
        )

    def _of_purchases(self) -> dict[str, Callable[[], Made]]:
        task, half_life = self._task, self._source.half_lives[0]
        bought = binary(user_items(task))
        here: dict[str, Callable[[Task], Ranking]] = {
            "popularity": popularity,
            "popularity, 28 days": lambda task: popularity(task, RECENT_DAYS),
            "own most frequent": own_most_frequent,
            "ItemKNN cosine": lambda task: item_neighbours(
                task, cosine_weights(bought), NEIGHBOURS, half_life
            ),
            "ItemKNN BM25": lambda task: item_neighbours(task, bm25_weights(bought), NEIGHBOURS, half_life),
        }
        for days in self._source.half_lives:
            here[f"EASE, half-life {days:.0f} days"] = lambda task, days=days: ease(
                task, self._source.regularisation, days, MOST_BOUGHT
            )
        settings = {
            "source": self._source._asdict(),
            "neighbours": NEIGHBOURS,
            "most_bought": MOST_BOUGHT,
            "recent_days": RECENT_DAYS,
        }
        return {
            **{name: self._here(name, settings, rank) for name, rank in here.items()},
            "ALS-64": self._there("ALS-64", "factors", "--method", "als", "--iterations", 15),
            "BPR-64": self._there("BPR-64", "factors", "--method", "bpr", "--iterations", 100),
            UNTRAINED: self._sentences(UNTRAINED, 0),
        }

    def _of_texts(self) -> dict[str, Callable[[], Made]]:
        return {
            "popularity": self._here("popularity", {}, popularity),
            BM25: self._there(BM25, "words", "--depth", FUSION_DEPTH),
            UNTRAINED: self._sentences(UNTRAINED, 0),
            FINE_TUNED: self._sentences(FINE_TUNED, EPOCHS),
        }

    def _here(
        self, name: str, settings: dict[str, Any], rank: Callable[[Task], Ranking]
    ) -> Callable[[], Made]:
        key = {"task": self._content, "settings": settings, "code": code_of("purchases")}
        return lambda: cached(self._rankings, name, key, lambda _: rank(self._task))

    def _sentences(self, name: str, epochs: int) -> Callable[[], Made]:
        options = ("--encoder", find_source(self._encoder), "--epochs", epochs, "--depth", FUSION_DEPTH)
        return self._there(name, "sentences", *options)

    def _there(self, name: str, module: str, *options: object) -> Callable[[], Made]:
        """A baseline in the environment of its own."""
        words = [str(option) for option in options]
        key = {"task": self._content, "options": words, "code": code_of(module), "lock": LOCK.read_text()}

        def make(path: Path) -> None:
            python = baseline_python(self._environment)
            if not self._task_file.is_file():
                save_arrays(self._task_file, self._task)
            run_there(python, f"benchmarks.baselines.{module}", (self._task_file, path, *words))

        return lambda: cached(self._rankings, name, key, make)
