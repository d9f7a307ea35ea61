"""What the gateway does as an MQTT broker: deliveries, sessions that last, retained messages, memory.

    make bench                                        (or, shorter:)
    python manage.py with_servers --only postgres,valkey -- python benchmarks/gateway.py --runs 1 --share 0.1
    python manage.py with_servers --only postgres,valkey -- python benchmarks/gateway.py --only ingest,fan_out

Publishers, subscribers (a process of their own), gateway, store and PostgreSQL share the machine, so a rate
is compared with another of the same run, and processor time of each process stands beside it. What a part
leaves in the database is gone after it.
"""

import argparse
import http.client
import json
import multiprocessing
import re
import socket
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from common import at_least, at_most, note, record
from database import backends, checkpoint, empty, prepare, target
from django.db import connection
from listeners import Listeners, Order, listeners, stamp
from load import ACK, Load, Target, run
from measuring import Measured, measure
from processes import MOSQUITTO, Used, children, mosquitto, wait_until
from processes import gateway as gateway_process
from web import web

from ingest.mqtt.codec import encode
from ingest.mqtt.packets import V311, Connect, Publish
from thingscale.accounts.credentials import credentials
from thingscale.accounts.models import User

CLIENTS, WINDOW = 50, 100
SCREENS = 1_000  # that listen to one topic
AWAY = 100
BACK, BACK_MESSAGES = 10_000, 10
IDLE = 19_000  # connections, as many as a process may have files
RETAINED = 99_000  # near an account's limit
COMMAND_TOPIC = "bench-0/subscribe"
BESIDE = 20_000  # messages/s
COMMANDS_A_SECOND = 50
SETTLE_SECONDS = 2.0


class Options(NamedTuple):
    runs: int
    share: float

    def of(self, count: int, least: int = 100) -> int:
        """Less in a short run."""
        return max(int(count * self.share), min(least, count))


class Gateway(NamedTuple):
    target: Target
    pid: int

    def used(self) -> Used:
        return Used(gateway=[self.pid], store=children(self.pid), backends=backends())

    def measure(self, load: Load) -> Measured:
        empty()
        return measure(self.target, load, gateway=[self.pid], store=children(self.pid), backends=backends())


class Delivered(NamedTuple):
    rate: float
    cpu_us: Mapping[str, float]


@contextmanager
def gateway(user: User) -> Iterator[Gateway]:
    """Its sessions and retained messages are gone afterwards."""
    try:
        with gateway_process() as (port, pid):
            yield Gateway(target(user, port), pid)
    finally:
        with connection.cursor() as cursor:
            cursor.execute(
                "TRUNCATE mqtt_session, mqtt_subscription, mqtt_queue, mqtt_message, mqtt_retained"
            )


def number(query: str) -> int:
    with connection.cursor() as cursor:
        cursor.execute(query)
        return int(cursor.fetchone()[0] or 0)


def show(what: str, found: Sequence[Delivered], *bars: object, **more: object) -> None:
    record(what, [each.rate for each in found], "/s", *bars, cpu_us=[each.cpu_us for each in found], **more)  # type: ignore[arg-type]


# Ingest with somebody who listens to all of it


def ingest(user: User, options: Options) -> None:
    load = Load(CLIENTS, WINDOW, options.of(400_000, 20_000))
    subscribers = {
        "a clean # at QoS 0": (Order(Target("", 0, "", ""), 1, "screen", "#", 0), 0.75),
        "a clean # at QoS 1": (Order(Target("", 0, "", ""), 1, "screen", "#", 1), 0.75),
        "a durable # at QoS 1": (Order(Target("", 0, "", ""), 1, "server", "#", 1, clean=False), 0.5),
    }
    found: dict[str, list[Delivered]] = {name: [] for name in ["alone", *subscribers]}
    lost = dict.fromkeys(subscribers, 0)
    with gateway(user) as ours:
        run(ours.target, Load(1_000, 1, 2_000))
        for _ in range(options.runs):
            alone = ours.measure(load)
            found["alone"].append(Delivered(alone.load.rate, alone.cpu_us))
            for name, (order, _) in subscribers.items():
                with listeners() as screens:
                    screens.open(order._replace(target=ours.target))
                    delivered, seen = with_listener(ours, screens, load)
                    found[name].append(delivered)
                    lost[name] += load.sent - seen
                    screens.close()
    show("QoS 1 ingest, nobody subscribed", found["alone"])
    ceiling = [each.rate for each in found["alone"]]
    for name, (_, least) in subscribers.items():
        show(
            f"QoS 1 ingest, {name}",
            found[name],
            at_least(least, "ratio"),
            ceiling=ceiling,
            of="ingest alone",
        )
        if lost[name]:
            note(f"Of the messages for {name}, {lost[name] / load.sent / options.runs:.1%} were dropped.")


