"""In place of the open pages: remembers what it is told."""

from collections import Counter
from collections.abc import Iterable, Mapping

from thingscale.processes.live_feed import LiveFeed, MessageEvent


class Recorder(LiveFeed):
    """Has no thread."""

    def __init__(self, *watched: int) -> None:
        super().__init__()
        self.watched = frozenset(watched)
        self.heard: list[MessageEvent] = []
        self.counts: Counter[str] = Counter()

    def publish(self, user: int, counts: Mapping[str, int], messages: Iterable[MessageEvent]) -> None:
        assert self.has_listeners(user)
        self.counts.update(counts)
        self.heard += messages

    @property
    def short(self) -> list[tuple[str, str | None, bool, bytes]]:
        """Status, reason, whether it is a datapoint, value."""
        return [(told.status, told.reason, told.channel is not None, told.value) for told in self.heard]
