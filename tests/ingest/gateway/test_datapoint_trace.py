"""How far a reader has to walk with one datapoint: from its bytes to its PUBACK, through both processes.

The figures may fall. Where one has to rise, something on the way became harder to read: see whether the new
step belongs behind the acknowledgement, or into the function that it was taken out of.
"""

from contextlib import closing
from functools import partial
from pathlib import Path

import pytest
from client import Client, Endpoint
from support import Account
from ways import PAYLOAD, Trace, again, traced_gateway

from ingest.mqtt.packets import V5, V311, Version

MAX_FUNCTIONS = 50
MAX_FILES = 16
MAX_CHANGES = 30  # of file, from one call to the next
TRIES = 20


def test_one_datapoint_is_a_short_walk(
    account: Account, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of a known device, with a known tag, at QoS 1."""
    account.device("d1")
    topic = f"{account.device_token}/json/d1/temperature"
    traces: dict[Version, Trace] = {}
    with traced_gateway(tmp_path) as process:
        endpoint = Endpoint(process.stack.mqtt, account.user_id, account.device_token.encode())
        for version in (V311, V5):
            client = Client(endpoint, f"c{version}", version)
            client.connect()
            with closing(client.wire):
                publish = partial(client.publish, topic, PAYLOAD)
                assert [publish(), publish()] == [0, 0]
                traces[version] = process.way(version.name, again(publish), TRIES).shortest
    with capsys.disabled():
        for version, trace in traces.items():
            print(f"\nMQTT {version.name}: {trace.figures}", end="")  # noqa: T201
    for trace in traces.values():
        assert trace.functions <= MAX_FUNCTIONS, str(trace)
        assert trace.files <= MAX_FILES, str(trace)
        assert trace.changes <= MAX_CHANGES, str(trace)
