"""Several gateways on the same ports of one machine."""

import contextlib
import itertools
import re
import signal
import urllib.request
from collections import Counter
from collections.abc import Iterator

import pytest
from mqtt_clients import V5_PAHO, Device, certificate
from stack import Stack, free_port, wait_until
from support import Account

from thingscale.devices import presence
from thingscale.devices.models import MqttSession

pytestmark = pytest.mark.e2e
SECONDS = 60
CLIENTS = 24  # that all come to one of two gateways: once in 8 million times
METRICS = {name: free_port() for name in ("ingest", "ingest-2")}


@pytest.fixture
def two(account: Account, request: pytest.FixtureRequest) -> Iterator[Stack]:
    account.device("d1")
    running = Stack(THINGSCALE_SHARE_PORTS="1", **request.param)
    running.environment |= certificate(running.logs)
    try:
        for name, port in METRICS.items():
            running.environment["THINGSCALE_METRICS_PORT"] = str(port)
            running.launch(name, ["manage.py", "ingest"])
        wait_until(lambda: all(running.log(name).count("Listening on") == 4 for name in METRICS), SECONDS)
        yield running
    finally:
        running.stop()


def by_gateway(account: Account, kind: str = "") -> Counter[int]:
    found = MqttSession.objects.filter(user=account.user, gateway__in=presence._gateways())
    return Counter(found.filter(client_id__startswith=kind).values_list("gateway", flat=True))


@pytest.mark.parametrize(
    "two", [{}, {"THINGSCALE_PROXY_NETWORKS": "192.0.2.0/24"}], ids=["plain", "proxies"], indirect=True
)
def test_clients_are_shared_out_and_one_that_is_killed_leaves_them_to_the_other(
    two: Stack, account: Account
) -> None:
    """At each port."""
    ports = list(itertools.product(("tcp", "websockets"), (False, True)))
    count = itertools.count()

    def device(name: str, transport: str, tls: bool) -> Device:
        return Device(two, account, name, V5_PAHO, transport=transport, tls=tls)

    with contextlib.ExitStack() as stack:
        devices: list[Device] = []
        for port in ports:
            kind = f"{port} "
            devices += [stack.enter_context(device(f"{kind}{number}", *port)) for number in range(CLIENTS)]
            wait_until(lambda: sum(by_gateway(account, kind).values()) == CLIENTS, SECONDS, "all to be known")  # noqa: B023
            assert len(by_gateway(account, kind)) == 2, kind
        for each in devices:
            each.publish("json/d1", str(next(count)).encode())
        two.kill("ingest", signal.SIGKILL)
        wait_until(lambda: len(by_gateway(account)) == 1, SECONDS, "one to be gone")
        left = sum(by_gateway(account).values())
        for port in ports:
            for number in range(CLIENTS // 2):
                with device(f"again-{number}", *port) as again:
                    again.publish("json/d1", str(next(count)).encode())
        gone = len(devices) - left
        wait_until(lambda: sum(each.ended is not None for each in devices) == gone, SECONDS, "their end")
    assert [int(value) for value, _ in account.stored()] == list(range(next(count)))


@pytest.mark.parametrize("two", [{}], indirect=True)
def test_the_connections_of_all_are_the_sum_of_their_metrics(two: Stack, account: Account) -> None:
    def connections() -> float:
        pages = [
            urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=SECONDS).read().decode()
            for port in METRICS.values()
        ]
        return sum(float(re.findall(r"^thingscale_connections (\S+)", page, re.M)[0]) for page in pages)

    with contextlib.ExitStack() as stack:
        for number in range(CLIENTS):
            stack.enter_context(Device(two, account, f"client-{number}"))
        wait_until(lambda: connections() == CLIENTS, SECONDS, "all to be counted")
