"""Prometheus metrics of catalogue changes."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from prometheus_client import Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

if TYPE_CHECKING:
    from serving.live_catalogue import LiveCatalogue
    from serving.version_watcher import VersionWatcher


class CatalogueMetrics:
    """Reads the figures off the live catalogue when it is asked; for a registry."""

    def __init__(self, model_name: str, catalogue: "LiveCatalogue", watcher: "VersionWatcher") -> None:
        self._model_name = model_name
        self._catalogue = catalogue
        self._watcher = watcher

    def collect(self) -> Iterator[Metric]:
        """The figures."""
        entries = self._catalogue.state.entries.values()
        deleted = sum(entry.item is None for entry in entries)
        for name, help_text, value in (
            ("upserted_items", "Items whose content the log of changes gives.", len(entries) - deleted),
            ("deleted_items", "Items that the log of changes keeps out of every version.", deleted),
            ("log_bytes", "Size of the log of changes.", self._catalogue.log_bytes()),
            (
                "lag_seconds",
                "How long the log has held changes that not every loaded version shows.",
                self._catalogue.behind_seconds(),
            ),
            (
                "last_change_seconds",
                "From the arrival of the last change until every loaded version showed it.",
                self._catalogue.last_seconds,
            ),
        ):
            yield GaugeMetricFamily(f"tandem_catalogue_{name}", help_text, value=value)
        yield CounterMetricFamily(
            "tandem_catalogue_changes",
            "Changes that were taken in since the start.",
            value=self._catalogue.changes,
        )
        side = GaugeMetricFamily(
            "tandem_catalogue_side_items",
            "Items beside the index of a version, which are compared one by one.",
            labels=["model_name", "version"],
        )
        for version, bundle in self._watcher.loaded.items():
            side.add_metric([self._model_name, str(version)], len(bundle.changes.beside))
        yield side
