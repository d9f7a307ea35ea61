"""Figures of one writer, for the metrics page (metrics_server.py)."""

from bisect import bisect_left
from collections import Counter
from collections.abc import Collection, Sequence

from ingest.message import STORED, Outcome, Reason, Status

# Upper bounds in microseconds: what a commit takes on a fast disk, up to a long outage of the database.
TIMES = tuple(
    round(seconds * 1_000_000)
    for seconds in (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
)
SIZES = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000)  # messages; writer.MAX_BATCH comes last
# What the store's process reports: outcomes, reasons, batches, messages, commit seconds of all,
# size and commit seconds of the last batch; counts and sum of commit times and of sizes.
Figures = tuple[dict[str, int], dict[str, int], int, int, float, int, float, list[int], int, list[int], int]


class Histogram:
    """How many values are in each bucket. prometheus_client's own costs a lock and Python code a value; here
    those of a batch are counted together. One thread writes, others read."""

    def __init__(self, bounds: Sequence[int]) -> None:
        self.bounds = bounds  # upper, included; above the last one there is one bucket more
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0

    def observe(self, value: int) -> None:
        self.counts[bisect_left(self.bounds, value)] += 1
        self.sum += value

    def observe_ages(self, begins: Collection[int], now: int) -> None:
        """Of what began at these times and ends now, in microseconds."""
        if not begins:
            return
        ordered = sorted(begins)  # which they nearly are, so that it costs little
        now = max(now, ordered[-1])  # the clock may have been set back
        self.sum += now * len(ordered) - sum(ordered)
        youngest = bisect_left(self.bounds, now - ordered[-1])
        oldest = bisect_left(self.bounds, now - ordered[0])
        left = len(ordered)
        for bucket in range(youngest, oldest):
            older = bisect_left(ordered, now - self.bounds[bucket])
            self.counts[bucket] += left - older
            left = older
        self.counts[oldest] += left


class Metrics:
    def __init__(self) -> None:
        self.outcomes: Counter[Status] = Counter()
        self.reasons: Counter[Reason] = Counter()  # of what is held or rejected
        self.batches = 0
        self.messages = 0  # of all batches
        self.commit_seconds_total = 0.0
        self.batch_size = 0  # of the last batch
        self.commit_seconds = 0.0  # of the last batch
        self.commit_times = Histogram(TIMES)
        self.batch_sizes = Histogram(SIZES)
        self.acknowledged = Histogram(TIMES)  # from a message's receipt to its acknowledgement
        self.unauthorized = 0  # broker mode: messages with a token that is nobody's
        self.refused: Counter[str] = Counter()  # MQTT connections that have not signed in, by the reason
        self.dropped = 0  # QoS 0, while the queue was full
        self.peer_messages = 0  # copies of messages handed over to other gateways
        self.peer_dropped = 0  # that could not be: Valkey was away, or too many of them waited

    def batch(self, outcomes: Sequence[Outcome], seconds: float) -> None:
        stored = outcomes.count(STORED)
        self.outcomes[Status.STORED] += stored
        if stored < len(outcomes):  # seldom, and to hash a status takes Python code
            others = [outcome for outcome in outcomes if outcome is not STORED]
            self.outcomes.update(outcome.status for outcome in others)
            self.reasons.update(  # but not again of what was sent again
                outcome.reason
                for outcome in others
                if outcome.reason and outcome.status is not Status.DUPLICATE
            )
        self.batches += 1
        self.messages += len(outcomes)
        self.commit_seconds_total += seconds
        self.batch_size = len(outcomes)
        self.commit_seconds = seconds
        self.commit_times.observe(int(seconds * 1_000_000))
        self.batch_sizes.observe(len(outcomes))

    def figures(self) -> Figures:
        """What the store's process tells the gateway, as plain values; the writer may add one meanwhile."""
        return (
            {status.value: self.outcomes[status] for status in Status},
            {reason.value: self.reasons[reason] for reason in Reason},
            *(self.batches, self.messages, self.commit_seconds_total, self.batch_size, self.commit_seconds),
            *(self.commit_times.counts, self.commit_times.sum),
            *(self.batch_sizes.counts, self.batch_sizes.sum),
        )

    def learn(self, figures: Figures) -> None:
        outcomes, reasons, self.batches, self.messages = figures[:4]
        self.commit_seconds_total, self.batch_size, self.commit_seconds = figures[4:7]
        self.commit_times.counts, self.commit_times.sum = figures[7:9]
        self.batch_sizes.counts, self.batch_sizes.sum = figures[9:]
        self.outcomes = Counter({Status(status): count for status, count in outcomes.items()})
        self.reasons = Counter({Reason(reason): count for reason, count in reasons.items()})
