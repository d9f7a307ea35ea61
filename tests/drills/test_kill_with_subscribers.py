"""kill -9 of the ingest process, or of its store alone, under load and with subscribers, connected and away:
what was acknowledged is stored once, retained, and delivered as its QoS says; wills are published."""

import asyncio
import logging
import os
import random
import signal
import time
from collections.abc import Callable

import pytest
from client import Client, Endpoint
from drill_client import Gate, Load, Sender, until
from drill_load import LONG
from drill_subscriber import DurableSubscriber, check_faults, check_got
from stack import Stack
from support import Account
from test_kill_ingest import restart, store_of, stored

from ingest.mqtt.packets import V5, V311, Publish, Subscription, Version, Will

log = logging.getLogger(__name__)
pytestmark = [pytest.mark.e2e, pytest.mark.drill]

KILLS = 20 if LONG else 4
MESSAGES = 95 if LONG else 200  # of each sender, between two kills: all together fit into a queue
SPAN = 1_000_000  # of the numbers of one sender
RETAINED = 10  # topics
LASTING = 3600  # seconds
DRAIN_SECONDS = 60.0
WILLS = ("will/subscribe", "will-kept/subscribe")
DATA = ("json/data-3", "json/data-5", "json/data-2")
COMMANDS = ("command-3/subscribe", "command-5/subscribe")  # by clients whose sessions last, at QoS 2


class Retainer(Sender):
    """One retained message after the other, on some topics in turn: half of these are datapoints, too. Every
    seventh clears."""

    @staticmethod
    def rest(number: int) -> str:
        place = number % RETAINED
        return f"json/retained/{place}" if place % 2 else f"retained-{place}/subscribe"

    @staticmethod
    def value(number: int) -> bytes:
        return b"" if number % 7 == 0 else b'{"n":%d}' % number

    def _publish(self, number: int) -> Publish:
        token = self._topic.split("/")[0]
        return Publish(f"{token}/{self.rest(number)}", self.value(number), 0, True, False, 0, {})

    def check(self, found: dict[str, bytes], acked: set[int], end: int) -> None:
        """Each topic has the last message that was acknowledged, or one that was sent after that."""
        for place in range(RETAINED):
            sent = range(place, end, RETAINED)
            last = max((number for number in acked if number % RETAINED == place), default=None)
            allowed = [self.value(number) for number in sent if last is None or number >= last]
            value = found.get(self.rest(place), b"")
            assert value in allowed or (last is None and not value), (
                f"{self.rest(place)}: {value!r} is retained; {last} was acknowledged"
            )


