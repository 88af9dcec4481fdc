"""Keeps the chosen versions of a push directory loaded, by default the newest, and swaps in one step."""

import enum
import logging
import os
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

from serving.bundle import versions
from serving.loaded_bundle import LoadedBundle
from serving.memory import return_freed_memory
from serving.repeated import Repeated
from serving.version_choice import NEWEST, VersionChoice
from transform.errors import TandemError

logger = logging.getLogger("tandem.serving")

# Versions that were replaced and are still reported; a refused one is never forgotten.
_REMEMBERED = 20


class State(enum.IntEnum):
    """`ModelVersionStatus.State` of the TensorFlow Serving API."""

    LOADING = 20
    AVAILABLE = 30
    END = 50


class VersionStatus(NamedTuple):
    """Where a version stands, and why it was refused if it was."""

    state: State
    error: str = ""


class VersionWatcher:
    """Looks into the push directory every so often, and loads what its choice of versions names.

    A version is announced only after `load` returns. One that does not load is refused once and for all,
    and what is loaded stays. A version taken out of the directory gives way to the newest that is left,
    which is a rollback.

    Attributes:
      choice: which versions are served; `choose` changes it.
      loaded: version -> what answers now; never empty again once it is not, and replaced, not changed:
        readers take the reference once a request.
      swaps: how many times the newest loaded version has become another one.
      refusals: how many versions did not load.
      when_ready: called whenever a version has begun to answer.
    """

    def __init__(
        self,
        push_dir: str | os.PathLike[str],
        load: Callable[[Path], LoadedBundle],
        poll_seconds: float = 1.0,
        choice: VersionChoice = NEWEST,
    ) -> None:
        self.push_dir = Path(push_dir)
        self.choice = choice
        self.loaded: Mapping[int, LoadedBundle] = {}
        self.swaps = 0
        self.refusals = 0
        self.when_ready: Callable[[], None] = lambda: None
        self._load = load
        self._statuses: dict[int, VersionStatus] = {}
        self._polling = threading.Lock()
        self._watch = Repeated(self._look, poll_seconds, "version-watcher")
        self._said = ""
        self._replaced: list[LoadedBundle] = []

    @property
    def current(self) -> LoadedBundle | None:
        """The newest version that is loaded: it answers requests that name none."""
        loaded = self.loaded
        return loaded[max(loaded)] if loaded else None

    def start(self) -> None:
        """Begins to watch, in a thread of its own."""
        self._watch.start()

    def stop(self) -> None:
        """Ends the watch; returns when its thread is over, or after a while."""
        self._watch.stop()

    def statuses(self) -> dict[int, VersionStatus]:
        """Version -> status, of every version seen."""
        return dict(self._statuses)

    def why_unavailable(self) -> str:
        """One line for a caller who came before a version was loaded."""
        refused = [status.error for status in self._statuses.values() if status.error]
        if refused:
            return f"no version is loaded: {refused[-1]}"
        return f"no version is loaded yet: waiting for one in {self.push_dir}"

    def choose(self, choice: VersionChoice) -> None:
        """Serves by another choice from now on; returns when its versions are loaded.

        Raises:
          TandemError: a label names a version that cannot be served by this choice, in which case nothing
            changes, or one that turns out not to load.
        """
        there = [v for v in choice.candidates(versions(self.push_dir)) if not self._refused(v)]
        for label, version in choice.labels.items():
            if version not in there[: choice.latest]:
                raise TandemError(
                    f"label {label!r} stands for version {version}, expected one of those to be served"
                    f" ({', '.join(map(str, there[: choice.latest])) or 'none'}): nothing was changed."
                )
        self.choice = choice
        self.poll()
        for label, version in choice.labels.items():
            if version not in self.loaded:
                raise TandemError(f"label {label!r}: {self._refused(version) or 'its version was taken out'}")

    def poll(self) -> None:
        """Looks once; loads and swaps where there is something better."""
        with self._polling:
            if self._replaced:  # one look ago, so that requests in flight are over, and this thread ends them
                self._replaced.clear()
                return_freed_memory()
            try:
                there = versions(self.push_dir)
            except TandemError as error:  # what cannot be read now may be there again at the next look
                self._say(str(error))
                return
            if not there and not self.loaded:
                what = "no version yet" if self.push_dir.is_dir() else "not there yet"
                self._say(f"push directory {self.push_dir}: {what}; waiting")
            choice = self.choice
            good: list[int] = []
            for version in choice.candidates(there):
                if choice.latest is not None and len(good) == choice.latest:
                    break
                if version in self.loaded or (not self._refused(version) and self._try(version)):
                    good.append(version)
            self._keep(good)

    def _try(self, version: int) -> bool:
        before = self.current
        self._set(version, VersionStatus(State.LOADING))
        try:
            bundle = self._load(self.push_dir / str(version))
        except Exception as error:
            line = str(error).splitlines()[0] if str(error) else type(error).__name__
            self._set(version, VersionStatus(State.END, line))
            self.refusals += 1
            stays = f"version {before.manifest.version} stays" if before else "none is loaded"
            expected = isinstance(error, TandemError)
            logger.error("version %d refused, %s: %s", version, stays, line, exc_info=not expected)
            return False
        self.loaded = {**self.loaded, version: bundle}
        self._set(version, VersionStatus(State.AVAILABLE))
        self.when_ready()
        after = f", after version {before.manifest.version}" if before else ""
        logger.info("version %d serves %d items%s", version, bundle.manifest.item_count, after)
        if before and self.current is not before:
            self.swaps += 1
        return True

    def _keep(self, good: list[int]) -> None:
        """Lets go of every other version, unless that leaves none."""
        over = self.loaded.keys() - set(good)
        if not good or not over:
            return
        newest = max(self.loaded)
        self._replaced += [self.loaded[version] for version in over]
        self.loaded = {version: bundle for version, bundle in self.loaded.items() if version in good}
        for version in over:
            self._set(version, VersionStatus(State.END))
        if newest in over:  # taken out or not chosen any more: an older one takes over
            self.swaps += 1
            logger.info("version %d answers again, after version %d", max(self.loaded), newest)

    def _refused(self, version: int) -> str:
        """Why a version was refused; "" where it was not."""
        return self._statuses.get(version, VersionStatus(State.END)).error

    def _set(self, version: int, status: VersionStatus) -> None:
        statuses = {**self._statuses, version: status}
        over = sorted(v for v, s in statuses.items() if s == VersionStatus(State.END))[:-_REMEMBERED]
        self._statuses = {v: s for v, s in statuses.items() if v not in over}

    def _say(self, line: str) -> None:
        if line != self._said:
            logger.info(line)
            self._said = line

    def _look(self) -> None:
        try:
            self.poll()
        except Exception:
            logger.exception("the push directory could not be looked into; trying again")
