"""A random script of any length: the same seed gives the same steps, however many."""

import itertools
import random
from collections.abc import Iterator

from model import steps
from model.steps import CLEARED, CLIENTS, FILTERS, LONG, NEVER, SHARED, SHORT, TOPICS, Step

WEIGHTS = {
    "publish": 50.0,
    "connect": 14.0,
    "subscribe": 12.0,
    "cut": 5.0,
    "disconnect": 4.0,
    "unsubscribe": 4.0,
    "hold": 3.0,
    "release": 3.0,
    "begin": 3.0,
    "finish": 2.0,
    "take over": 2.0,
    "kill": 0.3,
    "wait": 0.03,
}
VERSIONS = (3, 4, 5)


def script(seed: int, length: int) -> list[Step]:
    return list(itertools.islice(_Generator(seed).generate(), length))


class _Generator:
    """Knows roughly who is connected, so that most steps have an effect."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self._numbers = itertools.count(1)
        self._connected: set[str] = set()

    def generate(self) -> Iterator[Step]:
        kinds, weights = list(WEIGHTS), list(WEIGHTS.values())
        while True:
            kind = self._random.choices(kinds, weights)[0]
            if kind == "wait":
                yield steps.Wait()
            elif kind == "kill":
                messages = (
                    tuple(map(self._known, self._messages())) if self._connected and self._chance(0.5) else ()
                )
                client = self._any(self._connected) if messages else CLIENTS[0]
                self._connected.clear()
                yield steps.Kill(client, messages)
            elif kind == "connect":
                if away := set(CLIENTS) - self._connected:
                    yield self._connect(self._any(away))
            elif self._connected:
                yield self._of_connected(kind, self._any(self._connected))

    def _of_connected(self, kind: str, client: str) -> Step:
        match kind:
            case "publish":
                return steps.Publish(client, self._messages())
            case "subscribe":
                return self._subscribe(client)
            case "unsubscribe":
                return steps.Unsubscribe(client, tuple(self._filters(self._random.choice((1, 1, 2)))))
            case "disconnect":
                self._connected.discard(client)
                expiry = self._random.choice((None, None, None, 0, SHORT, LONG))
                return steps.Disconnect(client, self._chance(0.2), expiry)
            case "cut":
                return self._cut(client)
            case "hold":
                return steps.Hold(client, self._chance(0.4))
            case "release":
                return steps.Release(client)
            case "begin":
                return steps.Begin(client, self._known(self._message())._replace(qos=2))
            case "finish":
                return steps.Finish(client)
            case _:
                return self._connect(client)

    def _connect(self, client: str) -> steps.Connect:
        usual = VERSIONS[CLIENTS.index(client) % 3]
        self._connected.add(client)
        will = None
        if self._chance(0.4):
            message = self._known(self._message())._replace(alias=0)
            will = steps.Will(message, self._random.choice((0, 0, 0, SHORT, LONG)))
        return steps.Connect(
            client,
            usual if self._chance(0.8) else self._random.choice(VERSIONS),
            self._chance(0.35),
            self._random.choice((0, SHORT, LONG, LONG, LONG, NEVER)),
            self._random.choice((0, 0, 0, 1, 2, 5)),
            self._random.choice((0, 0, 3)),
            will,
        )

    def _subscribe(self, client: str) -> steps.Subscribe:
        filters = tuple(
            steps.Filter(
                filter_,
                self._random.choice((0, 1, 1, 2, 2)),
                self._chance(0.2) and not filter_.startswith("$share"),
                self._chance(0.4),
                self._random.choice((0, 0, 1, 2)),
            )
            for filter_ in self._filters(self._random.choice((1, 1, 1, 2, 3)))
        )
        return steps.Subscribe(client, filters, self._random.choice((0, 0, 1, 2, 3, 268_435_455)))

    def _cut(self, client: str) -> Step:
        at = self._random.randrange(1000)
        kind = self._random.choice(("publish", "publish", "packet", "connect"))
        if kind == "connect":
            before = set(self._connected)
            step = steps.CutConnect(self._connect(self._random.choice(CLIENTS)), at)
            self._connected = before  # nothing has happened
            return step
        self._connected.discard(client)
        if kind == "publish":
            return steps.CutPublish(client, self._known(self._message()), at)
        packets = ("subscribe", "unsubscribe", "disconnect", "ping", "answer")
        return steps.CutPacket(client, self._random.choice(packets), at)

    def _messages(self) -> tuple[steps.Message, ...]:
        return tuple(self._message() for _ in range(self._random.choice((1, 1, 1, 2, 3, 4))))

    def _message(self) -> steps.Message:
        retain = self._chance(0.3)
        topic = self._random.choice(TOPICS)
        clear = retain and topic in CLEARED and self._chance(0.4)
        return steps.Message(
            topic,
            0 if clear else next(self._numbers),
            self._random.choice((0, 1, 1, 2, 2)),
            retain,
            self._random.choice((0, 0, 1, 2, 3)),
            0 if clear else self._random.choice((0, 0, 0, 0, SHORT, LONG)),
            self._random.choice((0, 0, 0, 1, 2)),
        )

    def _known(self, message: steps.Message) -> steps.Message:
        """Not one of several without payload, where it may be routed in a later step."""
        return message if message.number else message._replace(number=next(self._numbers))

    def _filters(self, count: int) -> list[str]:
        return self._random.sample(FILTERS + SHARED, count)

    def _any(self, clients: set[str]) -> str:
        return self._random.choice(sorted(clients))

    def _chance(self, share: float) -> bool:
        return self._random.random() < share
