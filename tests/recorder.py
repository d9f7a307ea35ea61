"""In place of the open pages: remembers what it is told."""

from collections.abc import Iterable

from thingscale.watch import Pages, Told


class Recorder(Pages):
    """Has no thread."""

    def __init__(self, *watched: int) -> None:
        super().__init__()
        self.watched = frozenset(watched)
        self.heard: list[Told] = []

    def tell(self, messages: Iterable[Told]) -> None:
        self.heard += messages

    @property
    def short(self) -> list[tuple[str, str | None, bool, bytes]]:
        """Status, reason, whether it is a datapoint, value."""
        return [(told.status, told.reason, told.channel is not None, told.value) for told in self.heard]
