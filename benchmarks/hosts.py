"""Ten thousand servers that send a sample of sixty metrics in ten seconds each: whether all of it is stored,
what the task that keeps their gauges costs, and how long the pages take
meanwhile.

    make bench                                        (or, shorter:)
    python manage.py with_servers -- python benchmarks/hosts.py --hosts 1000 --seconds 30

Each connection carries the samples of a hundred hosts, at QoS 1. Server time and queries are those of
Django's handler in this process.
"""

import argparse
import math
import multiprocessing
import random
import select
import socket
import threading
import time
from collections.abc import Iterator
from multiprocessing.queues import Queue
from typing import Any

import orjson
from common import at_least, at_most, note, record
from database import target
from django.core.management import call_command
from django.db import connection
from django.test import Client
from load import CONNACK, Target
from processes import gateway

from ingest.mqtt.codec import encode
from ingest.mqtt.packets import V311, Connect, Publish
from thingscale.accounts.limits import Kind
from thingscale.accounts.models import User
from thingscale.devices.models import Device
from thingscale.hosts.look import find, look
from thingscale.hosts.models import Host
from thingscale.provisioning.accounts import open_account
from thingscale.streams.models import Channel

INTERVAL = 10  # seconds
CONNECTIONS = 100
LOOK_SECONDS = 20.0
PAGES = {
    "overview": ("/hosts/", 200),
    "overview, by CPU, found": ("/hosts/?sort=-cpu&q=host-77", 200),
    "a host": ("/hosts/{host}/", 150),
    "charts of a host, 1 hour": ("/hosts/{host}/chart.json?range=1h&pixels=1000", None),
}
PAUSE = 0.5  # seconds between two pages


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--hosts", type=int, default=10_000)
    parser.add_argument("--seconds", type=int, default=300)
    options = parser.parse_args()
    call_command("migrate", verbosity=0)
    user = prepare(options.hosts)
    with gateway() as (port, _):
        sent: Queue[tuple[int, float, float]] = multiprocessing.get_context("spawn").Queue()
        sender = multiprocessing.get_context("spawn").Process(
            target=send, args=(target(user, port), options.hosts, options.seconds, sent), daemon=True
        )
        sender.start()
        looks = measure(user, sender, options.seconds)
        count, slowest, late = sent.get(timeout=60)
        sender.join()
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(*) FROM datapoint"
            " WHERE channel IN (SELECT id FROM streams_channel WHERE user_id = %s)",
            [user.pk],
        )
        (stored,) = cursor.fetchone()
    record("samples stored, of those that were sent", [100 * stored / count], "%", at_least(100))
    note(
        f"{count:,} samples of {len(sample(0, 0)):,} bytes, {count / options.seconds:,.0f}/s; the last"
        f" acknowledgement came {late:.1f} s after its time, the slowest one took {slowest * 1000:,.0f} ms."
    )
    record(f"a look at {options.hosts:,} hosts", looks, "ms", at_most(LOOK_SECONDS * 1000))


def prepare(hosts: int) -> User:
    user = open_account(f"bench-{time.time_ns()}@example.com", "correct horse battery", kind=Kind.SERVWATCH)
    User.objects.filter(pk=user.pk).update(max_devices=hosts, max_channels=hosts, max_connections=CONNECTIONS)
    Channel.objects.bulk_create(
        Channel(user=user, number=number, name=f"host-{number}") for number in range(hosts)
    )
    channels = Channel.objects.filter(user=user).order_by("number")
    Device.objects.bulk_create(
        Device(user=user, device_id=channel.name, mapped_channel=channel, activate_at=channel.created_at)
        for channel in channels
    )
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE")
    return user


