"""B1, B2: clients that do not read, and accounts that read much, on the real server. Nobody else waits."""

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator

import pytest
import requests
from django.conf import settings
from django.db import connection, transaction
from django.test import Client
from stack import Stack, wait_until
from support import Account

from thingscale.lib.clock import now_us
from thingscale.lib.points import Points
from thingscale.streams.actions.datapoints import store_points
from thingscale.web.http_protocol import UNREAD_SECONDS

pytestmark = pytest.mark.e2e
LIMIT = UNREAD_SECONDS / 2  # the slow readers are still there
TIMES = 5  # one request after the other
SWAGGER = "/static/drf_spectacular_sidecar/swagger-ui-dist/swagger-ui-bundle.js"


def fill(account: Account, number: int, count: int) -> None:
    now = now_us()
    for start in range(0, count, 10_000):
        points = [
            (None, b'{"temp": %d.25, "humidity": %d}' % (each % 40, each % 100), now - each * 1000)
            for each in range(start, min(count, start + 10_000))
        ]
        store_points(account.channel(number), Points.of(points))


def session(account: Account) -> str:
    client = Client()
    client.force_login(account.user)
    return f"{settings.SESSION_COOKIE_NAME}={client.cookies[settings.SESSION_COOKIE_NAME].value}"


@contextlib.contextmanager
def slow_readers(port: int, count: int, path: str, header: str) -> Iterator[list[socket.socket]]:
    """They ask, and do not read: as phones at the edge of a network, or on purpose."""
    with contextlib.ExitStack() as stack:
        clients = []
        for _ in range(count):
            client = stack.enter_context(socket.socket())
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, 1400)
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
            client.settimeout(60)
            client.connect(("127.0.0.1", port))
            client.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n{header}\r\n\r\n".encode())
            clients.append(client)
        yield clients


def answered(client: socket.socket) -> bool:
    """Not refused: of a thousand that one account sends at once, some are."""
    try:
        return client.recv(12, socket.MSG_PEEK | socket.MSG_DONTWAIT) == b"HTTP/1.1 200"
    except BlockingIOError:
        return False


def slowest(stack: Stack, path: str, headers: dict[str, str]) -> float:
    """Of some requests."""
    longest = 0.0
    for _ in range(TIMES):
        begun = time.monotonic()
        assert requests.get(stack.url(path), headers=headers, timeout=60).status_code == 200
        longest = max(longest, time.monotonic() - begun)
    return longest


@pytest.mark.parametrize("count", [8, 100, 1000])
@pytest.mark.parametrize("what", ["static", "range", "csv", "page"])
def test_b1_a_slow_reader_holds_up_nobody(
    stack: Callable[..., Stack], account: Account, outsider: Account, what: str, count: int
) -> None:
    running = stack("web")
    fill(account, 1, 20_000 if what in {"range", "csv"} else 100)
    token, cookie = f"X-APITOKEN: {account.api_token}", f"Cookie: {session(account)}"
    path, header = {
        "static": (SWAGGER, "Accept: */*"),
        "range": ("/v2/stream/1?endtime=2100-01-01%2000:00", token),
        "csv": ("/streams/1/data.csv?range=7d", cookie),
        "page": ("/streams/1/", cookie),
    }[what]
    other = {"Cookie": session(outsider)}
    assert requests.get(running.url("/devices/"), headers=other, timeout=60).status_code == 200
    with slow_readers(running.http, count, path, header) as clients:
        wait_until(lambda: any(map(answered, clients)), 60, "the begin of an answer")
        assert slowest(running, "/healthz", {}) < LIMIT
        assert slowest(running, "/devices/", other) < LIMIT
        assert slowest(running, "/v2/device", {"X-APITOKEN": outsider.api_token}) < LIMIT


def test_b2_many_reads_of_one_account_leave_room_for_the_others(
    stack: Callable[..., Stack], account: Account, outsider: Account
) -> None:
    """Aggregates, ranges and charts that take long: here because the table is locked, for as long as the test
    likes. They hold the account's share and not one thread more; the others' calls go on, and who asks for
    too much is told so."""
    running = stack("web")
    fill(account, 1, 10)
    mine, cookie = {"X-APITOKEN": account.api_token}, {"Cookie": session(account)}
    theirs = {"X-APITOKEN": outsider.api_token}
    reads = [
        (running.url("/v2/stream/1?endtime=2100-01-01%2000:00&aggregate=avg"), mine),
        (running.url("/v1/stream/1?endtime=last"), mine),
        (running.url("/streams/1/chart.json?range=7d"), cookie),
    ]
    answers: list[requests.Response] = []

    def read(url: str, headers: dict[str, str]) -> None:
        answers.append(requests.get(url, headers=headers, timeout=60))

    readers = [threading.Thread(target=read, args=reads[each % len(reads)]) for each in range(16)]
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("LOCK TABLE datapoint IN ACCESS EXCLUSIVE MODE")
        for reader in readers:
            reader.start()
        # Two hold the threads of the account; those behind them are refused after a while.
        assert slowest(running, "/v2/device", theirs) < LIMIT
        assert slowest(running, "/devices/", {"Cookie": session(outsider)}) < LIMIT
        assert slowest(running, "/v2/device", mine) < LIMIT
        assert slowest(running, "/healthz", {}) < LIMIT
        wait_until(lambda: answers, 60, "a refusal")
    for reader in readers:
        reader.join(60)
    refused = [answer for answer in answers if answer.status_code != 200]
    assert len(answers) == 16
    assert 1 <= len(refused) <= 14
    for answer in refused:
        assert (answer.status_code, answer.headers["Retry-After"]) == (429, "5")
        if "/v" in answer.url:
            assert answer.json()["error"] == "TOO_MANY_REQUESTS"


def test_b2_what_reads_of_others_is_not_hindered(
    stack: Callable[..., Stack], account: Account, outsider: Account
) -> None:
    """One account reads without end; another one's range and chart come in between."""
    running = stack("web")
    fill(account, 1, 50_000)
    fill(outsider, 1, 10)
    mine, stop = {"X-APITOKEN": account.api_token}, threading.Event()

    def read() -> None:
        url = running.url("/v2/stream/1?endtime=2100-01-01%2000:00&aggregate=avg")
        while not stop.is_set():
            assert requests.get(url, headers=mine, timeout=60).status_code in {200, 429}

    readers = [threading.Thread(target=read) for _ in range(16)]
    for reader in readers:
        reader.start()
    try:
        assert slowest(running, "/v2/stream/1?endtime=last", {"X-APITOKEN": outsider.api_token}) < LIMIT
        assert slowest(running, "/streams/1/", {"Cookie": session(outsider)}) < LIMIT
    finally:
        stop.set()
        for reader in readers:
            reader.join(60)
