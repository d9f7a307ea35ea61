"""Large bodies at the connector are read aside: nobody else waits for them."""

import asyncio
import gzip
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import cramjam
import pytest
from raw_http import connected, request
from stack import Stack
from support import Account

from ingest.connectors import large_bodies
from ingest.connectors.large_bodies import LargeBodies
from thingscale.intakes.actions import create_intake
from thingscale.web.fair_semaphore import Busy
from thingscale.web.fair_threads import ClientLeft


def array(size: int) -> bytes:
    """Of so many bytes, or a little less."""
    return b"[" + b",".join([b'{"value": "%s"}' % (b"x" * 500)] * (size // 516)) + b"]"


@pytest.fixture(scope="module")
def _slow(django_db_setup: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    path = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    go_on = tmp_path_factory.mktemp("slow") / "go-on"
    running = Stack(DJANGO_SETTINGS_MODULE="slow_bodies_settings", PYTHONPATH=path, GO_ON=str(go_on))
    yield running
    running.stop()


@pytest.fixture
def slow(_slow: Stack, account: Account, outsider: Account) -> Stack:
    account.device("d1")
    outsider.device("d1")
    _slow.ensure("web")
    return _slow


@pytest.fixture
def go_on(slow: Stack) -> Iterator[Path]:
    """Large bodies are read to their end once it is there."""
    path = Path(slow.environment["GO_ON"])
    yield path
    path.unlink(missing_ok=True)


def post(account: Account, body: bytes, **headers: str) -> bytes:
    own = {"X-DEVICETOKEN": account.device_token, "X-DEVICEID": "d1"}
    return request(
        "POST", "/post_v2/", own | {name.replace("_", "-"): text for name, text in headers.items()}, body
    )


@pytest.mark.e2e
@pytest.mark.parametrize("what", ["1 MiB", "70 kB", "compressed"])
def test_b1_nobody_waits_while_a_large_body_is_read(
    slow: Stack, go_on: Path, account: Account, outsider: Account, what: str
) -> None:
    """The first message with a token goes through ASGI, the second does not."""
    packed = what == "compressed"
    body = gzip.compress(array(2**20)) if packed else array({"1 MiB": 2**20, "70 kB": 70_000}[what])
    assert len(body) < 20_000 if packed else len(body) > 65_536
    large = post(account, body, **({"Content_Encoding": "gzip"} if packed else {}))
    quick = (request("GET", "/healthz"), post(outsider, b"1"))
    with connected(slow.http) as other, connected(slow.http) as sender:
        other.send(quick[1])
        assert other.answer().status == 200
        for _ in range(2):
            go_on.unlink(missing_ok=True)
            sender.send(large)
            for asked in quick * 5:
                other.send(asked)
                assert other.answer().status == 200
            go_on.touch()
            assert sender.answer().status == 200
    assert len(account.stored()) == 2 * body.count(b"value") or packed


@pytest.mark.e2e
@pytest.mark.parametrize("encoding", [{}, {"Content-Encoding": "snappy"}], ids=["unsaid", "snappy"])
def test_nobody_waits_while_a_remote_write_is_unpacked_which_may_become_much(
    slow: Stack, go_on: Path, account: Account, outsider: Account, encoding: dict[str, str]
) -> None:
    _, key = create_intake(account.user, {"name": "p", "format": "prometheus"})
    headers = {"Content-Type": "application/x-protobuf", **encoding}
    with connected(slow.http) as other, connected(slow.http) as sender:
        sender.send(
            request("POST", f"/in/{key}/api/v1/write", headers, bytes(cramjam.snappy.compress_raw(b"")))
        )
        for asked in (request("GET", "/healthz"), post(outsider, b"1")) * 5:
            other.send(asked)
            assert other.answer().status == 200
        go_on.touch()
        assert sender.answer().status == 204


@pytest.mark.e2e
def test_messages_behind_each_other_stay_in_order_whatever_their_size(
    slow: Stack, go_on: Path, account: Account
) -> None:
    large = [b"[" + b",".join([b'{"value": "%d %s"}' % (turn, b"x" * 500)] * 140) + b"]" for turn in (0, 2)]
    with connected(slow.http) as client:
        client.send(
            post(account, b"0") + post(account, large[0]) + post(account, b"1") + post(account, large[1])
        )
        go_on.touch()
        assert [client.answer().status for _ in range(4)] == [200] * 4
    found = [value[:3].strip('"x ') for value, _ in account.stored()]
    assert found == ["0", *["0"] * 140, "1", *["2"] * 140]


def test_large_bodies_are_bounded_by_account_and_in_all_and_take_turns(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(large_bodies, "MAX_BYTES_PER_ACCOUNT", 300)
    monkeypatch.setattr(large_bodies, "MAX_BYTES", 500)
    go_on, order = threading.Event(), list[bytes]()

    def read(body: bytes) -> bytes:
        assert go_on.wait(60)
        order.append(body[:1])
        return body[:1]

    async def run() -> None:
        large = LargeBodies()
        never: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        async def asked(user: int, body: bytes) -> bytes:
            return await large.read(user, body, never, read, 30)

        mine = [asyncio.create_task(asked(1, letter * 100)) for letter in (b"a", b"b", b"c")]
        await asyncio.sleep(0)
        for user, body in ((1, b"d"), (1, b"d" * 100), (3, b"e" * 201)):
            with pytest.raises(Busy):
                await asked(user, body)
        theirs = asyncio.create_task(asked(2, b"f" * 200))
        await asyncio.sleep(0)
        go_on.set()
        assert await asyncio.gather(*mine, theirs) == [b"a", b"b", b"c", b"f"]
        assert order.index(b"f") <= 2  # not behind all of the other's
        assert await asked(1, b"d" * 300) == b"d"
        large.stop()

    asyncio.run(run())


def test_a_large_body_that_was_given_up_is_not_read() -> None:
    go_on, read_bodies = threading.Event(), list[bytes]()

    def read(body: bytes) -> None:
        assert go_on.wait(60)
        read_bodies.append(body)

    async def run() -> None:
        large = LargeBodies()
        loop = asyncio.get_running_loop()
        left = [loop.create_future() for _ in range(2)]
        reading, waiting = (
            asyncio.create_task(large.read(1, body, left[place], read, 30))
            for place, body in enumerate((b"first", b"second"))
        )
        await asyncio.sleep(0)
        left[1].set_result(None)
        with pytest.raises(ClientLeft):
            await waiting
        go_on.set()
        await reading
        go_on.clear()
        reading = asyncio.create_task(large.read(1, b"third", left[0], read, 30))
        await asyncio.sleep(0)
        with pytest.raises(Busy):
            await large.read(1, b"late", loop.create_future(), read, 0.01)
        go_on.set()
        await reading
        large.stop()

    asyncio.run(run())
    assert read_bodies == [b"first", b"third"]
