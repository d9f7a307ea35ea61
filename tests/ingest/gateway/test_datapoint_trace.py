"""How far a reader has to walk with one datapoint: from its bytes to its PUBACK, through both processes.

The figures may fall. Where one has to rise, something on the way became harder to read: see whether the new
step belongs behind the acknowledgement, or into the function that it was taken out of.
"""

from collections.abc import Iterator
from contextlib import closing
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import pytest
from client import Client, Endpoint
from stack import Stack, answers, wait_until
from support import Account

from ingest.mqtt.packets import V5, V311, Version

MAX_FUNCTIONS = 50
MAX_FILES = 15
MAX_CHANGES = 30  # of file, from one call to the next
TRIES = 20
CONNECTION = "ingest/gateway/connection.py"


class Call(NamedTuple):
    process: str
    thread: str
    file: str
    function: str


class Trace:
    def __init__(self, calls: list[Call]) -> None:
        self.calls = calls
        self.functions = len({(call.file, call.function) for call in calls})
        self.files = len({call.file for call in calls})
        self.changes = sum(a.file != b.file for a, b in pairwise(calls))

    def __str__(self) -> str:
        figures = f"{self.functions} functions, {self.files} files, {self.changes} changes of file"
        lines, before = [], ""
        for call in self.calls:
            lines.append(f"  {call.file if call.file != before else '':44} {call.function}")
            before = call.file
        return "\n".join([figures, *lines])


class TracedIngest:
    def __init__(self, folder: Path) -> None:
        self._switch, self._calls = folder / "switch", folder / "calls"
        self._switch.write_bytes(b"\0")
        self._calls.touch()
        self.stack = Stack()
        script = str(Path(__file__).parent / "traced_ingest.py")
        process = self.stack.launch("ingest", [script, str(self._switch), str(self._calls)])
        wait_until(lambda: answers(self.stack.mqtt) or process.poll() is not None, 60, "ingest to listen")
        assert process.poll() is None, self.stack.log("ingest")

    def trace(self, client: Client, topic: str) -> Trace:
        before = len(self._calls.read_text().splitlines())
        self._set_switch(b"\1")
        assert client.publish(topic, b"21.5") == 0
        self._set_switch(b"\0")
        lines = self._calls.read_text().splitlines()[before:]
        return Trace(list(from_bytes_to_puback([Call(*line.split()) for line in lines])))

    def _set_switch(self, byte: bytes) -> None:
        with self._switch.open("r+b") as file:
            file.write(byte)


def from_bytes_to_puback(calls: list[Call]) -> Iterator[Call]:
    """Without what a thread of the store does once it has sent the answer."""
    begin = next(place for place, call in enumerate(calls) if call.function == "Connection.data_received")
    end = max(place for place, call in enumerate(calls) if call.file == CONNECTION)
    answered = set()
    for call in calls[begin : end + 1]:
        if call.function == "sendall":
            answered.add(call.thread)
        elif call.thread not in answered or call.process == calls[begin].process:
            yield call


@pytest.fixture
def traced(account: Account, tmp_path: Path) -> Iterator[TracedIngest]:
    ingest = TracedIngest(tmp_path)
    yield ingest
    ingest.stack.stop()


def test_one_datapoint_is_a_short_walk(
    traced: TracedIngest, account: Account, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of a known device, with a known tag, at QoS 1."""
    account.device("d1")
    endpoint = Endpoint(traced.stack.mqtt, account.user_id, account.device_token.encode())
    topic = f"{account.device_token}/json/d1/temperature"
    traces: dict[Version, Trace] = {}
    for version in (V311, V5):
        client = Client(endpoint, f"c{version}", version)
        client.connect()
        with closing(client.wire):
            client.publish(topic, b"21.5")
            client.publish(topic, b"21.5")
            # What comes in between by the clock (a status, the sweep) can only make it longer.
            traces[version] = min(
                (traced.trace(client, topic) for _ in range(TRIES)),
                key=lambda trace: (len(trace.calls), trace.changes),
            )
    with capsys.disabled():
        for version, trace in traces.items():
            print(f"\nMQTT {version.name}: {str(trace).splitlines()[0]}", end="")  # noqa: T201
    for trace in traces.values():
        assert trace.functions <= MAX_FUNCTIONS, str(trace)
        assert trace.files <= MAX_FILES, str(trace)
        assert trace.changes <= MAX_CHANGES, str(trace)