def with_listener(ours: Gateway, screens: Listeners, load: Load) -> tuple[Delivered, int]:
    """The rate until all is acknowledged and delivered, and how many were."""
    before = screens.seen()
    measured = ours.measure(load)
    seen = screens.wait(before.deliveries + load.sent)
    acknowledged = measured.load.started + load.sent / measured.load.rate
    seconds = max(acknowledged, seen.last) - measured.load.started
    subscriber = (seen.cpu_seconds - before.cpu_seconds) / load.sent * 1e6
    delivered = Delivered(load.sent / seconds, measured.cpu_us | {"subscriber": subscriber})
    return delivered, seen.deliveries - before.deliveries


# A command to many


def fan_out(user: User, options: Options) -> None:
    messages = options.of(300, 20)
    for qos, least in ((0, 100_000), (1, 50_000)):
        found = []
        with gateway(user) as ours, listeners() as screens:
            screens.open(Order(ours.target, SCREENS, "screen-{number}", COMMAND_TOPIC, qos))
            for _ in range(options.runs):
                load = Load(1, 10, messages, topic=COMMAND_TOPIC, client_id="sender")
                before, used = screens.seen(), ours.used()
                result = run(ours.target, load)
                seen = screens.wait(before.deliveries + messages * SCREENS)
                deliveries = seen.deliveries - before.deliveries
                if deliveries != messages * SCREENS:
                    note(f"{messages * SCREENS - deliveries:,} of {messages * SCREENS:,} did not arrive.")
                cpu = used.us(deliveries) | {
                    "subscribers": (seen.cpu_seconds - before.cpu_seconds) / deliveries * 1e6
                }
                found.append(Delivered(deliveries / (seen.last - result.started), cpu))
            screens.close()
        show(f"one topic to {SCREENS:,} connected clients, QoS {qos}", found, at_least(least))


# Sessions that last


def away(user: User, options: Options) -> None:
    loads = {
        "10 publishers x 10": Load(
            10, 10, options.of(3_000), topic="all/subscribe", client_id="p-{connection}"
        ),
        "1 publisher x 1": Load(1, 1, options.of(300, 50), topic="all/subscribe", client_id="p-{connection}"),
    }
    for name, load in loads.items():
        found = []
        for _ in range(options.runs):
            with gateway(user) as ours, listeners() as absent:
                absent.open(Order(ours.target, AWAY, "away-{number}", "all/subscribe", clean=False))
                absent.close()
                time.sleep(0.5)
                checkpoint()
                used = ours.used()
                result = run(ours.target, load)
                stored = number("SELECT sum(last_seq - seq + 1) FROM mqtt_queue")
                if stored != load.sent * AWAY:
                    raise SystemExit(f"{load.sent * AWAY:,} were acknowledged and {stored:,} are stored.")
                found.append(Delivered(result.rate * AWAY, used.us(stored)))
        bars = [at_least(60_000)] if load.window > 1 else []
        show(f"references for {AWAY} durable sessions that are away, {name}", found, *bars)


