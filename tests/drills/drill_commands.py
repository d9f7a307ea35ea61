"""Commands that clients send each other while a drill goes on."""

import asyncio
import contextlib

from drill_client import Gate, Load, Sender, until
from drill_subscriber import DurableSubscriber, check_faults, check_got
from private_place import Place

from ingest.mqtt.packets import V5, V311, Version

UNAVAILABLE = 3, 0x88  # while there is no database
PACE = 30  # commands a second, from each of two: a queue has room for 10,000, and some are away to the end


class Commands:
    """Messages from client to client, at QoS 2 from durable sessions to durable sessions."""

    def __init__(self, place: Place) -> None:
        who = place.stack.mqtt, place.user_id, place.token
        topics = "command-3/subscribe", "command-5/subscribe"
        self.gates = [Gate(2**31 - 1, start=start, pace=PACE) for start in (0, 1_000_000)]
        versions: tuple[Version, Version] = (V311, V5)
        self.load = Load(
            [
                Sender(*who, topic, gate, version=version, qos=2, window=20, topic=topic, durable=True)
                for topic, gate, version in zip(topics, self.gates, versions, strict=True)
            ]
        )
        for sender in self.load.senders:
            sender.arrays = False
        self.each = [
            DurableSubscriber(
                *who,
                f"{'away' if away else 'there'}-{version}-{qos}",
                topics,
                version=version,
                qos=qos,
                away=away,
            )
            for away in (False, True)
            for version in versions
            for qos in (1, 2)
        ]
        self.sharing = [
            DurableSubscriber(*who, f"sharing-{n}", ["$share/g/+/subscribe"], version=V5, qos=2)
            for n in range(3)
        ]
        for each in self.subscribers:
            each.refusals = UNAVAILABLE
        for member in self.sharing:
            member.ordered = False  # what waits for one is behind what another one has got

    @property
    def subscribers(self) -> list[DurableSubscriber]:
        return [*self.each, *self.sharing]

    def complete(self) -> bool:
        wanted = len(self.load.acked)
        return (
            all(len(each.got) >= wanted for each in self.each)
            and sum(len(each.got) for each in self.sharing) >= wanted
        )

    async def wait_for_all(self, seconds: float) -> None:
        """Those who are away come back, and each gets what it has not got yet. What is still missing then is
        counted, and so is what comes once more: the gateways look at the queues once a second."""
        for each in self.each:
            each.away = False
        with contextlib.suppress(TimeoutError):
            await until(self.complete, seconds)
        await asyncio.sleep(1.5)

    def check(self) -> None:
        check_faults(self.subscribers)
        for each in self.each:
            check_got(self.load.acked, each)
        check_got(self.load.acked, *self.sharing)
