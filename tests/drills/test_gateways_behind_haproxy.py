"""Several gateways and web processes behind haproxy, and clients that come back to any of them: whatever is
killed, and while gateways are restarted one after the other, nothing is lost and nothing is there twice."""

import asyncio
import contextlib
import logging
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import NamedTuple

import psycopg
import pytest
import requests
from client import Client, Endpoint
from drill_client import Sender, dial, until
from drill_commands import Commands
from drill_haproxy import HAPROXY, NETWORKS, haproxy
from drill_kills import backend
from drill_load import DEVICES, LONG, Mix
from drill_platform import Subscriber, check_health
from drill_subscriber import DurableSubscriber
from private_place import Place, private_place
from requests.adapters import HTTPAdapter
from stack import Stack, wait_until
from support import PASSWORD
from test_kill_ingest import store_of

from ingest.mqtt.codec import FrameReader, decode, encode
from ingest.mqtt.packets import PUBACK, V5, V311, Ack, ConnAck, Connect, Publish, Version

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.drill,
    pytest.mark.skipif(HAPROXY is None, reason="haproxy is not installed (Debian: apt-get install haproxy)"),
]
log = logging.getLogger(__name__)

KILLS = 20 if LONG else 3
AWAY_SECONDS = 2.0 if LONG else 0.3  # at most, between a kill and the next start
SECONDS = 60.0
TWINS = 10
TAKE_OVER_SECONDS = 5.0  # a second, on a machine that does nothing else
WEBS = WORKERS = 2

MEMBERS = 2_000 if LONG else 100
RATE = 20_000 if LONG else 500  # messages a second, of all members, if the machine can
SERVED_SECONDS = 3.0 if LONG else 15.0  # after the end of a connection


class Platform(NamedTuple):
    place: Place  # what clients see: its ports are haproxy's
    gateways: list[Stack]
    webs: list[Stack]
    workers: list[Stack]


@pytest.fixture
def platform(request: pytest.FixtureRequest) -> Iterator[Platform]:
    """With as many gateways as the parameter says."""
    with ExitStack() as ended:
        place = ended.enter_context(
            private_place(
                *DEVICES,
                "member",
                want=("postgres", "valkey"),
                THINGSCALE_PROXY_NETWORKS=NETWORKS,
                THINGSCALE_HANDOVER_SECONDS="2",
            )
        )

        def started(name: str, count: int) -> list[Stack]:
            stacks = [place.stack.another() for _ in range(count)]
            for stack in stacks:
                ended.callback(stack.stop)
                stack.ensure(name)
            return stacks

        front = place.stack.another()
        ended.callback(front.stop)
        gateways = started("ingest", request.param)
        webs, workers = started("web", WEBS), started("celery", WORKERS)
        ended.enter_context(haproxy(front, gateways, webs))
        yield Platform(place._replace(stack=front), gateways, webs, workers)


