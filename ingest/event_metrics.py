"""What the platform's workers have done for events (thingscale/events/figures.py), for the metrics page of
another process."""

import logging
import time
from collections.abc import Iterator

import psycopg
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from thingscale.background.watched import WatchedThread
from thingscale.events import figures
from thingscale.events.figures import Figures
from thingscale.events.models import Condition, Delivery
from thingscale.processes import own_connection

log = logging.getLogger(__name__)

State = Condition.State
SECONDS = 10.0  # between two looks
OLD_SECONDS = 60.0
STOP_SECONDS = 5.0


class EventMetrics:
    """A collector, as prometheus_client asks for. It reads the figures by itself, every few seconds, so that
    whoever asks for the page waits for no database."""

    def __init__(self) -> None:
        self._thread = WatchedThread("figures of events", self._run)
        self._read_at = 0.0
        self._figures = Figures()

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._thread.stop(STOP_SECONDS)

    def _run(self) -> None:
        while not self._thread.stopping.is_set():
            try:
                with own_connection.connect("thingscale-metrics") as connection:
                    self._figures = figures.read(connection)
                    self._read_at = time.monotonic()
            except psycopg.Error as error:
                log.info("No figures of events: %s", type(error).__name__)
            self._thread.stopping.wait(SECONDS)

    def collect(self) -> Iterator[Metric]:
        """Nothing, rather than old figures."""
        if not self._read_at or time.monotonic() - self._read_at > OLD_SECONDS:
            return
        found, counted = self._figures, self._figures.counted
        deliveries = CounterMetricFamily(
            "thingscale_deliveries",
            "Notifications, by what became of them",
            labels=["transport", "outcome"],
        )
        for transport in Delivery.Transport.values:
            for outcome in figures.OUTCOMES:
                value = counted[figures.of_delivery(transport, outcome)]
                deliveries.add_metric([transport, outcome.replace(" ", "_")], value)
        yield deliveries
        conditions = GaugeMetricFamily(
            "thingscale_conditions", "Conditions of events that are not ok", labels=["state"]
        )
        for state in (State.PENDING, State.FIRING, State.NO_DATA):
            conditions.add_metric([state.replace(" ", "_")], found.conditions.get(state, 0))
        yield conditions
        for name, text, value in (
            ("matches", "What matched an event", counted[figures.MATCHES, ""]),
            ("matches_left_out", "Of accounts that had too many", counted[figures.MATCHES_LEFT_OUT, ""]),
            ("events_set_aside", "That had to wait, for a lock or too long", counted[figures.SET_ASIDE, ""]),
            ("observations_dropped", "That could not be followed", counted[figures.DROPPED, ""]),
            ("matches_not_kept", "Since too many waited", counted[figures.NOT_KEPT, ""]),
            ("deliveries_late", "Sent late after they were due", counted[figures.LATE, ""]),
        ):
            yield CounterMetricFamily(f"thingscale_{name}", text, value=value)
        for name, text, measured in (
            ("observations_waiting", "What writers saw and no worker followed", found.observations),
            ("observations_oldest_seconds", "Age of the oldest of those", found.oldest_observation),
            ("deliveries_waiting", "That are due, or are tried again later", found.deliveries),
            ("deliveries_overdue_seconds", "How long the first of those has been due", found.overdue),
        ):
            yield GaugeMetricFamily(f"thingscale_{name}", text, value=measured)
