"""Bodies that are still coming: a bound in all, and a share for each account."""

import asyncio
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from select import select

import pytest
from raw_http import connected, request
from stack import Stack
from support import Account

from thingscale.intakes.actions import create_intake
from thingscale.web import body_room, wsgi_threads
from thingscale.web.body_room import FREE, BodyRoom, NoRoom
from thingscale.web.request_body import Message, Receive

SHARE, REST = body_room.MAX_BYTES_PER_ACCOUNT, wsgi_threads.MAX_BYTES_PER_ACCOUNT


def coming(parts: Iterable[bytes], go_on: asyncio.Event) -> Receive:
    """The last part only when it may."""
    left = list(parts)

    async def receive() -> Message:
        if len(left) == 1:
            await go_on.wait()
        return {"type": "http.request", "body": left.pop(0), "more_body": bool(left)}

    return receive


def test_an_account_has_its_share_and_all_have_a_bound() -> None:
    async def run() -> None:
        room, go_on = BodyRoom(), asyncio.Event()
        size = SHARE // 4
        body = [b"x" * (FREE + size - 3), b"end"]

        def read(account: int, most: int = 2 * SHARE) -> "asyncio.Task[bytes | None]":
            return asyncio.create_task(room.read(account, coming(body, go_on), most))

        slow = [read(account) for account in (1, 1, 1, 2, 2, 3, 3, 3, 4, 4, 4, 5, 5, 5)]
        await asyncio.sleep(0)
        assert room.taken.total() == 14 * (size - 3)
        left = read(1)
        await asyncio.sleep(0)
        with pytest.raises(NoRoom):
            await read(1)
        left.cancel()
        with pytest.raises(asyncio.CancelledError):
            await left
        again = [read(1), read(2)]
        await asyncio.sleep(0)
        with pytest.raises(NoRoom):  # as all have
            await read(6)
        small = [b"x" * (FREE - 3), b"end"]
        quick = asyncio.create_task(room.read(1, coming(small, go_on), FREE))
        await asyncio.sleep(0)
        go_on.set()
        assert await quick == b"".join(small)
        assert set(await asyncio.gather(*slow, *again)) == {b"".join(body)}
        assert not room.taken

    asyncio.run(run())


@pytest.mark.e2e
@pytest.mark.parametrize(
    ("path", "size", "share", "status"),
    [
        ("/post_v2/", 2**20, SHARE, 503),
        ("/in/KEY/write", 2**22, SHARE, 503),
        ("/v2/stream/0", 2**24, REST, 429),
    ],
)
def test_bodies_that_do_not_end_take_no_more_than_the_accounts_share(
    stack: Callable[..., Stack],
    account: Account,
    outsider: Account,
    path: str,
    size: int,
    share: int,
    status: int,
) -> None:
    port = stack("web").http
    outsider.device("d1")
    _, key = create_intake(account.user, {"name": "i", "format": "influx"})
    own = {"X-DEVICETOKEN": account.device_token, "X-DEVICEID": "d1", "X-APITOKEN": account.api_token}
    whole = request("POST", path.replace("KEY", key), own, b"x" * size)
    with ExitStack() as connections:
        slow = [connections.enter_context(connected(port)) for _ in range(share // (size - FREE) + 1)]
        for each in slow:
            each.send(whole[:-1])
        found, _, _ = select([each.socket for each in slow], [], [], 60)
        refused = next(each for each in slow if each.socket in found)
        assert refused.answer().status == status
        other = connections.enter_context(connected(port))
        other.send(request("POST", "/post_v2/", own | {"X-DEVICETOKEN": outsider.device_token}, b"1"))
        assert other.answer().status == 200
