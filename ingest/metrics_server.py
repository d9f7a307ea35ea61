"""The metrics page of a process: Prometheus' text form at /metrics, and /healthz and /readyz beside it.

It has a port of its own, for the inside of the network: it asks for no password.
"""

import itertools
import logging
from collections.abc import Callable, Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from django.conf import settings
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.gc_collector import GCCollector
from prometheus_client.process_collector import ProcessCollector

from ingest.event_metrics import EventMetrics
from ingest.message import Reason, Status
from ingest.metrics import Histogram
from ingest.service import Ingest
from ingest.store_client import RemoteIngest
from thingscale.background import watched
from thingscale.background.watched import WatchedThread
from thingscale.version import VERSION

log = logging.getLogger(__name__)


Gauges = Callable[[], dict[str, int]]
TEXT = "text/plain; charset=utf-8"
READ_SECONDS = 5
HELP = {
    "queue_messages": "Messages taken and not yet stored",
    "queue_bytes": "Payload bytes of those",
    "peers": "Other gateways that this one hears of",
}


class Collector:
    """A collector, as prometheus_client asks for. Counters begin at 0 with the process."""

    def __init__(self, ingest: Ingest | RemoteIngest, gauges: Gauges, protocol: str) -> None:
        self._ingest = ingest
        self._protocol = protocol
        self._writer = ingest.writer
        self._gauges = gauges

    def collect(self) -> Iterator[Metric]:
        figures = self._writer.metrics
        outcomes = {status.value: figures.outcomes[status] for status in Status}
        yield _counters("messages", "Messages committed, by what became of them", "status", outcomes)
        reasons = {reason.value: figures.reasons[reason] for reason in Reason}
        yield _counters("reasons", "Messages held or rejected, by the reason", "reason", reasons)
        if refused := figures.refused:
            text = "MQTT connections refused before they signed in"
            yield _counters("connections_refused", text, "reason", refused)
        yield _counter("dropped", "QoS 0 messages dropped: queue full, or broker slow", figures.dropped)
        yield _counter("peer_messages", "Messages told to other gateways", figures.peer_messages)
        yield _counter(
            "peer_dropped",
            "Messages not told to other gateways: Valkey away, or too many waited",
            figures.peer_dropped,
        )
        yield _counter(
            "unauthorized", "Messages with a token that is nobody's (broker mode)", figures.unauthorized
        )
        yield _counter("batches", "Transactions committed", figures.batches)
        yield _counter("batch_messages", "Messages of all those transactions", figures.messages)
        yield _counter(
            "commit_seconds", "Time from taking a batch to its commit", figures.commit_seconds_total
        )
        yield _histogram(
            "batch_commit_seconds",
            "Time from taking a batch to its commit",
            figures.commit_times,
            scale=1_000_000,
        )
        yield _histogram("batch_size", "Messages of a transaction", figures.batch_sizes)
        yield _histogram(
            "acknowledgement_seconds",
            "Time from receiving a message to its acknowledgement",
            figures.acknowledged,
            scale=1_000_000,
            labels={"protocol": self._protocol},
        )
        yield _gauge("last_batch_size", "Messages of the last transaction", figures.batch_size)
        yield _gauge("last_commit_seconds", "Time that the last transaction took", figures.commit_seconds)
        yield _gauge("ready", "1 while the database is there", int(self._ingest.ready))
        for name, value in self._gauges().items():
            yield _gauge(name, HELP.get(name, name.replace("_", " ").capitalize()), value)


def _counter(name: str, text: str, value: float) -> Metric:
    return CounterMetricFamily(f"thingscale_{name}", text, value=value)


def _counters(name: str, text: str, label: str, values: Mapping[str, int]) -> Metric:
    family = CounterMetricFamily(f"thingscale_{name}", text, labels=[label])
    for value, count in values.items():
        family.add_metric([value], count)
    return family


def _histogram(
    name: str, text: str, histogram: Histogram, *, scale: int = 1, labels: dict[str, str] | None = None
) -> Metric:
    """`scale`: how many of the histogram's units make one of Prometheus'."""
    counts = list(itertools.accumulate(histogram.counts))  # Prometheus' buckets have the smaller ones in them
    bounds = [*(str(bound / scale) for bound in histogram.bounds), "+Inf"]
    family = HistogramMetricFamily(f"thingscale_{name}", text, labels=list(labels or ()))
    family.add_metric(
        list((labels or {}).values()), list(zip(bounds, counts, strict=True)), histogram.sum / scale
    )
    return family


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(f"thingscale_{name}", text, value=value)


class MetricsServer:
    """Port 0: none. A port that is taken is said once and does not stop the process. `store`: the id of the
    store's process, where it has one."""

    def __init__(
        self,
        port: int,
        ingest: Ingest | RemoteIngest,
        gauges: Gauges = dict,
        store: int | None = None,
        protocol: str = "mqtt",
    ) -> None:
        self._port = port
        self._ingest = ingest
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(Collector(ingest, gauges, protocol))
        self._events = EventMetrics()
        self._registry.register(self._events)
        ProcessCollector(registry=self._registry)
        if store is not None:
            ProcessCollector("thingscale_store", lambda: store, registry=self._registry)
        GCCollector(registry=self._registry)
        self._server: ThreadingHTTPServer | None = None
        self._thread: WatchedThread | None = None

    def start(self) -> None:
        if not self._port:
            return
        try:
            self._server = ThreadingHTTPServer((settings.METRICS_BIND, self._port), self._handler())
        except OSError as error:
            log.error("No metrics on port %d: %s", self._port, error.strerror)
            return
        self._server.daemon_threads = True
        self._thread = WatchedThread("metrics", self._server.serve_forever)
        self._thread.start()
        self._events.start()

    def stop(self) -> None:
        if self._server and self._thread:
            self._events.stop()
            self._thread.stopping.set()
            self._server.shutdown()
            self._server.server_close()

    def answer(self, path: str) -> tuple[int, str, bytes]:
        """Status, content type, body."""
        match path:
            case "/metrics":
                return 200, CONTENT_TYPE_PLAIN_0_0_4, generate_latest(self._registry)
            case "/healthz":
                return 200, TEXT, f"OK {VERSION}".encode()
            case "/readyz" if self._ingest.ready:
                return 200, TEXT, b"OK"
            case "/readyz" if parts := watched.failing():
                return 503, TEXT, f"FAILING: {', '.join(parts)}".encode()
            case "/readyz":
                return 503, TEXT, b"DATABASE_UNAVAILABLE"
        return 404, TEXT, b"There are /metrics, /healthz and /readyz."

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        page = self

        class Handler(BaseHTTPRequestHandler):
            timeout = READ_SECONDS

            def do_GET(self) -> None:
                status, content_type, body = page.answer(self.path.split("?")[0])
                self.send_response(status)
                self.send_header("Content-Type", content_type)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:
                """Nothing: it is asked every few seconds."""

        return Handler
