"""Subscribers for the benchmarks: thousands of connections in a process of their own, which acknowledge what
comes, count it, and do nothing else. They cost little, because they share the machine with what is measured.
"""

import multiprocessing
import select
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from typing import Any, NamedTuple, cast

from load import Target

from ingest.mqtt.codec import encode
from ingest.mqtt.packets import V311, Connect, Subscribe, Subscription

RECEIVE = 2**18
BETWEEN = 50  # connections that are made before what has come in meanwhile is read
OPEN_SECONDS = 120
PER_SOURCE = 500  # connections from one address: no more of them sign in at once than a gateway lets
STAMP = 20  # characters at the end of a payload: time.perf_counter(), which all processes share
GOODBYE = b"\xe0\0"
CONNACK, PUBLISH, PUBREL, SUBACK = 2, 3, 6, 9


class Order(NamedTuple):
    """Clients to connect. In `client_id` and `filter`, `{number}` counts them from `first` on."""

    target: Target
    clients: int
    client_id: str
    filter: str = ""  # without the token; empty: nothing is subscribed to
    qos: int = 1
    clean: bool = True
    first: int = 0
    expected: int = 0  # messages that a client waits for until it counts as served
    stamped: bool = False  # payloads end with the time when they were sent


class Opened(NamedTuple):
    seconds: float  # until all were served
    waits: list[float]  # from each client's connect() to that
    present: int  # whose session was there


class Seen(NamedTuple):
    deliveries: int
    last: float  # time.perf_counter() of the newest
    cpu_seconds: float
    delays: list[float]  # seconds, of those that are stamped


def stamp() -> str:
    return f"{time.perf_counter():0{STAMP}.6f}"


class Listener:
    """One connection."""

    __slots__ = (
        "_rest",
        "delays",
        "expected",
        "greetings",
        "present",
        "received",
        "socket",
        "started",
        "wait",
    )

    def __init__(self, order: Order, number: int) -> None:
        target = order.target
        self.delays: list[float] | None = [] if order.stamped else None
        self.expected = order.expected
        self.greetings = 2 if order.filter else 1  # that are to come: CONNACK, SUBACK
        self.received = 0
        self.wait = 0.0  # until it was served; 0: it is not
        self.present = False
        self._rest = b""
        self.started = time.perf_counter()
        self.socket = socket.socket()
        self.socket.bind((f"127.0.0.{2 + number // PER_SOURCE}", 0))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.connect((target.host, target.port))
        name = order.client_id.format(number=number)
        token = target.token.encode()
        hello = encode(Connect(V311, name, order.clean, 0, target.user_id, token, None, {}), V311)
        if order.filter:
            wanted = f"{target.token}/{order.filter}".format(number=number)
            hello += encode(Subscribe(1, [Subscription(wanted, order.qos, False, False, 0)], {}), V311)
        self.socket.sendall(hello)
        self.socket.setblocking(False)

    def receive(self) -> int:
        """How many messages have come; each is acknowledged."""
        try:
            data = self.socket.recv(RECEIVE)
        except BlockingIOError:
            return 0
        if not data:
            raise ConnectionError("The server has closed the connection.")
        if self._rest:
            data = self._rest + data
        count, place, answers = 0, 0, []
        while len(data) - place > 1:
            size, body = data[place + 1], place + 2
            if size & 0x80:
                if len(data) == body:
                    break
                size, body = (size & 0x7F) | data[body] << 7, body + 1  # no longer ones are sent here
            end = body + size
            if end > len(data):
                break
            first = data[place]
            if first >> 4 == PUBLISH:
                count += 1
                if first & 6:
                    at = body + 2 + (data[body] << 8 | data[body + 1])
                    answers.append((b"\x40\x02" if first & 2 else b"\x50\x02") + data[at : at + 2])
                if self.delays is not None:
                    self.delays.append(time.perf_counter() - float(data[end - STAMP : end]))
            elif first >> 4 == PUBREL:
                answers.append(b"\x70\x02" + data[body : body + 2])
            else:
                self._greet(first, data[body:end])
            place = end
        self._rest = data[place:]
        self.received += count
        if answers:
            self.socket.send(b"".join(answers))  # a buffer for far more than a window is the system's default
        if not self.wait and not self.greetings and self.received >= self.expected:
            self.wait = time.perf_counter() - self.started
        return count

    def _greet(self, first: int, body: bytes) -> None:
        if (first >> 4 == CONNACK and body[1]) or (first >> 4 == SUBACK and body[2] > 2):
            raise ConnectionError(f"refused: {first:02x} {body.hex()}")
        self.present = self.present or (first >> 4 == CONNACK and body[0] > 0)
        self.greetings -= 1


