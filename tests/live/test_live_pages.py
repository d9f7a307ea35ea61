"""From the stores to the publish function: who is told, and what becomes of it without Valkey."""

import asyncio
from typing import Any

import pytest
from django.db import transaction
from recorder import Recorder
from redis.exceptions import RedisError
from support import Account

from thingscale.lib.clock import now_us
from thingscale.lib.ids import ChannelPk
from thingscale.lib.points import Points
from thingscale.processes import live_feed
from thingscale.processes.live_feed import LiveFeed, MessageEvent
from thingscale.streams.actions import datapoints
from thingscale.streams.actions.datapoints import store_points


@pytest.fixture
def pages(monkeypatch: pytest.MonkeyPatch) -> Recorder:
    recorder = Recorder()
    monkeypatch.setattr(datapoints, "LIVE_FEED", recorder)
    return recorder


def test_a_rest_write_is_told_after_its_commit(pages: Recorder, account: Account) -> None:
    pages.watched = frozenset({account.user.pk})
    channel = account.channel()
    with transaction.atomic():
        store_points(channel, Points.of([("a", b"1", now_us()), (None, b"2", now_us())]))
        assert pages.heard == []
    assert pages.short == [("stored", None, True, b"1"), ("stored", None, True, b"2")]
    assert (pages.heard[0].kind, pages.heard[0].tag, pages.heard[0].device) == ("rest", "a", None)


def test_a_rest_write_of_somebody_who_has_no_page_open_is_not_told(pages: Recorder, account: Account) -> None:
    pages.watched = frozenset()
    store_points(account.channel(), Points.of([(None, b"2", now_us())]))
    assert pages.heard == []


@pytest.fixture
def published(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The users to whom something was sent."""
    users: list[int] = []

    async def publish(user: int, update: dict[str, Any]) -> None:
        users.append(user)

    monkeypatch.setattr(live_feed, "send_update", publish)
    monkeypatch.setattr(LiveFeed, "start", lambda pages: None)
    return users


def tell(pages: LiveFeed, user: int) -> None:
    pages.publish(
        user, {"stored": 1}, [MessageEvent(now_us(), "d1", None, "json", "stored", None, ChannelPk(1), b"1")]
    )


def test_only_those_who_watch_are_sent_an_update(
    published: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live_feed, "watched_users", lambda: frozenset({1}))
    pages = LiveFeed()
    assert pages.has_listeners(2)  # for all one knows
    for user in (2, 1, 1):
        tell(pages, user)
    with asyncio.Runner() as runner:
        pages.round(runner)
        pages.round(runner)
    assert published == [1]
    assert (pages.has_listeners(1), pages.has_listeners(2)) == (True, False)


def test_without_valkey_nobody_watches_and_one_line_says_so(
    published: list[int], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def away() -> frozenset[int]:
        raise RedisError

    pages = LiveFeed()
    with asyncio.Runner() as runner:
        monkeypatch.setattr(live_feed, "watched_users", away)
        for _ in range(3):
            tell(pages, 1)
            pages.round(runner)
        assert (pages.watched, pages.has_listeners(1)) == (frozenset(), False)
        assert [record.module for record in caplog.records] == ["live_feed"]
        monkeypatch.setattr(live_feed, "watched_users", lambda: frozenset({1}))
        pages.round(runner)
        assert published == []
        tell(pages, 1)
        pages.round(runner)
    assert published == [1]


def test_a_mark_is_good_for_half_a_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    live_feed.subscribe(10**9)
    assert 10**9 in live_feed.watched_users()
    later = now_us() + (live_feed.MARK_SECONDS + 1) * 1_000_000
    monkeypatch.setattr(live_feed, "now_us", lambda: later)
    assert 10**9 not in live_feed.watched_users()
