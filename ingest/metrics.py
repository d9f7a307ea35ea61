"""Counters of one writer, for the metrics page (metrics_server.py)."""

from collections import Counter
from collections.abc import Sequence

from ingest.message import STORED, Outcome, Status


class Metrics:
    def __init__(self) -> None:
        self.outcomes: Counter[Status] = Counter()
        self.batches = 0
        self.messages = 0  # of all batches
        self.commit_seconds_total = 0.0
        self.batch_size = 0  # of the last batch
        self.commit_seconds = 0.0  # of the last batch
        self.unauthorized = 0  # broker mode: messages with a token that is nobody's
        self.refused: Counter[str] = Counter()  # MQTT connections that have not signed in, by the reason
        self.dropped = 0  # QoS 0, while the queue was full
        self.peer_messages = 0  # copies of messages handed over to other gateways
        self.peer_dropped = 0  # that could not be: Valkey was away, or too many of them waited

    def batch(self, outcomes: Sequence[Outcome], seconds: float) -> None:
        stored = outcomes.count(STORED)
        self.outcomes[Status.STORED] += stored
        if stored < len(outcomes):  # seldom, and to hash a status takes Python code
            self.outcomes.update(outcome.status for outcome in outcomes if outcome is not STORED)
        self.batches += 1
        self.messages += len(outcomes)
        self.commit_seconds_total += seconds
        self.batch_size = len(outcomes)
        self.commit_seconds = seconds