class Process:
    """The child's side."""

    def __init__(self, orders: Connection) -> None:
        self._orders = orders
        self._files: dict[int, Listener] = {}
        self._waiting = select.epoll()
        self._waiting.register(orders.fileno(), select.EPOLLIN)
        self._deliveries = 0
        self._last = 0.0

    def serve(self) -> None:
        while True:
            if self._poll(-1):
                name, argument = self._orders.recv()
                self._orders.send(getattr(self, name)(argument))

    def open(self, order: Order) -> Opened:
        started = time.perf_counter()
        mine: list[Listener] = []
        for number in range(order.first, order.first + order.clients):
            listener = Listener(order, number)
            mine.append(listener)
            self._files[listener.socket.fileno()] = listener
            self._waiting.register(listener.socket.fileno(), select.EPOLLIN)
            if len(mine) % BETWEEN == 0:
                self._poll(0)
        unserved = mine
        while unserved := [each for each in unserved if not each.wait]:
            self._poll(0.05)
            if time.perf_counter() - started > OPEN_SECONDS:
                raise TimeoutError(f"{len(unserved):,} clients wait for their messages.")
        seconds = max(each.started + each.wait for each in mine) - started
        return Opened(seconds, [each.wait for each in mine], sum(each.present for each in mine))

    def close(self, goodbye: bool) -> None:
        for listener in self._files.values():
            if goodbye:
                listener.socket.setblocking(True)
                listener.socket.sendall(GOODBYE)
            listener.socket.close()
        self._files.clear()

    def seen(self, _: None) -> Seen:
        delays = [delay for each in self._files.values() for delay in each.delays or ()]
        return Seen(self._deliveries, self._last, time.process_time(), delays)

    def _poll(self, seconds: float) -> bool:
        """Whether there is an order."""
        ordered = False
        for file, _ in self._waiting.poll(seconds, 1_000):
            listener = self._files.get(file)
            if listener is None:
                ordered = ordered or file == self._orders.fileno()
            elif count := listener.receive():
                self._deliveries += count
                self._last = time.perf_counter()
        return ordered


class Listeners:
    """The benchmark's side."""

    def __init__(self, orders: Connection) -> None:
        self._orders = orders

    def open(self, order: Order) -> Opened:
        return cast(Opened, self._ask("open", order))

    def close(self, goodbye: bool = True) -> None:
        self._ask("close", goodbye)

    def seen(self) -> Seen:
        return cast(Seen, self._ask("seen", None))

    def wait(self, deliveries: int, seconds: float = 60, quiet: float = 2) -> Seen:
        """Until there have been so many in all, or nothing has come for a while."""
        deadline = time.perf_counter() + seconds
        while True:
            seen = self.seen()
            now = time.perf_counter()
            if seen.deliveries >= deliveries or now > deadline:
                return seen
            if seen.deliveries and now - seen.last > quiet:
                return seen
            time.sleep(0.02)

    def _ask(self, name: str, argument: Any) -> Any:
        self._orders.send((name, argument))
        return self._orders.recv()


def run(orders: Connection) -> None:
    Process(orders).serve()


@contextmanager
def listeners() -> Iterator[Listeners]:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=run, args=(theirs,), daemon=True)
    process.start()
    theirs.close()  # so that the end of the child is seen
    try:
        yield Listeners(ours)
    finally:
        process.terminate()
        process.join()
