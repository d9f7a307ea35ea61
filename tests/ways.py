"""The ways of one message, one read and one page through our code, traced in real processes.

A way begins with the first of our functions that has the bytes, or the request, and ends when the client has
its answer. What a thread does once it has handed over the answer is behind it: after `sendall` in the store,
and from the files BEHIND on. Of several tries the one with the fewest calls counts: what comes in between by
the clock (a status, the sweep) can only make a way longer.
"""

import http.client
import json
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from itertools import count, pairwise
from pathlib import Path
from typing import NamedTuple

from broker_worker import Device, rumqttd
from client import Client, Endpoint
from django.conf import settings
from django.test import Client as Browser
from django.utils import timezone
from stack import Stack, answers, wait_until
from support import Account, make_account

from ingest.mqtt.packets import V311
from thingscale.devices.models import HeldMessage

TRIES = 12
QUIET_SECONDS = 0.03
PAYLOAD = b"21.5"
LARGE = json.dumps([{"value": n} for n in range(250)]).encode()  # more than one statement takes
BEHIND = {"ingest/after_commit.py", "ingest/metrics.py", "ingest/service.py"}  # follows others' changes

SMALL_BATCH = "MQTT, our gateway: a small batch"
LARGE_BATCH = "MQTT, our gateway: an array of 250 datapoints"
BEHIND_BROKER = "MQTT, behind a broker"
DIRECT = "HTTP connector"
UNKNOWN_TOKEN = "HTTP connector: only the database knows the token"
WSGI = "HTTP connector under WSGI"
REST_ARRAY = "REST array"
HELD = "held message, when its device is mapped by REST"
DOORS = (SMALL_BATCH, LARGE_BATCH, BEHIND_BROKER, DIRECT, UNKNOWN_TOKEN, WSGI, REST_ARRAY, HELD)

GATEWAY = "ingest/gateway/connection.py"
BROKER_WORKER = "ingest/connectors/broker.py"
WEB = "thingscale/web/http_protocol.py"


class Call(NamedTuple):
    process: str
    thread: str
    file: str
    function: str


class Trace:
    def __init__(self, calls: Sequence[Call]) -> None:
        self.calls = calls
        self.functions = len({(call.file, call.function) for call in calls})
        self.files = len({call.file for call in calls})
        self.changes = sum(a.file != b.file for a, b in pairwise(calls))  # from one call to the next

    @property
    def figures(self) -> str:
        return f"{self.functions} functions, {self.files} files, {self.changes} changes of file"

    @property
    def order(self) -> tuple[str, ...]:
        """Files, in the order in which they are first entered."""
        return tuple(dict.fromkeys(call.file for call in self.calls))

    def __str__(self) -> str:
        lines, before = [], ""
        for call in self.calls:
            lines.append(f"  {call.file if call.file != before else '':44} {call.function}")
            before = call.file
        return "\n".join([self.figures, *lines])


class Way(NamedTuple):
    name: str
    traces: list[Trace]  # of several tries

    @property
    def shortest(self) -> Trace:
        return min(self.traces, key=lambda trace: (len(trace.calls), trace.changes))

    @property
    def usual_order(self) -> tuple[str, ...]:
        return Counter(trace.order for trace in self.traces).most_common(1)[0][0]