class Drill:
    def __init__(self, platform: Platform, chance: random.Random) -> None:
        self.platform, self.chance = platform, chance
        self.mix = Mix(platform.place)
        self.commands = Commands(platform.place)
        self.caught = 0  # kills while something was on its way
        self.moves = 0
        self.movers: list[Sender | DurableSubscriber] = [
            *self.mix.senders,
            *self.commands.load.senders,
            *self.commands.subscribers,
        ]
        for number, mover in enumerate(self.movers, start=1):
            mover.source = f"127.0.1.{number}"

    async def move_about(self) -> None:
        """Each time somebody's connection breaks, and he comes back to any gateway."""
        while True:
            await asyncio.sleep(self.chance.uniform(0, 0.3))
            self.chance.choice(self.movers).move()
            self.moves += 1

    async def run(self) -> None:
        await asyncio.gather(*(each.subscribe(20) for each in self.commands.subscribers))
        listening = [asyncio.create_task(each.run()) for each in self.commands.subscribers]
        try:
            async with self.mix.flowing(SECONDS), self.commands.load.flowing(SECONDS):
                moving = asyncio.create_task(self.move_about())
                for victim in self.victims():
                    await self.kill(victim)
                await self.mix.moves(SECONDS)
                moving.cancel()
                await asyncio.to_thread(self.check_addresses)
                for gate in self.commands.gates:
                    gate.shut()
            await self.commands.wait_for_all(SECONDS)
        finally:
            for task in listening:
                task.cancel()
            await asyncio.gather(*listening, return_exceptions=True)

    def victims(self) -> list[str]:
        """Gateways and stores most often; in the short form one of each of those, and something else."""
        own = ["gateway", "store"]
        others = ["web", "celery", "valkey", "postgres", "a PostgreSQL backend"]
        self.chance.shuffle(others)
        chosen = [*own, *others[: KILLS - 2]] if KILLS < 7 else [*own * (KILLS // 4), *others * (KILLS // 10)]
        self.chance.shuffle(chosen)
        return chosen

    async def kill(self, victim: str) -> None:
        goal = self.mix.load.count + self.chance.randrange(1, 1000)
        await until(lambda: self.mix.load.count >= goal, SECONDS)
        self.caught += self.mix.load.in_flight + self.commands.load.in_flight > 0
        come_back = await asyncio.to_thread(self._kill, victim)
        await asyncio.sleep(self.chance.uniform(0, AWAY_SECONDS))
        await asyncio.to_thread(come_back)

    def _kill(self, victim: str) -> Callable[[], None]:
        """Returns what brings it back."""
        gateways, servers = self.platform.gateways, self.platform.place.servers
        for each in gateways:  # one that the others took for dead has ended
            each.ensure("ingest")
        names = {"gateway": "ingest", "store": "ingest", "web": "web", "celery": "celery"}
        stacks = {"gateway": gateways, "web": self.platform.webs, "celery": self.platform.workers}
        match victim:
            case "gateway" | "web" | "celery":
                stack = self.chance.choice(stacks[victim])
                stack.kill(names[victim])
                return lambda: stack.start(names[victim])
            case "store":
                stack = self.chance.choice(gateways)
                process = stack.processes["ingest"]
                os.kill(store_of(process.pid), signal.SIGKILL)
                process.wait(10)
                return lambda: stack.start("ingest")
            case "valkey":
                servers.valkey.kill()
                return servers.valkey.start
            case "postgres":
                servers.postgres.kill()
                return servers.postgres.start
        os.kill(backend(self.platform.place), signal.SIGKILL)  # PostgreSQL ends the others, too, and recovers
        return lambda: wait_until(servers.postgres.ready, 30, "PostgreSQL's recovery")

    def check_addresses(self) -> None:
        """Each client is shown once, with its own address."""
        stay = {each.name: each.source for each in self.movers if not getattr(each, "away", False)}

        def shown() -> list[tuple[str, str]]:
            with psycopg.connect(self.platform.place.url) as connection:
                return connection.execute(
                    "SELECT client_id, ipaddress FROM devices_mqttsession WHERE client_id = ANY (%s)",
                    [list(stay)],
                ).fetchall()

        wait_until(lambda: sorted(shown()) == sorted(stay.items()), SECONDS, "all to be shown once")


def check_twins(place: Place) -> None:
    """Of two connections with one client id the later one stays, whichever gateways they came to."""
    endpoint = Endpoint(place.stack.mqtt, place.user_id, place.token.encode())
    first = [Client(endpoint, f"twin-{number}", V5) for number in range(TWINS)]
    second = [Client(endpoint, f"twin-{number}", V5) for number in range(TWINS)]
    for each in (*first, *second):
        each.connect()
    began = time.monotonic()
    for each in first:
        each.closed(0x8E)
    assert time.monotonic() - began < TAKE_OVER_SECONDS
    for each in second:
        each.ping()
        each.disconnect()
        each.vanish()
    for each in first:
        each.vanish()


class From(HTTPAdapter):
    """Connects from an address."""

    def __init__(self, address: str) -> None:
        self._address = address
        super().__init__()

    def init_poolmanager(self, *arguments: object, **options: object) -> None:
        super().init_poolmanager(*arguments, **options, source_address=(self._address, 0))  # type: ignore[arg-type]


def check_browser(place: Place) -> None:
    """A session in a browser has the browser's address."""
    with requests.Session() as browser:
        browser.mount("http://", From("127.0.2.9"))
        url = place.stack.url("/signin/")
        browser.get(url, timeout=SECONDS)
        form = {
            "username": "drill@example.com",
            "password": PASSWORD,
            "csrfmiddlewaretoken": browser.cookies["csrftoken"],
        }
        browser.post(url, form, timeout=SECONDS).raise_for_status()
    with psycopg.connect(place.url) as connection:
        found = connection.execute("SELECT ip_address FROM accounts_session").fetchall()
    assert found == [("127.0.2.9",)]


@pytest.mark.parametrize("platform", [2, 3], indirect=True)
def test_whatever_is_killed_behind_haproxy(platform: Platform) -> None:
    seed = time.time_ns()
    log.info("seed %d", seed)
    place = platform.place
    drill = Drill(platform, random.Random(seed))
    asyncio.run(drill.run())
    stored = drill.mix.check()
    log.info(
        "%d kills, %d moves, %d stored, %d sent again; %d from client to client",
        *(KILLS, drill.moves, stored, drill.mix.load.repeated, len(drill.commands.load.acked)),
    )
    drill.commands.check()
    assert drill.caught >= KILLS // 2, "the kills came while nothing was on its way"
    check_twins(place)
    check_browser(place)
    with Subscriber(place, "qos-1") as subscriber:
        check_health(place, subscriber)


class Member:
    """A device that sends one message after the other, and notes for how long it was not served."""

    def __init__(self, place: Place, number: int) -> None:
        self.acked: list[int] = []
        self.repeated = 0
        self.away_seconds: list[float] = []
        self.stopping = False
        self.version: Version = V5 if number % 2 else V311
        self._lost_at = 0.0  # 0: it is served
        self._next = number  # of the message that it sends, or is to send
        self._tried = False
        self._port = place.stack.mqtt
        self._topic = f"{place.token}/json/member"
        connect = Connect(
            self.version, f"member-{number}", True, 0, place.user_id, place.token.encode(), None, {}
        )
        self._connect = encode(connect, self.version)
        self._writer: asyncio.StreamWriter | None = None

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            with contextlib.suppress(OSError):
                await self._session()
            self._lost_at = self._lost_at or time.monotonic()
            await asyncio.sleep(random.uniform(0, 0.2))

    async def _session(self) -> None:
        reader, writer = await dial(self._port)
        frames = FrameReader(2**20)
        try:
            writer.write(self._connect)
            while data := await reader.read(4096):
                for first, body in frames.feed(data):
                    match decode(first, body, self.version):
                        case ConnAck(code=0):
                            self._writer = writer
                            self._publish()
                        case Ack(type=type_) if type_ == PUBACK:
                            self._acknowledged()
        finally:
            self._writer = None
            writer.transport.abort()

    def _acknowledged(self) -> None:
        if self._lost_at:
            self.away_seconds.append(time.monotonic() - self._lost_at)
            self._lost_at = 0.0
        self.acked.append(self._next)
        self._next += MEMBERS
        self._tried = False
        asyncio.get_running_loop().call_later(MEMBERS / RATE, self._publish_next)

    def _publish_next(self) -> None:
        if not self._tried:  # else it has come back meanwhile, and is on its way
            self._publish()

    def _publish(self) -> None:
        if self._writer is None or self.finished:
            return
        packet_id = self._next // MEMBERS % 65_535 + 1
        packet = Publish(self._topic, b'{"n":%d}' % self._next, 1, False, self._tried, packet_id, {})
        self.repeated += self._tried
        self._tried = True
        self._writer.write(encode(packet, self.version))

    @property
    def finished(self) -> bool:
        return self.stopping and not self._tried


async def roll(platform: Platform, members: list[Member], commands: Commands) -> float:
    """Each gateway is stopped and started again, as by an update. Returns the messages a second."""
    await asyncio.gather(*(each.subscribe(20) for each in commands.subscribers))
    tasks = [asyncio.create_task(each.run()) for each in members]
    tasks += [asyncio.create_task(each.run()) for each in commands.subscribers]
    try:
        async with commands.load.flowing(SECONDS):
            await until(lambda: all(each.acked for each in members), SECONDS)
            began, before = time.monotonic(), sum(len(each.acked) for each in members)
            for stack in platform.gateways:
                process = stack.processes["ingest"]
                process.send_signal(signal.SIGTERM)
                assert await asyncio.to_thread(process.wait, SECONDS) == 0
                await asyncio.to_thread(stack.start, "ingest")
                await asyncio.sleep(1)  # haproxy sees it
            rate = (sum(len(each.acked) for each in members) - before) / (time.monotonic() - began)
            for gate in commands.gates:
                gate.shut()
        for each in members:
            each.stopping = True
        await until(lambda: all(each.finished for each in members), SECONDS)
        await commands.wait_for_all(SECONDS)
        return rate
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@pytest.mark.parametrize("platform", [2], indirect=True)
def test_gateways_are_restarted_one_after_the_other_under_load(platform: Platform) -> None:
    members = [Member(platform.place, number) for number in range(MEMBERS)]
    commands = Commands(platform.place)
    rate = asyncio.run(roll(platform, members, commands))
    away = sorted(seconds for each in members for seconds in each.away_seconds)
    log.info(
        "%d clients, %.0f messages a second, %d sent again; %d times one was away, %.2f s, %.2f s at most",
        *(MEMBERS, rate, sum(each.repeated for each in members)),
        *(len(away), away[len(away) // 2], away[-1]),
    )
    assert Counter(platform.place.numbers("member")) == Counter(n for each in members for n in each.acked)
    commands.check()
    assert len(away) >= MEMBERS, "each gateway had clients, who all had to go"
    assert away[-1] < SERVED_SECONDS
