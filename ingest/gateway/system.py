"""The platform as a publisher: wills of clients that are away, and what apps publish."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ingest import topics
from ingest.device_tokens import TokenOwner
from ingest.gateway import topic_owner
from ingest.gateway.hub import AccountHub, Subscriber
from ingest.gateway.publishes import Publishes, TopicOwner
from ingest.intake_cache import KnownIntake
from ingest.mqtt.packets import V311, Publish, Version
from ingest.stored_packet import read_packets
from thingscale.devices.mqtt_store.app_messages import PublishedMessage
from thingscale.devices.mqtt_store.queues import Progress
from thingscale.devices.mqtt_store.sessions import WaitingWill

if TYPE_CHECKING:
    from ingest.gateway.server import Gateway


class AppPublishes(Publishes):
    """Each gateway reads for itself what apps publish, so it is not forwarded."""

    __slots__ = ()
    to_all_gateways = False


class SystemClient:
    """The Publisher of messages that no client has sent."""

    version: Version = V311
    session = 0
    token_owner: TokenOwner | None = None
    reading_paused = False

    def __init__(
        self,
        gateway: "Gateway",
        subscriber: Subscriber | None = None,
        publishes: type[Publishes] = Publishes,
    ) -> None:
        """`subscriber`: the one in whose name it publishes."""
        self.gateway = gateway
        self.subscriber = subscriber
        self._publishes = publishes(self)

    @property
    def waits(self) -> bool:
        """Whether one of its messages is on its way to storage."""
        return self._publishes.unacked > 0

    def publish_will(self, account: AccountHub, will: WaitingWill, intakes: Sequence[KnownIntake]) -> None:
        """`intakes`: the account's that take topics without a token."""
        (publish,) = read_packets(will.packet, 1)
        target = topic_owner.target(publish.topic)
        intake = topic_owner.intake_for(intakes, publish.topic)
        owner = TopicOwner(account, account.user, publish.topic, target, intake=intake)
        self._publishes.accept(owner, publish)
        self._publishes.flush(wait=True, will_of=will.session)

    def publish_for_app(self, account: AccountHub, message: PublishedMessage) -> None:
        """It is never a datapoint. The gateway that claimed it puts it into the queues; each gateway delivers
        it to its connected clients."""
        owner = TopicOwner(account, account.user, message.topic, topics.Target(None))
        publish = Publish(message.topic, message.payload, message.qos, message.retain, False, 0, {})
        if message.claimed:
            self._publishes.accept(owner, publish, command=message.command)
            self._publishes.flush(wait=True)
            self.gateway.admission.published(message.key)
        else:
            self._publishes.deliver_here(owner, publish, message.command)

    def owner(self, token: str) -> TokenOwner | None:
        raise AssertionError("the topics have none")

    def progress(self) -> Progress:
        raise AssertionError("it has no session")

    def write(self, data: bytes) -> None:
        """Nobody is to be answered."""

    write_acknowledgements = write

    def pause_reading(self, yes: bool) -> None:
        """Its callers limit what they hand over."""