class Drill:
    def __init__(self, running: Stack, account: Account, chance: random.Random) -> None:
        self.running, self.account, self.chance = running, account, chance
        who = running.mqtt, account.user_id, account.device_token
        self.gates = [Gate(start + KILLS * MESSAGES, start, start) for start in range(0, 5 * SPAN, SPAN)]
        senders = [
            Sender(*who, "data-3", self.gates[0], version=V311, qos=1, topic=DATA[0]),
            Sender(*who, "data-5", self.gates[1], version=V5, qos=1, topic=DATA[1]),
            Sender(*who, "data-2", self.gates[2], version=V5, qos=2, topic=DATA[2]),
            Sender(*who, "command-3", self.gates[3], version=V311, qos=2, topic=COMMANDS[0], durable=True),
            Sender(*who, "command-5", self.gates[4], version=V5, qos=2, topic=COMMANDS[1], durable=True),
        ]
        for sender in senders:
            sender.arrays = False
        self.retaining = Gate(KILLS * MESSAGES, 0)
        self.retainer = Retainer(*who, "retainer", self.retaining)
        self.load = Load([*senders, self.retainer])
        own = "json/+", *COMMANDS
        self.each = [
            DurableSubscriber(
                *who,
                f"{'away' if away else 'there'}-{version}-{qos}",
                own,
                version=version,
                qos=qos,
                away=away,
            )
            for away in (False, True)
            for version in (V311, V5)
            for qos in (1, 2)
        ]
        self.sharing = [
            DurableSubscriber(*who, f"sharing-{n}", ["$share/g/json/+"], version=version, qos=1, away=n == 2)
            for n, version in enumerate((V311, V5, V5))
        ]
        self.mourner = DurableSubscriber(*who, "mourner", WILLS, version=V311, qos=1)
        self.subscribers = [*self.each, *self.sharing, self.mourner]
        self.wills: set[str] = set()
        self.caught = 0  # kills while something was on its way
        self.clean: Client | None = None

    def client(self, name: str, version: Version) -> Client:
        endpoint = Endpoint(self.running.mqtt, self.account.user_id, self.account.device_token.encode())
        return Client(endpoint, name, version)

    async def run(self) -> None:
        await asyncio.gather(*(each.subscribe(60) for each in self.subscribers))
        listening = [asyncio.create_task(each.run()) for each in self.subscribers]
        listening.append(asyncio.create_task(self.listen_clean()))
        try:
            async with self.load.flowing(60):
                for number in range(KILLS):
                    await self.kill(number)
            for each in self.subscribers:
                each.away = False
            await until(self.complete, DRAIN_SECONDS)
            await asyncio.sleep(0.3)  # what there should be no more of
        except TimeoutError:
            log.warning("Not all arrived: %s", [(each.name, len(each.got)) for each in self.subscribers])
        finally:
            for task in listening:
                task.cancel()
            if self.clean:
                self.clean.abort()
            await asyncio.gather(*listening, return_exceptions=True)

    async def listen_clean(self) -> None:
        """To everything, without a session that lasts: it comes again whenever it is cut off."""
        while True:
            listener = self.clean = self.client("clean", V5)
            try:
                await asyncio.to_thread(self._listen_clean, listener)
            except (OSError, AssertionError):
                await asyncio.sleep(0.1)
            finally:
                listener.vanish()

    def _listen_clean(self, listener: Client) -> None:
        listener.connect()
        listener.subscribe(f"{self.account.device_token}/#", 2)
        while packet := listener.receive():
            if isinstance(packet, Publish):
                listener.accept(packet)

    async def kill(self, number: int) -> None:
        doomed = await asyncio.to_thread(self.leave_wills, number)
        goal = self.load.count + self.chance.randrange(1, MESSAGES * 3)
        for gate in (*self.gates, self.retaining):
            gate.open(MESSAGES)
        await until(lambda: self.load.count >= goal, 60)
        self.caught += self.load.in_flight > 0
        acked = set(self.retainer.acked)
        doomed[0].vanish()  # whether the process still notices, or not
        process = self.running.processes["ingest"]
        if number % 4 == 3:
            os.kill(store_of(process.pid), signal.SIGKILL)
            await asyncio.to_thread(process.wait, 60)
            await asyncio.to_thread(self.running.ensure, "ingest")
        else:
            await restart(self.running)
        if number % 3 == 2:  # again, while wills and queues of the first kill are on their way
            await asyncio.sleep(self.chance.uniform(0, 0.1))
            await restart(self.running)
        for client in doomed:
            client.vanish()
        found = await asyncio.to_thread(self.retained)
        self.retainer.check(found, acked, self.retaining._next)

    def leave_wills(self, number: int) -> list[Client]:
        """Clients that are to die with the process; one more says goodbye before that is committed."""
        polite = self.client("polite", V5)
        polite.connect(will=self.will(WILLS[0], f"polite-{number}", 1))
        polite.disconnect()
        clients = []
        kinds: list[tuple[Version, int, bool, bool]] = [
            (V311, 1, True, False),
            (V311, 1, False, False),
            (V5, 2, True, True),
            (V5, 1, False, True),
        ]
        for place, (version, qos, clean, kept) in enumerate(kinds):
            client = self.client(f"doomed-{place}", version)
            text = f"will-{number}-{place}"
            lasting = {0x11: LASTING} if version == V5 and not clean else {}
            will = self.will(WILLS[kept], text, qos, kept)
            client.connect(clean=clean, will=will, properties=lasting)
            self.wills.add(text)
            clients.append(client)
        return clients

    def will(self, rest: str, text: str, qos: int, retain: bool = False) -> Will:
        return Will(f"{self.account.device_token}/{rest}", text.encode(), qos, retain, {})

    def retained(self) -> dict[str, bytes]:
        """As somebody new gets it."""
        token = self.account.device_token
        client = self.client("", V5)
        client.connect()
        wanted = [Subscription(f"{token}/{each}", 0, False, False, 0) for each in ("json/#", "+/subscribe")]
        client.subscribe_all(wanted)
        client.ping()
        found: dict[str, bytes] = {}
        while client._waiting:
            packet = client.receive()
            if isinstance(packet, Publish) and packet.retain:
                rest = packet.topic.removeprefix(f"{token}/")
                found[rest] = packet.payload
        client.vanish()
        return found

    def wanted(self, senders: int) -> set[int]:
        return {number for sender in self.load.senders[:senders] for number in sender.acked}

    def complete(self) -> bool:
        everything, data = len(self.wanted(5)), len(self.wanted(3))
        return (
            all(len(each.got) >= everything for each in self.each)
            and sum(len(each.got) for each in self.sharing) >= data
            and len(self.mourner.texts) >= len(self.wills)
        )

    def check(self) -> None:
        check_faults(self.subscribers)
        for each in self.each:
            check_got(self.wanted(5), each)
        check_got(self.wanted(3), *self.sharing)
        assert self.mourner.texts.keys() == self.wills
        assert set(self.mourner.texts.values()) == {1}
        end = self.retaining._next
        assert self.retainer.acked == set(range(end))
        self.retainer.check(self.retained(), self.retainer.acked, end)
        count = 3 * KILLS * MESSAGES
        assert stored(self.account)[:2] == (count, count)


def test_kill_9_with_subscribers(stack: Callable[..., Stack], account: Account) -> None:
    running = stack("ingest")
    for device in ("data-3", "data-5", "data-2"):
        account.device(device)
    account.device("retained", 1)
    seed = time.time_ns()
    log.info("seed %d", seed)
    drill = Drill(running, account, random.Random(seed))
    asyncio.run(drill.run())
    repeated = {each.name: each.repeated for each in drill.subscribers}
    log.info("%d kills, %d messages, %d sent again", KILLS, drill.load.count, drill.load.repeated)
    log.info("repeated to subscribers: %s", repeated)
    drill.check()
    assert drill.caught >= KILLS // 2, "the processes were killed while nothing was on its way"
    assert drill.load.repeated > 0
    assert sum(repeated.values()) > 0