class TracedProcess:
    """`first`: the file whose functions a way begins with. `answers_from`: the file whose last call ends it,
    where the process goes on by itself."""

    def __init__(
        self, folder: Path, name: str, first: str = "", answers_from: str = "", **environment: str
    ) -> None:
        self._first, self._answers_from = first, answers_from
        self._switch, self._calls = folder / f"{name}.switch", folder / f"{name}.calls"
        self._switch.write_bytes(b"\0")
        self._calls.touch()
        self.stack = Stack(**environment)
        script = str(Path(__file__).parent / "traced_process.py")
        kind, *port = (name,) if name == "ingest" else (name, str(self.stack.http))
        self.process = self.stack.launch(name, [script, str(self._switch), str(self._calls), kind, *port])

    def wait(self, ready: Callable[[], bool]) -> None:
        name = next(iter(self.stack.processes))
        wait_until(lambda: ready() or self.process.poll() is not None, 60, f"{name} to listen")
        assert self.process.poll() is None, self.stack.log(name)

    def trace(self, work: Callable[[], object]) -> Trace:
        """What the process does until `work`, a client's, has its answer."""
        self._set_switch(b"\1")
        before = self._size_at_rest()
        work()
        self._set_switch(b"\0")
        with self._calls.open() as file:
            file.seek(before)
            calls = [Call(*line.split()) for line in file]
        begin = next(place for place, call in enumerate(calls) if call.file.startswith(self._first))
        end = max(
            place
            for place, call in enumerate(calls)
            if not self._answers_from or call.file == self._answers_from
        )
        return Trace(list(_until_the_answer(calls[begin : end + 1])))

    def way(self, name: str, works: Iterator[Callable[[], object]], tries: int = TRIES) -> Way:
        return Way(name, [self.trace(next(works)) for _ in range(tries)])

    def _size_at_rest(self) -> int:
        """Of the calls, when those of what came before have ended."""
        size, since = -1, time.monotonic()
        deadline = since + 10
        while time.monotonic() < min(deadline, since + QUIET_SECONDS):
            if (now := self._calls.stat().st_size) != size:
                size, since = now, time.monotonic()
            time.sleep(0.005)
        return size

    def _set_switch(self, byte: bytes) -> None:
        with self._switch.open("r+b") as file:
            file.write(byte)


def _until_the_answer(calls: Sequence[Call]) -> Iterator[Call]:
    """Without what a thread does once it has sent the answer."""
    reader = calls[0].process
    threads = [(call.process, call.thread) for call in calls]
    last_sent = {
        thread: place
        for place, (thread, call) in enumerate(zip(threads, calls, strict=True))
        if call.function == "sendall" and call.process != reader
    }
    committed = set()
    for place, (thread, call) in enumerate(zip(threads, calls, strict=True)):
        if call.file in BEHIND:
            committed.add(thread)
        if (
            call.function != "sendall"
            and thread not in committed
            and place < last_sent.get(thread, len(calls))
        ):
            yield call


def again(work: Callable[[], object]) -> Iterator[Callable[[], object]]:
    while True:
        yield work


class Http:
    """One connection, kept alive: the way of a request does not begin with the connection's."""

    def __init__(self, port: int) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)

    def __call__(self, method: str, path: str, headers: dict[str, str], body: bytes = b"") -> None:
        self._connection.request(method, path, body, headers)
        answer = self._connection.getresponse()
        content = answer.read()
        assert answer.status in {200, 201}, (answer.status, content)

    def close(self) -> None:
        self._connection.close()


@contextmanager
def traced(process: TracedProcess) -> Iterator[TracedProcess]:
    try:
        yield process
    finally:
        process.stack.stop()


@contextmanager
def traced_gateway(folder: Path) -> Iterator[TracedProcess]:
    with traced(TracedProcess(folder, "ingest", GATEWAY, GATEWAY)) as process:
        process.wait(lambda: answers(process.stack.mqtt))
        yield process


def mqtt_ways(account: Account, folder: Path) -> Iterator[Way]:
    """QoS 1, from a known device, until PUBACK."""
    with traced_gateway(folder) as process, ExitStack() as ended:
        client = Client(
            Endpoint(process.stack.mqtt, account.user_id, account.device_token.encode()), "c1", V311
        )
        client.connect()
        ended.callback(client.wire.close)
        topic = f"{account.device_token}/json/d1/temperature"
        for name, payload in ((SMALL_BATCH, PAYLOAD), (LARGE_BATCH, LARGE)):
            publish = partial(client.publish, topic, payload)
            assert [publish(), publish()] == [0, 0]
            yield process.way(name, again(publish))


