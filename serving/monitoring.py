"""Prometheus metrics, under TensorFlow Serving's names where it has them."""

import collections
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Histogram, Metric, disable_created_metrics
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.exposition import choose_encoder

from serving.answer_cache import AnswerCache
from serving.batching import Batcher
from serving.child_process import RESTARTED
from serving.http_server import Handler
from serving.observed import Observed
from serving.request_gate import RequestGate

if TYPE_CHECKING:
    from serving.version_watcher import VersionWatcher

PATHS = ("/metrics", "/monitoring/prometheus/metrics")
_COUNT = ":tensorflow:serving:request_count"
_LATENCY = ":tensorflow:serving:request_latency"
# TensorFlow Serving's own: 10 microseconds times powers of 1.8, to about 20 minutes.
_BUCKETS = [10 * 1.8**power for power in range(33)]


class Monitoring:
    """Counts calls of Predict, and reads the rest off the server when it is asked.

    Attributes:
      registry: everything, ready to be exposed.
    """

    def __init__(
        self,
        model_name: str,
        watcher: "VersionWatcher",
        gate: RequestGate,
        batcher: Batcher | None,
        cache: AnswerCache | None,
    ) -> None:
        disable_created_metrics()
        self.registry = CollectorRegistry()
        self._model_name = model_name
        self._watcher = watcher
        self._gate = gate
        self._batcher = batcher
        self._cache = cache
        self._lock = threading.Lock()
        self._counts: collections.Counter[str] = collections.Counter()
        self._latency = Histogram(
            _LATENCY,
            "Wall time of a request in microseconds.",
            ["model_name", "API", "entrypoint"],
            buckets=_BUCKETS,
            registry=self.registry,
        )
        self.registry.register(self)
        self.registry.register(RESTARTED)
        if batcher:
            self.registry.register(batcher.sizes)
            self.registry.register(batcher.waits)

    def observe(self, observed: Observed) -> None:
        """Counts a call by status; the latency of those that were answered."""
        if observed.method != "Predict":
            return
        with self._lock:
            self._counts[observed.status] += 1
        if observed.status == "OK":
            labels = (self._model_name, observed.method, observed.entrypoint)
            self._latency.labels(*labels).observe(observed.seconds * 1e6)

    def collect(self) -> Iterator[Metric]:
        """The figures that are not a histogram; called by the registry."""
        model = [self._model_name]
        # Untyped, since this library would add _total to the name of a counter.
        count = Metric(_COUNT, "Requests by status.", "unknown")
        with self._lock:
            counts = dict(self._counts)
        for status, number in counts.items():
            count.add_sample(_COUNT, {"model_name": self._model_name, "status": status}, number)
        yield count
        in_flight = GaugeMetricFamily(
            "tandem_requests_in_flight", "Requests that compute or wait for a turn."
        )
        in_flight.add_metric([], self._gate.in_flight)
        yield in_flight
        version = GaugeMetricFamily(
            "tandem_served_version", "Version that answers requests which name none.", labels=["model_name"]
        )
        items = GaugeMetricFamily("tandem_index_items", "Items in its index.", labels=["model_name"])
        loaded = GaugeMetricFamily(
            "tandem_loaded_version", "1 for each version that is loaded.", labels=["model_name", "version"]
        )
        current = self._watcher.current
        if current is not None:
            version.add_metric(model, current.manifest.version)
            items.add_metric(model, current.manifest.item_count)
        for number in self._watcher.loaded:
            loaded.add_metric([*model, str(number)], 1)
        yield from (version, items, loaded)
        yield CounterMetricFamily(
            "tandem_swaps", "Times that another version took over.", value=self._watcher.swaps
        )
        yield CounterMetricFamily(
            "tandem_refused_bundles", "Versions that did not load.", value=self._watcher.refusals
        )
        if self._batcher:
            yield CounterMetricFamily("tandem_batches", "Calls of the model.", value=self._batcher.calls)
            yield CounterMetricFamily(
                "tandem_batched_requests", "Requests that they answered.", value=self._batcher.requests
            )
        if self._cache:
            yield CounterMetricFamily("tandem_cache_hits", "Answers given before.", value=self._cache.hits)
            yield CounterMetricFamily("tandem_cache_misses", "Answers made anew.", value=self._cache.misses)


def metrics_handler(registry: CollectorRegistry) -> type[Handler]:
    """An HTTP handler that answers GET of `PATHS`, in the format that the scraper prefers."""

    class MetricsHandler(Handler):
        """Exposes one registry."""

        def do_GET(self) -> None:
            """The figures as text."""
            if self.path.split("?")[0] not in PATHS:
                self.reply(404, "text/plain", f"not found, expected {PATHS[0]}\n".encode())
                return
            encode, content_type = choose_encoder(self.headers.get("Accept", ""))
            self.reply(200, content_type, encode(registry))

    return MetricsHandler
