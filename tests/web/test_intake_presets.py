"""Programs that post what they like, against the real web server: each by its preset."""

import urllib.error
import urllib.request
from base64 import b64encode
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pytest
from stack import Stack
from support import Account

from thingscale.intakes.actions import create_intake
from thingscale.intakes.presets import presets, sample_of

pytestmark = pytest.mark.e2e

PAYLOADS = Path(__file__).parents[1] / "intakes" / "payloads"
BY_HTTP = [name for name, preset in presets().items() if "http" in preset.ways]


def post(url: str, body: bytes, headers: dict[str, str]) -> tuple[int, bytes]:
    request = urllib.request.Request(url, body, headers, method="POST")
    try:
        with urllib.request.urlopen(request, timeout=60) as response:
            return response.status, response.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


def messages_of(name: str) -> list[Any]:
    """Those that the program posts: they have no topic, or one level, which stands behind the key."""
    written = [orjson.loads(path.read_bytes()) for path in sorted((PAYLOADS / name).glob("*.json"))]
    return [message for message in written if "/" not in message.get("topic", "")]


@pytest.mark.parametrize("name", BY_HTTP)
def test_what_a_program_posts_is_stored(
    name: str, stack: Callable[..., Stack], account: Account, outsider: Account
) -> None:
    url = stack("web").url("")
    _, key = create_intake(account.user, {"name": name, "format": "mapped", "preset": name})
    messages = messages_of(name)
    assert messages
    expected: dict[tuple[Any, ...], Any] = {}
    for message in messages:
        for device_id, tag, value, at in message["readings"]:
            expected[device_id, tag, at, orjson.dumps(value, option=orjson.OPT_SORT_KEYS)] = value
    for device_id in {device_id for device_id, *_ in expected}:
        account.device(device_id)
    for message in messages:
        sample = sample_of(message)
        path = f"/in/{key}/{sample.topic}" if sample.topic else f"/in/{key}"
        status, answer = post(url + path, sample.body, sample.headers)
        assert status == 200, answer
        assert answer == (presets()[name].answer.encode() or b'{"result":"OK"}')
    assert len(account.stored()) == len(expected)
    assert outsider.stored() == []


def test_netdata_has_a_path_of_its_own(
    stack: Callable[..., Stack], account: Account, outsider: Account
) -> None:
    """It can be given a user and a password, and no path."""
    url = stack("web").url("/api/put")
    sample = presets()["netdata"].sample
    for owner in (account, outsider):
        owner.device("leeloo")

    def basic(token: str) -> dict[str, str]:
        return {"Authorization": "Basic " + b64encode(f"U000001:{token}".encode()).decode()}

    for _ in range(2):
        assert post(url, sample.body, basic(account.device_token))[0] == 200
    assert account.stored() == [("3.1", "system.cpu/user")]
    assert post(url, sample.body, basic("no-token"))[0] == 401
    assert post(url, sample.body, {})[0] == 401
    assert post(url, sample.body, basic(account.device_token) | {"Origin": "https://evil.example"})[0] == 403
    assert outsider.stored() == []
