"""Places that many want at once, and whose they are."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from thingscale.web import callers
from thingscale.web.callers import Callers, Credential, address, find_credential
from thingscale.web.fair_semaphore import Busy, FairSemaphore


def run(test: Callable[[], Awaitable[None]]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(60):
            await test()

    asyncio.run(bounded())


def nobody_leaves() -> "asyncio.Future[None]":
    return asyncio.get_running_loop().create_future()


def test_b2_an_account_has_its_share_and_the_others_come_first() -> None:
    async def test() -> None:
        semaphore, order = FairSemaphore(3, 2, waiting=10, waiting_per_account=5), []

        async def take(account: str) -> None:
            assert await semaphore.acquire(account, 5, nobody_leaves())
            order.append(account)

        tasks = [asyncio.ensure_future(take("a")) for _ in range(5)]
        await asyncio.sleep(0)
        assert order == ["a", "a"]
        tasks += [asyncio.ensure_future(take("b")) for _ in range(2)]
        await asyncio.sleep(0)
        assert order == ["a", "a", "b"]
        for account in ("a", "a", "b", "a", "b", "a", "a"):
            semaphore.release(account)
            await asyncio.sleep(0)
            await asyncio.sleep(0)
        assert sorted(order) == ["a"] * 5 + ["b"] * 2
        await asyncio.gather(*tasks)
        assert not semaphore.taken

    run(test)


def test_b2_who_waits_too_long_or_behind_too_many_is_refused() -> None:
    async def test() -> None:
        semaphore = FairSemaphore(1, 1, waiting=3, waiting_per_account=2)
        assert await semaphore.acquire("a", 5, nobody_leaves())
        waiting = [asyncio.ensure_future(semaphore.acquire("a", 0.2, nobody_leaves())) for _ in range(2)]
        await asyncio.sleep(0)
        with pytest.raises(Busy):
            await semaphore.acquire("a", 5, nobody_leaves())
        other = asyncio.ensure_future(semaphore.acquire("b", 5, nobody_leaves()))
        await asyncio.sleep(0)
        with pytest.raises(Busy):
            await semaphore.acquire("c", 5, nobody_leaves())
        for each in waiting:
            with pytest.raises(Busy):
                await each
        semaphore.release("a")
        assert await other
        semaphore.release("b")
        assert await semaphore.acquire("a", 5, nobody_leaves())

    run(test)


@pytest.mark.parametrize("cancelled", [True, False])
def test_b2_what_a_client_has_left_does_not_start(cancelled: bool) -> None:
    async def test() -> None:
        semaphore, left = FairSemaphore(1, 1, waiting=3, waiting_per_account=2), nobody_leaves()
        assert await semaphore.acquire("a", 5, nobody_leaves())
        waiting = asyncio.ensure_future(semaphore.acquire("a", 5, left))
        await asyncio.sleep(0)
        if cancelled:
            waiting.cancel()
            await asyncio.gather(waiting, return_exceptions=True)
        else:
            left.set_result(None)
            assert await waiting is False
        semaphore.release("a")
        assert await semaphore.acquire("b", 5, nobody_leaves())  # nobody holds the place
        left_before = nobody_leaves()
        left_before.set_result(None)
        assert await semaphore.acquire("b", 5, left_before) is False

    run(test)


def scope(client: str = "10.0.0.1", **headers: str) -> dict[str, Any]:
    encoded = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    return {"headers": encoded, "client": (client, 1)}


@pytest.mark.parametrize(
    ("headers", "found"),
    [
        ({"x_apitoken": "ABC "}, Credential("token", "ABC")),
        ({"authorization": "bearer ABC"}, Credential("token", "ABC")),
        ({"authorization": "Basic ABC"}, None),
        ({"cookie": "theme=dark; sessionid=xyz"}, Credential("session", "xyz")),
        ({"cookie": "notsessionid=xyz"}, None),
        ({}, None),
    ],
)
def test_b2_who_calls(headers: dict[str, str], found: Credential | None) -> None:
    assert find_credential(scope(**headers), "sessionid") == found


@pytest.mark.parametrize(
    ("client", "found"),
    [
        ("10.0.0.1", "address 10.0.0.1"),
        ("::ffff:10.0.0.1", "address 10.0.0.1"),
        ("2001:db8::1", "address 2001:db8::/64"),
        ("2001:db8::2:3", "address 2001:db8::/64"),
        ("", "address unknown"),
    ],
)
def test_b2_requests_of_nobody_share_by_address(client: str, found: str) -> None:
    assert address(scope(client)) == found
    assert address({"headers": [], "client": None}) == "address unknown"


def test_b2_many_requests_of_a_new_token_look_it_up_once() -> None:
    async def test() -> None:
        asked = []

        async def look_up(identify: Any, credential: Credential, where: str) -> int | None:
            asked.append((credential.text, where))
            await asyncio.sleep(0)
            found: int | None = identify(credential)
            return found

        known = Callers(lambda credential: 7 if credential.text == "A" else None, look_up, "sessionid")
        found = await asyncio.gather(*[known.account(scope(x_apitoken="A")) for _ in range(5)])
        assert found == ["account 7"] * 5
        assert await known.account(scope(x_apitoken="A")) == "account 7"
        assert await known.account(scope(x_apitoken="B")) == "address 10.0.0.1"
        assert asked == [("A", "address 10.0.0.1"), ("B", "address 10.0.0.1")]

    run(test)


def test_who_has_ended_a_token_has_their_share_alone_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else whoever has found it takes the account's places for as long as requests with it come."""

    async def test() -> None:
        tokens = {"A": 7}

        async def look_up(identify: Any, credential: Credential, where: str) -> int | None:
            found: int | None = identify(credential)
            return found

        clock = [0.0]
        monkeypatch.setattr(callers, "monotonic", lambda: clock[0])
        known = callers.Callers(lambda credential: tokens.get(credential.text), look_up, "sessionid")
        assert await known.account(scope(x_apitoken="A")) == "account 7"
        assert await known.account(scope(x_apitoken="B")) == "address 10.0.0.1"
        tokens = {"B": 7}
        for seconds in (20.0, 40.0, 59.0):
            clock[0] = seconds
            assert await known.account(scope(x_apitoken="A")) == "account 7"
        clock[0] = 61.0
        assert await known.account(scope(x_apitoken="A")) == "address 10.0.0.1"
        assert await known.account(scope(x_apitoken="B")) == "account 7"

    run(test)