def back(user: User, options: Options) -> None:
    clients = max(options.of(BACK) // 1_000, 1) * 1_000
    opened, waits, opening = [], [], []
    cpu = []
    for _ in range(options.runs):
        with gateway(user) as ours, listeners() as sleepers:
            order = Order(ours.target, clients, "back-{number:05}", "back-{number:05}/subscribe", clean=False)
            opening.append(clients / sleepers.open(order).seconds)
            sleepers.close()
            topic = "back-{connection:02}{message:03}/subscribe"
            load = Load(clients // 1_000, 100, clients, topic=topic, client_id="p-{connection}")
            for _ in range(BACK_MESSAGES):
                run(ours.target, load)
            wait_until(lambda: number("SELECT count(*) FROM mqtt_session WHERE ends_at IS NULL") == 0, 60)
            checkpoint()
            used = ours.used()
            returned = sleepers.open(order._replace(filter="", expected=BACK_MESSAGES))
            if returned.present != clients:
                raise SystemExit(f"Of {clients:,} sessions {returned.present:,} were there.")
            opened.append(returned.seconds)
            waits.append(sorted(returned.waits))
            wait_until(lambda: not number("SELECT count(*) FROM mqtt_queue"), 60)
            cpu.append(used.us(clients))
            sleepers.close()
    record(
        f"{clients:,} durable clients back at once, {BACK_MESSAGES} messages each: all served",
        opened,
        "s",
        at_most(4),
        at_most(2_000, "p99"),
        p50=[each[len(each) // 2] * 1e3 for each in waits],
        p99=[each[len(each) * 99 // 100] * 1e3 for each in waits],
        cpu_us=cpu,
    )
    record("new durable sessions with a subscription", opening)


def qos2(user: User, options: Options) -> None:
    lasting = Load(
        CLIENTS, WINDOW, options.of(200_000, 20_000), clean=False, client_id="lasting-{connection}"
    )
    publishing: dict[int, list[Delivered]] = {1: [], 2: []}
    listening: dict[int, list[Delivered]] = {1: [], 2: []}
    with gateway(user) as ours:
        run(ours.target, Load(1_000, 1, 2_000))
        for _ in range(options.runs):
            for qos, found in publishing.items():
                measured = ours.measure(replace(lasting, qos=qos))
                found.append(Delivered(measured.load.rate, measured.cpu_us))
            for qos, found in listening.items():
                with listeners() as server:
                    server.open(Order(ours.target, 1, f"server-{qos}", "#", qos, clean=False))
                    load = Load(CLIENTS, WINDOW, lasting.total // 2, qos=qos)
                    delivered, _ = with_listener(ours, server, load)
                    found.append(delivered)
                    server.close()
    for name, both, bars in (
        ("50 durable publishers x 100", publishing, [at_least(0.8, "ratio")]),
        ("50 clean publishers x 100, a durable # subscriber of the same QoS", listening, []),
    ):
        show(f"{name}, QoS 1", both[1])
        ceiling = [each.rate for each in both[1]]
        show(f"{name}, QoS 2", both[2], *bars, ceiling=ceiling, of="QoS 1")


# A command while others send


def publish_beside(target: Target, load: Load) -> None:
    run(target, load)


def commands(user: User, options: Options) -> None:
    User.objects.filter(pk=user.pk).update(rest_rate=1_000_000, max_connections=2 * IDLE)
    seconds = max(10 * options.share, 3)
    load = Load(CLIENTS, WINDOW, int((seconds + 2) * BESIDE), rate=BESIDE)
    ways: dict[str, list[list[float]]] = {"a client at QoS 1": [], "REST": []}
    with gateway(user) as ours, web() as site, listeners() as device:
        run(ours.target, Load(1_000, 1, 2_000))
        senders: list[Callable[[], None]] = [
            Commander(ours.target).send,
            Rest(site.port, credentials(user)["api_token"]).send,
        ]
        for _ in range(options.runs):
            for found, send in zip(ways.values(), senders, strict=True):
                device.open(Order(ours.target, 1, "device", COMMAND_TOPIC, 1, stamped=True))
                send()
                beside = multiprocessing.get_context("spawn").Process(
                    target=publish_beside, args=(ours.target, load), daemon=True
                )
                beside.start()
                time.sleep(1.5)
                paced(send, seconds)
                device.wait(device.seen().deliveries + 1, quiet=0.5)
                found.append(sorted(device.seen().delays[1:]))
                device.close()
                beside.join()
    for way, runs in ways.items():
        record(
            f"a command from {way} until the device has it, beside {BESIDE:,} datapoints/s",
            [statistics.fmean(delays) * 1e3 for delays in runs],
            "ms in the mean",
            at_most(15, "p99"),
            p50=[delays[len(delays) // 2] * 1e3 for delays in runs],
            p99=[delays[len(delays) * 99 // 100] * 1e3 for delays in runs],
        )


def paced(send: Callable[[], None], seconds: float) -> None:
    started = time.perf_counter()
    for place in range(int(seconds * COMMANDS_A_SECOND)):
        time.sleep(max(started + place / COMMANDS_A_SECOND - time.perf_counter(), 0))
        send()


class Commander:
    """An MQTT client that publishes a command, and waits for its PUBACK."""

    def __init__(self, target: Target) -> None:
        self._topic = f"{target.token}/{COMMAND_TOPIC}"
        self._socket = socket.create_connection((target.host, target.port), 30)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        hello = Connect(V311, "commander", True, 0, target.user_id, target.token.encode(), None, {})
        self._socket.sendall(encode(hello, V311))
        self._socket.recv(ACK, socket.MSG_WAITALL)

    def send(self) -> None:
        payload = f"command {stamp()}".encode()
        self._socket.sendall(encode(Publish(self._topic, payload, 1, False, False, 1, {}), V311))
        self._socket.recv(ACK, socket.MSG_WAITALL)


class Rest:
    def __init__(self, port: int, token: str) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        self._headers = {"X-APITOKEN": token, "Content-Type": "application/json"}

    def send(self) -> None:
        body = json.dumps({"payload": f"command {stamp()}", "qos": 1})
        self._connection.request("POST", "/v2/publish/bench-0", body, self._headers)
        response = self._connection.getresponse()
        answer = response.read()
        if response.status != 200:
            raise SystemExit(f"REST answered {response.status}: {answer[:200]!r}")


# Retained messages


def retained(user: User, options: Options) -> None:
    total = options.of(RETAINED)
    topic = "site-{connection:02}-{message:05}/subscribe"
    load = Load(CLIENTS, WINDOW, total, topic=topic, retain=True, client_id="p-{connection}")
    made: list[Delivered] = []
    again: list[Delivered] = []
    few, everything = [], []
    for _ in range(options.runs):
        with gateway(user) as ours, listeners() as screens:
            for found in (made, again):
                checkpoint()
                used = ours.used()
                result = run(ours.target, load)
                found.append(Delivered(result.rate, used.us(load.sent)))
            stored = number("SELECT count(*) FROM mqtt_retained")
            if stored != load.sent:
                raise SystemExit(f"{load.sent:,} were acknowledged and {stored:,} are stored.")
            run(ours.target, Load(CLIENTS, 1, CLIENTS, retain=True))
            order = Order(ours.target, 1, "screen-{number}", "+/bench-{number}", expected=1)
            few.append(
                statistics.median(screens.open(order._replace(first=place)).waits[0] for place in range(21))
            )
            screens.close()
            everything.append(
                screens.open(Order(ours.target, 1, "all", "#", expected=load.sent + CLIENTS)).seconds
            )
            screens.close()
    show(f"new retained messages, {CLIENTS} connections x {WINDOW}", made)
    show("retained messages over others", again, at_least(30_000))
    record(
        f"+/bench-1 of {load.sent:,} retained messages: from connecting until it is there",
        [each * 1e3 for each in few],
        "ms",
        at_most(10),
    )
    record(f"# of {load.sent:,} retained messages", everything, "s")


# Beside mosquitto


def beside_mosquitto(user: User, options: Options) -> None:
    if not MOSQUITTO:
        note("Not compared with mosquitto: it is not installed.")
        return
    load = Load(CLIENTS, WINDOW, options.of(300_000, 20_000))
    ours: list[Delivered] = []
    theirs: list[Delivered] = []
    for _ in range(options.runs):
        with mosquitto() as (port, pid), listeners() as screen:
            their_target = target(user, port)
            screen.open(Order(their_target, 1, "screen", "#"))
            used = Used(mosquitto=[pid])
            result = run(their_target, load)
            screen.wait(load.sent)
            theirs.append(Delivered(result.rate, used.us(load.sent)))
        with gateway(user) as own, listeners() as screen:
            run(own.target, Load(1_000, 1, 2_000))
            screen.open(Order(own.target, 1, "screen", "#"))
            ours.append(with_listener(own, screen, load)[0])
    show("QoS 1 to a clean # at QoS 1, mosquitto, which stores nothing", theirs)
    show("QoS 1 to a clean # at QoS 1, gateway", ours)
    peer = [1e6 / each.cpu_us["mosquitto"] for each in theirs]
    own_processes = ("gateway", "store", "backends")
    for name, processes in (("gateway", own_processes[:1]), ("gateway, store, PostgreSQL", own_processes)):
        record(
            f"the same messages for a second of processor time, {name}",
            [1e6 / sum(each.cpu_us[process] for process in processes) for each in ours],
            "",
            at_least(1, "ratio"),
            ceiling=peer,
            of="mosquitto",
        )


# Memory


def memory(user: User, options: Options) -> None:
    clients = options.of(IDLE)
    for name, topic_filter, most in (
        ("no subscription", "", 2.5),
        ("an exact subscription", "dev-{number}/subscribe", 4),
        ("a wildcard subscription", "dev-{number}/#", 4),
    ):
        with gateway(user) as ours, listeners() as idle:
            idle.open(Order(ours.target, 100, "first-{number}", "first-{number}/#"))
            before = settled(ours.pid)
            opened = idle.open(Order(ours.target, clients, "idle-{number}", topic_filter))
            grown = (settled(ours.pid) - before) / clients
            record(f"an idle connection with {name}, of {clients:,}", [grown / 1000], "kB", at_most(most))
            record(f"connections with {name}", [clients / opened.seconds])
            idle.close()
    durable = options.of(BACK)
    with gateway_process() as (_, pid):
        without = settled(pid)
    with gateway(user) as ours, listeners() as absent:
        absent.open(Order(ours.target, durable, "away-{number}", "dev-{number}/subscribe", clean=False))
        absent.close()
        wait_until(lambda: number("SELECT count(*) FROM mqtt_session WHERE ends_at IS NULL") == 0, 60)
        with gateway_process() as (_, pid):
            record("a durable session that is away, in memory", [(settled(pid) - without) / durable], "B")
        record(
            "a durable session that is away, on disk",
            [disk("mqtt_session", "mqtt_subscription") / durable],
            "B",
        )
    with gateway(user) as ours:
        run(ours.target, Load(CLIENTS, WINDOW, 5_000, retain=True))
        before = settled(ours.pid)
        load = Load(
            CLIENTS,
            WINDOW,
            options.of(RETAINED),
            topic="site-{connection:02}-{message:05}/subscribe",
            retain=True,
        )
        run(ours.target, load)
        record("a retained message, in memory", [(settled(ours.pid) - before) / load.sent], "B")
        record("a retained message, on disk", [disk("mqtt_retained") / load.sent], "B")


def settled(pid: int) -> float:
    """Bytes of a gateway and its store, PSS."""
    time.sleep(SETTLE_SECONDS)
    texts = [Path(f"/proc/{each}/smaps_rollup").read_text() for each in [pid, *children(pid)]]
    return sum(int(size) for text in texts for size in re.findall(r"(?m)^Pss: +(\d+) kB", text)) * 1024


def disk(*tables: str) -> int:
    return sum(number(f"SELECT pg_total_relation_size('{table}')") for table in tables)


PARTS: dict[str, Callable[[User, Options], None]] = {
    "ingest": ingest,
    "fan_out": fan_out,
    "away": away,
    "back": back,
    "qos2": qos2,
    "commands": commands,
    "retained": retained,
    "mosquitto": beside_mosquitto,
    "memory": memory,
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--share", type=float, default=1, help="of the work; default: all")
    parser.add_argument("--only", default=",".join(PARTS), help="default: %(default)s")
    given = parser.parse_args()
    user = prepare()
    for name in given.only.split(","):
        PARTS[name](user, Options(given.runs, given.share))


if __name__ == "__main__":
    main()