def broker_ways(account: Account, folder: Path) -> Iterator[Way]:
    """Until it is stored, and the worker has come back to it."""
    with rumqttd() as broker:
        chosen = {
            "THINGSCALE_INGEST": "broker",
            "THINGSCALE_BROKER_CLIENT_ID": "traced",
            "MQTT_URL": f"mqtt://127.0.0.1:{broker.port}",
            "MQTT5_URL": f"mqtt://127.0.0.1:{broker.port5}",
        }
        with traced(TracedProcess(folder, "ingest", BROKER_WORKER, BROKER_WORKER, **chosen)) as process:
            process.wait(lambda: "Subscribed at" in process.stack.log("ingest"))
            device = Device(broker)

            def publish() -> None:
                before = len(account.stored())
                device.publish(f"{account.device_token}/json/d1/temperature", PAYLOAD)
                wait_until(lambda: len(account.stored()) > before)

            publish()
            publish()
            yield process.way(BEHIND_BROKER, again(publish))
            device.close()


def web_ways(account: Account, folder: Path) -> Iterator[Way]:
    with traced(TracedProcess(folder, "web", WEB)) as process, ExitStack() as ended:
        process.wait(lambda: answers(process.stack.http))
        ask = Http(process.stack.http)
        ended.callback(ask.close)
        browser = Browser()
        browser.force_login(account.user)
        cookie = browser.cookies[settings.SESSION_COOKIE_NAME]
        device = account.user.devices.get(device_id="d1").pk
        app = {"X-APITOKEN": account.api_token}
        page = {"Cookie": f"{cookie.key}={cookie.value}"}
        json_of_app = app | {"Content-Type": "application/json"}
        requests = (
            (DIRECT, "POST", "/post_v2/", connector_headers(account), PAYLOAD),
            (REST_ARRAY, "POST", "/v2/stream/0", json_of_app, b'[{"value": 1}, {"value": 2}]'),
            ("REST, the newest datapoints", "GET", "/v2/stream/0", app | {"X-ENDTIME": "last"}, b""),
            ("console, page of a device", "GET", f"/devices/{device}/", page, b""),
            ("console, page of a stream", "GET", "/streams/0/", page, b""),
            ("console, chart", "GET", "/streams/0/chart.json?range=24h&pixels=500", page, b""),
        )
        for name, method, path, headers, body in requests:
            send = partial(ask, method, path, headers, body)
            send()
            send()
            yield process.way(name, again(send))

        def with_new_tokens() -> Iterator[Callable[[], object]]:
            for number in count():
                new = make_account(f"new{number}@example.com")
                new.device("d1")
                yield partial(ask, "POST", "/post_v2/", connector_headers(new), PAYLOAD)

        yield process.way(UNKNOWN_TOKEN, with_new_tokens(), 5)

        def with_held_messages() -> Iterator[Callable[[], object]]:
            for number in count():
                held = account.device(f"held{number}", None)
                HeldMessage.objects.create(device=held, value=1, received_at=timezone.now())
                body = json.dumps({"enabled": True, "mapped_ch": 0}).encode()
                yield partial(ask, "PUT", f"/v2/device/{held.device_id}", json_of_app, body)

        works = with_held_messages()
        next(works)()
        yield process.way(HELD, works, 5)


def wsgi_ways(account: Account, folder: Path) -> Iterator[Way]:
    with traced(TracedProcess(folder, "wsgi", "")) as process:
        process.wait(lambda: answers(process.stack.http))

        def post() -> None:
            ask = Http(process.stack.http)  # the server is HTTP/1.0
            ask("POST", "/post_v2/", connector_headers(account), PAYLOAD)
            ask.close()

        post()
        post()
        yield process.way(WSGI, again(post))


def connector_headers(account: Account) -> dict[str, str]:
    return {"X-DEVICETOKEN": account.device_token, "X-DEVICEID": "d1", "Content-Type": "application/json"}


def all_ways(account: Account, folder: Path) -> Iterator[Way]:
    """Of an account that has the device d1, mapped to channel 0."""
    for place, ways in enumerate((mqtt_ways, broker_ways, web_ways, wsgi_ways)):
        own = folder / str(place)
        own.mkdir()
        yield from ways(account, own)
