"""The platform as a publisher: wills of clients whose gateway was killed, and what apps publish."""

from typing import TYPE_CHECKING

from ingest import topics
from ingest.gateway.hub import Account, Subscriber
from ingest.gateway.publishes import Publishes, TopicOwner
from ingest.grants import Grant
from ingest.mqtt.packets import V311, Publish, Version
from thingscale.devices.mqtt_store import Progress

if TYPE_CHECKING:
    from ingest.gateway.server import Gateway


class SystemClient:
    """What Publishes needs of a client."""

    version: Version = V311
    session = 0
    subscriber: Subscriber | None = None
    grant: Grant | None = None
    held = False

    def __init__(self, gateway: "Gateway") -> None:
        self.gateway = gateway
        self._publishes = Publishes(self)

    def publish(self, account: Account, publish: Publish) -> None:
        """The topic is without the token."""
        target = topics.target(publish.topic)
        owner = TopicOwner(account, account.user, publish.topic, target)
        self._publishes.take(owner, publish)
        self._publishes.flush_waiting()

    def owner(self, token: str) -> Grant | None:
        raise AssertionError("the topics have none")

    def progress(self) -> Progress:
        raise AssertionError("it has no session")

    def write(self, data: bytes) -> None:
        """Nobody is to be answered."""

    def hold(self, yes: bool) -> None:
        """What comes is bounded by who hands it over."""
