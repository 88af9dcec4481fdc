"""Keeps the newest good version of a push directory loaded, and swaps it in one step."""

import enum
import gc
import logging
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from serving.bundle import versions
from serving.loaded_bundle import LoadedBundle
from transform.errors import TandemError

logger = logging.getLogger("tandem.serving")

# Versions that were replaced and are still reported; a refused one is never forgotten.
_REMEMBERED = 20
# A version that is being loaded at the end is given that long.
_STOP_SECONDS = 10.0


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
    """Looks into the push directory every so often; the newest version that loads is the current one.

    A version is announced only after `load` returns. One that does not load is refused once and for all,
    and the current one stays. A version taken out of the directory gives way to the newest that is left,
    which is a rollback.

    Attributes:
      current: what answers now; readers take the reference once a request.
      when_ready: called whenever a version has begun to answer.
    """

    def __init__(
        self,
        push_dir: str | os.PathLike[str],
        load: Callable[[Path], LoadedBundle],
        poll_seconds: float = 1.0,
    ) -> None:
        self.push_dir = Path(push_dir)
        self.current: LoadedBundle | None = None
        self.when_ready: Callable[[], None] = lambda: None
        self._load = load
        self._poll_seconds = poll_seconds
        self._statuses: dict[int, VersionStatus] = {}
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="version-watcher", daemon=True)
        self._said = ""
        self._replaced = False

    def start(self) -> None:
        """Begins to watch, in a thread of its own."""
        self._thread.start()

    def stop(self) -> None:
        """Ends the watch; returns when its thread is over, or after a while."""
        self._stopped.set()
        if self._thread.is_alive():
            self._thread.join(_STOP_SECONDS)

    def statuses(self) -> dict[int, VersionStatus]:
        """Version -> status, of every version seen."""
        return dict(self._statuses)

    def why_unavailable(self) -> str:
        """One line for a caller who came before a version was loaded."""
        refused = [status.error for status in self._statuses.values() if status.error]
        if refused:
            return f"no version is loaded: {refused[-1]}"
        return f"no version is loaded yet: waiting for one in {self.push_dir}"

    def poll(self) -> None:
        """Looks once; loads and swaps where there is something better."""
        if self._replaced:  # one look ago, so that requests in flight are over: a model is full of cycles
            self._replaced = False
            gc.collect()
        try:
            there = versions(self.push_dir)
        except (
            TandemError
        ) as error:  # a directory that cannot be read now may be there again at the next look
            self._say(str(error))
            return
        if not there and self.current is None:
            what = "no version yet" if self.push_dir.is_dir() else "not there yet"
            self._say(f"push directory {self.push_dir}: {what}; waiting")
        for version in reversed(there):
            if self.current is not None and self.current.manifest.version == version:
                return
            if self._statuses.get(version, VersionStatus(State.END)).error:
                continue
            if self._try(version):
                return

    def _try(self, version: int) -> bool:
        self._set(version, VersionStatus(State.LOADING))
        try:
            loaded = self._load(self.push_dir / str(version))
        except Exception as error:
            line = str(error).splitlines()[0] if str(error) else type(error).__name__
            self._set(version, VersionStatus(State.END, line))
            stays = f"version {self.current.manifest.version} stays" if self.current else "none is loaded"
            expected = isinstance(error, TandemError)
            logger.error("version %d refused, %s: %s", version, stays, line, exc_info=not expected)
            return False
        before, self.current = self.current, loaded
        self._set(version, VersionStatus(State.AVAILABLE))
        self.when_ready()
        if before is not None:
            self._set(before.manifest.version, VersionStatus(State.END))
            self._replaced = True
        logger.info(
            "version %d serves %d items%s",
            version,
            loaded.manifest.item_count,
            f", after version {before.manifest.version}" if before else "",
        )
        return True

    def _set(self, version: int, status: VersionStatus) -> None:
        statuses = {**self._statuses, version: status}
        over = sorted(v for v, s in statuses.items() if s == VersionStatus(State.END))[:-_REMEMBERED]
        self._statuses = {v: s for v, s in statuses.items() if v not in over}

    def _say(self, line: str) -> None:
        if line != self._said:
            logger.info(line)
            self._said = line

    def _watch(self) -> None:
        while not self._stopped.is_set():
            try:
                self.poll()
            except Exception:
                logger.exception("the push directory could not be looked into; trying again")
            self._stopped.wait(self._poll_seconds)
