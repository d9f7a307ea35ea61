"""All kinds of clients at once, and the exact count of what they sent against what is stored.

The long form of the drills, `make drill`, has THINGSCALE_DRILL=long in its environment.
"""

import asyncio
import itertools
import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from drill_client import Gate, HttpSender, Load, RestSender, Sender, until
from private_place import REST_CHANNEL, Place

from ingest.mqtt.packets import V5, V311

LONG = os.environ.get("THINGSCALE_DRILL") == "long"
ENDLESS = 2**31 - 1
MQTT_PACE, HTTP_PACE = (float("inf"),) * 2 if LONG else (400, 40)  # messages a second, of each kind
SPAN = 10_000_000  # more numbers than a mix takes
STARTS = itertools.count(0, SPAN)  # of the numbers of each mix
QOS_1, QOS_2, KEYED, UNKEYED = DEVICES = ("qos-1", "qos-2", "keyed", "unkeyed")
REST = None


class Mix:
    """MQTT at QoS 1 and 2 in both versions, HTTP with and without an Idempotency-Key, REST with one: each
    kind has a device, and numbers, of its own."""

    def __init__(
        self,
        place: Place,
        window: int = 20,
        http: bool = True,
        arrays: bool = True,
        paces: tuple[float, float] = (MQTT_PACE, HTTP_PACE),
    ) -> None:
        """`paces`: messages a second, of each kind by MQTT, and of each other kind."""
        self._place = place
        stack, token = place.stack, place.token
        self._start = next(STARTS)
        gates = {
            kind: Gate(ENDLESS, start=self._start, pace=paces[kind not in {QOS_1, QOS_2}])
            for kind in (*DEVICES, REST)
        }
        self._gates = list(gates.values())
        self.mqtt = {
            device: [
                Sender(
                    stack.mqtt,
                    place.user_id,
                    token,
                    f"{device}-{version}",
                    gates[device],
                    version=version,
                    qos=qos,
                    window=window,
                    device=device,
                )
                for version in (V311, V5)
            ]
            for device, qos in ((QOS_1, 1), (QOS_2, 2))
        }
        self.load = Load([sender for senders in self.mqtt.values() for sender in senders])
        self.posts: dict[str | None, HttpSender] = {}
        if http:
            self.posts = {
                KEYED: HttpSender(stack.http, token, gates[KEYED], KEYED),
                UNKEYED: HttpSender(stack.http, token, gates[UNKEYED], UNKEYED, keyed=False),
                REST: RestSender(stack.http, place.api_token, gates[REST], REST_CHANNEL),
            }

        for sender in self.senders:
            sender.arrays = arrays
        for poster in self.posts.values():
            poster.arrays = arrays

    @property
    def senders(self) -> Sequence[Sender]:
        return self.load.senders

    @asynccontextmanager
    async def flowing(self, seconds: float) -> AsyncIterator[None]:
        """The gates are shut at its end, and all that can be acknowledged is, in so many seconds."""
        posting = [asyncio.create_task(sender.run()) for sender in self.posts.values()]
        try:
            async with self.load.flowing(seconds):
                try:
                    yield
                finally:
                    for gate in self._gates:
                        gate.shut()
            await asyncio.wait_for(asyncio.gather(*posting), seconds)
        finally:
            for task in posting:
                task.cancel()
            await asyncio.gather(*posting, return_exceptions=True)

    async def moves(self, seconds: float) -> None:
        """Every sender gets something acknowledged that it had not yet."""
        acked = [sender.acked for sender in self.senders]
        acked += [sender.acked for sender in self.posts.values()]
        before = [len(numbers) for numbers in acked]
        await until(lambda: all(len(now) > then for now, then in zip(acked, before, strict=True)), seconds)

    def numbers(self, kind: str | None, place: Place | None = None) -> list[int]:
        """What is stored, there or at another place."""
        numbers = (place or self._place).numbers(kind, self._start)
        return [number for number in numbers if number < self._start + SPAN]

    def deafen(self, yes: bool) -> None:
        """Everything is sent, and no answer arrives."""
        for sender in self.senders:
            sender.deaf = yes
        for poster in self.posts.values():
            poster.deaf = yes

    @property
    def count(self) -> int:
        """Of what was acknowledged."""
        return self.load.count + sum(len(sender.acked) for sender in self.posts.values())

    def answers(self, since: float = 0) -> set[tuple[int, str, str]]:
        """By HTTP and REST: status, body, Retry-After."""
        return {
            (status, body, retry)
            for sender in self.posts.values()
            for status, body, retry, at in sender.answers
            if at >= since
        }

    def check(self) -> int:
        """Every acknowledged message is stored, none twice, and nothing else is. Returns how many."""
        stored = 0
        for device, senders in self.mqtt.items():
            stored += self._check(device, set().union(*(sender.acked for sender in senders)), set())
        for kind, sender in self.posts.items():
            stored += self._check(kind, sender.acked, sender.maybe)
        return stored

    def _check(self, kind: str | None, acked: set[int], maybe: set[int]) -> int:
        numbers = self.numbers(kind)
        found = set(numbers)
        doubled = len(numbers) - len(found)
        lost = len(acked - found)
        assert not lost, f"{kind}: {lost} of {len(acked)} acknowledged are lost"
        assert not doubled, f"{kind}: {doubled} of {len(acked)} are stored twice"
        assert found - acked <= maybe, f"{kind}: stored, and never sent or not acknowledged in the end"
        return len(numbers)
