"""What is remembered for accounts: bounded in all, and by account."""

import pytest

from thingscale.lib.fair_cache import FairCache


def test_an_entry_is_counted_once() -> None:
    cache: FairCache[str, int] = FairCache(10)
    cache.update(1, {"a": 1})
    cache.update(1, {"a": 2, "b": 3})
    assert (len(cache), cache.get(1, "a"), cache.get(2, "a")) == (2, 2, None)
    cache.forget(1, "a")
    cache.forget(1, "nothing")
    cache.forget(9, "a")
    assert (len(cache), cache.get(1, "a"), cache.get(1, "b")) == (1, None, 3)
    cache.forget_account(1)
    cache.forget_account(1)
    assert (len(cache), cache.accounts) == (0, {})


def test_b4_whoever_has_most_makes_room_with_its_oldest() -> None:
    cache: FairCache[int, int] = FairCache(100)
    cache.update(1, {number: number for number in range(30)})
    cache.update(2, {number: number for number in range(20)})
    for number in range(10_000):
        cache.update(3, {number: number})
        assert len(cache) <= 100
    assert (len(cache.accounts[1]), len(cache.accounts[2])) == (30, 20)
    assert cache.get(3, 9_999) == 9_999
    assert cache.get(3, 0) is None


def test_b4_more_at_once_than_there_is_room_for() -> None:
    cache: FairCache[int, int] = FairCache(10)
    cache.update(1, {1: 1})
    cache.update(2, {number: number for number in range(1_000)})
    assert (len(cache) <= 10, cache.get(1, 1)) == (True, 1)


def test_b4_many_accounts_with_one_entry_each() -> None:
    cache: FairCache[int, int] = FairCache(10)
    for account in range(100):
        cache.update(account, {0: account})
    assert len(cache) == len(cache.accounts) == 10


def test_b4_room_is_made_seldom_though_accounts_are_many(monkeypatch: pytest.MonkeyPatch) -> None:
    """It looks at all of them: once for each entry would stop whoever remembers it."""
    cache: FairCache[int, int] = FairCache(1_600)
    made: list[int] = []
    make_room = cache._make_room

    def counted() -> None:
        made.append(len(cache))
        make_room()

    monkeypatch.setattr(cache, "_make_room", counted)
    for key in range(10):
        for account in range(800):
            cache.update(account, {key: key})
    assert 0 < len(made) <= 8_000 // 50
    assert len(cache) <= 1_600
    sizes = [len(entries) for entries in cache.accounts.values()]
    assert len(sizes) == 800
    assert max(sizes) <= 3


def test_an_account_without_entries_is_not_there() -> None:
    """Who asks whether there is anything looks at `accounts`, which stays the same mapping."""
    cache: FairCache[str, int] = FairCache(10)
    accounts = cache.accounts
    cache.update(1, {"a": 1, "b": 2})
    cache.forget(1, "a")
    assert accounts == {1: {"b": 2}}
    cache.forget(1, "b")
    assert (accounts, len(cache)) == ({}, 0)
    cache.update(1, {"a": 1})
    cache.clear()
    assert (accounts, len(cache)) == ({}, 0)
    assert cache.accounts is accounts