def measure(user: User, sender: Any, seconds: int) -> list[float]:
    """Pages, and the looks beside them, while the hosts send. Returns how long the looks took."""
    looks: list[float] = []
    ended = threading.Event()

    def keep_looking() -> None:
        while not ended.wait(LOOK_SECONDS):
            begun = time.perf_counter()
            look()
            looks.append(1000 * (time.perf_counter() - begun))

    while Host.objects.count() < Device.objects.count():
        time.sleep(2)
        find()
    thread = threading.Thread(target=keep_looking)
    thread.start()
    client = Client()
    client.force_login(user)
    host = Host.objects.order_by("-pain")[0].pk
    times: dict[str, list[float]] = {name: [] for name in PAGES}
    until = time.monotonic() + seconds
    while sender.is_alive() and time.monotonic() < until:
        for name, (path, _) in PAGES.items():
            begun = time.perf_counter()
            answer = client.get(path.format(host=host))
            times[name].append(1000 * (time.perf_counter() - begun))
            assert answer.status_code == 200, (path, answer.status_code)
            time.sleep(PAUSE)
    ended.set()
    thread.join()
    for name, (_, most) in PAGES.items():
        found = sorted(times[name][1:])
        bars = [] if most is None else [at_most(most)]
        record(f"{name}: server, while all send", found, "ms", *bars, p99=[found[len(found) * 99 // 100]])
    return looks


def send(at: Target, hosts: int, seconds: int, sent: "Queue[tuple[int, float, float]]") -> None:
    """In a process of its own: each host's sample when it is due, all of them spread over the interval."""
    sockets = [connected(at, number) for number in range(min(CONNECTIONS, hosts))]
    waiting = select.epoll()
    for number, one in enumerate(sockets):
        one.setblocking(False)
        waiting.register(one.fileno(), select.EPOLLIN)
        sockets[number] = one
    by_file = {one.fileno(): number for number, one in enumerate(sockets)}
    numbers = [0] * len(sockets)  # of the last packet
    due: list[list[float]] = [[] for _ in sockets]  # of what is not acknowledged
    rest = [b""] * len(sockets)
    total = hosts * (seconds // INTERVAL)
    count = answered = 0
    slowest = 0.0
    started = time.perf_counter()
    while answered < total:
        now = time.perf_counter()
        while count < total and now >= started + count * INTERVAL / hosts:
            host, turn = count % hosts, count // hosts
            place = host % len(sockets)
            numbers[place] = numbers[place] % 65_535 + 1
            topic = f"{at.token}/json/host-{host}"
            packet = encode(Publish(topic, sample(host, turn), 1, False, False, numbers[place], {}), V311)
            sockets[place].setblocking(True)
            sockets[place].sendall(packet)
            sockets[place].setblocking(False)
            due[place].append(now)
            count += 1
        for file, _ in waiting.poll(0.002):
            place = by_file[file]
            data = rest[place] + sockets[place].recv(65_536)
            acknowledged = len(data) // 4
            rest[place] = data[4 * acknowledged :]
            slowest = max(slowest, time.perf_counter() - due[place][0])
            del due[place][:acknowledged]
            answered += acknowledged
        if time.perf_counter() > started + seconds + 120:
            break
    late = time.perf_counter() - started - (total - 1) * INTERVAL / hosts
    sent.put((total, slowest, late))


def connected(at: Target, number: int) -> socket.socket:
    one = socket.create_connection((at.host, at.port), 30)
    one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    hello = Connect(V311, f"hosts-{number}", True, 0, at.user_id, at.token.encode(), None, {})
    one.sendall(encode(hello, V311))
    answer = one.recv(len(CONNACK), socket.MSG_WAITALL)
    if answer != CONNACK:
        raise ConnectionError(f"refused: {answer.hex()}")
    return one


def sample(host: int, turn: int) -> bytes:
    """As the agent has it: an array of one datapoint, with sixty-odd numbers."""
    busy = 40 + 39 * math.sin(host + turn / 7)
    full = 20 + (host * 37 % 80)
    value = {
        "interval": INTERVAL,
        "uptime": 86_400 + turn * INTERVAL,
        "cpu": dict(parts(busy)) | {"count": 8, "core": {str(n): round(busy, 1) for n in range(8)}},
        "load": {"1": 1.25, "5": 1.1, "15": 0.9, "per_core": 0.16},
        "memory": {"total": 16e9, "available": 8e9, "used": 7e9, "free": 1e9, "percent": 45.5, "cached": 3e9},
        "swap": {"total": 2e9, "used": 0, "free": 2e9, "percent": 0, "in": 0, "out": 0},
        "disk": {"fullest": full, "inodes_fullest": 7.5}
        | {
            mount: {"total": 5e10, "used": 2e10, "free": 3e10, "percent": full * part, "inodes_percent": 7.5}
            for mount, part in (("/", 1), ("/var", 0.8), ("/srv", 0.4))
        },
        "io": {"nvme0n1": {"read": 40960.5, "write": 819200.5, "reads": 12, "writes": 31.5, "busy": 2.5}},
        "net": {"eth0": {"in": 120000.5, "out": 65000, "packets_in": 310, "packets_out": 290, "errors": 0}},
        "processes": {"count": 211, "running": 2, "zombies": 0, "cpu": {"postgres": 31.5}},
        "temperature": {"highest": 51, "coretemp_Package_id_0": 51},
        "users": random.randint(0, 3),
    }
    return orjson.dumps([{"value": value}])


def parts(busy: float) -> Iterator[tuple[str, float]]:
    for state, part in (("user", 0.7), ("system", 0.2), ("iowait", 0.1)):
        yield state, round(busy * part, 2)
    for state in ("nice", "irq", "softirq", "steal"):
        yield state, 0
    yield "idle", round(100 - busy, 2)


if __name__ == "__main__":
    main()
