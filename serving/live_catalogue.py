"""The catalogue while the server runs: changes are embedded, logged, and shown by every loaded version."""

import logging
import threading
import time
import weakref
from collections.abc import Mapping
from typing import Any

from serving.catalogue_changes import Change, State, read_change
from serving.catalogue_log import CatalogueLog, CatalogueLogError, Read
from serving.embed_changes import changes_of, held_by, item_columns, warm_up
from serving.loaded_bundle import LoadedBundle
from serving.manifest import BundleError
from serving.repeated import Repeated
from serving.request_gate import Caller, RequestGate
from serving.request_inputs import Limits, RequestError

logger = logging.getLogger("tandem.serving")

# Writers that wait for their turn; one more is refused at once.
_WRITERS = 8
# How often another server's changes are looked for: well within the second that a change may take.
_FOLLOW_SECONDS = 0.25


class LiveCatalogue:
    """Keeps the versions that are loaded at the state that all changes make; readers take no lock.

    Attributes:
      state: what all changes come to.
      changes: how many have been taken in since the start, another server's among them.
      last_seconds: from the arrival of the last change at this server until every version showed it.
    """

    def __init__(self, log: CatalogueLog, limits: Limits) -> None:
        """Reads the log.

        Raises:
          TandemError: it is damaged, or cannot be read.
        """
        self.changes = 0
        self.last_seconds = 0.0
        self._log = log
        self._limits = limits
        self.state = State(0, {}).after(log.open())
        self._trim()
        self._bundles: weakref.WeakSet[LoadedBundle] = weakref.WeakSet()
        self._writers = RequestGate(_WRITERS, 1)
        self._lock = threading.Lock()  # of those who change anything
        self._behind_since = 0.0
        self._said = ""
        self._follower = Repeated(self._follow, _FOLLOW_SECONDS, "catalogue-follower")

    def start(self) -> None:
        """Begins to take in the changes that other servers write into the log."""
        self._follower.start()

    def stop(self) -> None:
        """Ends that."""
        self._follower.stop()

    def attach(self, bundle: LoadedBundle) -> LoadedBundle:
        """Brings a version that nobody asks yet to the state of the catalogue, and keeps it there from now on.

        Raises:
          BundleError: the version makes no vector of an item.
        """
        warm_up(bundle)
        bundle.changes = changes_of(bundle, self.state)  # may take long; what comes meanwhile is little
        with self._lock:
            bundle.changes = changes_of(bundle, self.state)
            self._bundles.add(bundle)
            try:
                self._settle(bundle)
            except CatalogueLogError as error:
                logger.warning(
                    "which changes version %d holds is not written down: %s", bundle.manifest.version, error
                )
        return bundle

    def apply(self, body: Mapping[str, Any], caller: Caller) -> dict[str, Any]:
        """Makes a change: on the disk and in every loaded version's answers when it returns, or not at all.

        Args:
          body: see `serving.catalogue_changes.read_change`.
          caller: who waits.

        Returns:
          `upserted` and `deleted`, numbers of items; `not_found`, deleted ids that no loaded version had; `versions`,
          those that answer with the change.

        Raises:
          RequestError: the change is refused, or cannot be written.
        """
        started = time.monotonic()
        with self._writers.turn(caller), self._lock:
            bundles = list(self._bundles)
            if not bundles:
                raise RequestError(
                    "UNAVAILABLE", "no version is loaded yet, expected one that embeds the items"
                )
            change = read_change(body, item_columns(bundles), self._limits)._replace(time=time.time())
            not_found = [i for i in change.delete if not any(bundle.has(i.encode()) for bundle in bundles)]
            try:
                self._write(change, bundles)
            except CatalogueLogError as error:
                raise RequestError("FAILED_PRECONDITION", str(error)) from error
            except BundleError as error:
                raise RequestError("INVALID_ARGUMENT", str(error)) from error
        self.last_seconds = time.monotonic() - started
        return {
            "upserted": len(change.upsert),
            "deleted": len(change.delete),
            "not_found": not_found,
            "versions": sorted(bundle.manifest.version for bundle in bundles),
        }

    def log_bytes(self) -> int:
        """Size of the log."""
        return self._log.size()

    def behind_seconds(self) -> float:
        """How long there have been changes in the log that not every loaded version shows; 0 where there are none."""
        return time.monotonic() - self._behind_since if self._behind_since else 0.0

    def _write(self, change: Change, bundles: list[LoadedBundle]) -> None:
        while True:
            self._take_in(self._log.read())
            state = self.state.after([change])
            prepared = [(bundle, changes_of(bundle, state)) for bundle in bundles]
            if self._log.append(change):
                break
        for bundle, changed in prepared:
            bundle.changes = changed
        self.state = state
        self.changes += 1

    def _settle(self, bundle: LoadedBundle) -> None:
        """Writes down which upserts a later version holds: from it on, they are the dataset's."""
        while held := held_by(bundle, self.state):
            self._write(Change([], [], time.time(), held), list(self._bundles))

    def _take_in(self, read: Read) -> bool:
        """Whether there was anything to be taken in."""
        if read.changes:
            self.state = self.state.anew(read.changes) if read.whole else self.state.after(read.changes)
            self.changes += len(read.changes)
        behind = [bundle for bundle in self._bundles if bundle.changes.number != self.state.number]
        for bundle in behind:
            bundle.changes = changes_of(bundle, self.state)
        return bool(read.changes or behind)

    def _follow(self) -> None:
        if not self._log.has_news() and not self._behind_since:
            return
        self._behind_since = self._behind_since or time.monotonic()
        try:
            with self._lock:
                took = self._take_in(self._log.read())
        except Exception as error:
            if str(error) != self._said:
                logger.exception("changes of the catalogue cannot be taken in; trying again")
            self._said = str(error)
            return
        if took:
            self.last_seconds = time.monotonic() - self._behind_since
        self._behind_since, self._said = 0.0, ""

    def _trim(self) -> None:
        before = self.log_bytes()
        try:
            trimmed = self._log.trim(self.state.shortest())
        except CatalogueLogError as error:
            logger.warning("the log of catalogue changes is not trimmed: %s", error)
        else:
            if trimmed:
                logger.info("%s was trimmed from %d to %d bytes", self._log.path, before, self.log_bytes())