def test_b4_made_up_credentials_push_out_no_accounts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tokens or cookies, which anybody can make up: the accounts' are still known, and look nothing up."""

    async def test() -> None:
        asked = []

        async def look_up(identify: Any, credential: Credential, where: str) -> int | None:
            asked.append(credential.text)
            found: int | None = identify(credential)
            return found

        monkeypatch.setattr(callers, "MAX_KNOWN", 10)
        known = Callers(lambda credential: 7 if credential.text in "AB" else None, look_up, "sessionid")
        mine = scope(x_apitoken="A"), scope(cookie="sessionid=B")
        for each in mine:
            assert await known.account(each) == "account 7"
        for number in range(50):
            assert await known.account(scope(x_apitoken=f"made up {number}")) == "address 10.0.0.1"
            assert await known.account(scope(cookie=f"sessionid=made up {number}")) == "address 10.0.0.1"
        assert len(asked) == 102
        for each in mine:
            assert await known.account(each) == "account 7"
        assert len(asked) == 102
        await known.account(scope(x_apitoken="made up 49"))
        assert len(asked) == 102  # the newest are remembered, too
        await known.account(scope(x_apitoken="made up 0"))
        assert len(asked) == 103

    run(test)


def test_b4_what_is_remembered_of_credentials_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test() -> None:
        async def look_up(identify: Any, credential: Credential, where: str) -> int | None:
            found: int | None = identify(credential)
            return found

        monkeypatch.setattr(callers, "MAX_KNOWN", 10)
        known = Callers(lambda credential: len(credential.text) % 2 or None, look_up, "sessionid")
        for number in range(200):
            await known.account(scope(x_apitoken=str(number)))
        assert (len(known._accounts), len(known._nobodys)) == (10, 10)

    run(test)
