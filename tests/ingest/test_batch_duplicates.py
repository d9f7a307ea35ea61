"""Sent again, stored once."""

from collections.abc import Callable
from typing import Any

import pytest
from feeding import DUPLICATE, STORED, Feed, another_transaction, ask, message, values
from pytest_django import Settings
from stack import wait_until
from support import Account

from ingest.message import RawMessage
from ingest.service import connect
from thingscale.lib.clock import now_us
from thingscale.streams.exactly_once import commit_log


@pytest.fixture
def known(account: Account) -> Account:
    account.device("d1")
    return account


def numbered(account: Account, number: int, **fields: Any) -> RawMessage:
    return message(account, str(number), dedupe=number, connected_at=1.0, **fields)


def again(account: Account, number: int, **fields: Any) -> RawMessage:
    return numbered(account, number, repeated=True, **fields)


def test_of_an_earlier_batch(feed: Feed, known: Account) -> None:
    feed(numbered(known, 1))
    assert feed(again(known, 1), again(known, 2)) == [DUPLICATE, STORED]
    assert values(known) == ["1", "2"]


@pytest.mark.parametrize("cached", [False, True])
def test_of_the_same_batch(feed: Feed, known: Account, cached: bool) -> None:
    if cached:
        feed(message(known, "0"))
    sent = [numbered(known, 1), again(known, 1), again(known, 2), again(known, 2), numbered(known, 3)]
    assert feed(*sent) == [STORED, DUPLICATE, STORED, DUPLICATE, STORED]
    assert values(known)[-3:] == ["1", "2", "3"]


def test_of_another_process(make_feed: Callable[..., Feed], known: Account) -> None:
    make_feed()(numbered(known, 1))
    assert make_feed()(again(known, 1)) == [DUPLICATE]
    assert values(known) == ["1"]


def test_one_process_waits_for_what_another_is_about_to_commit(
    make_feed: Callable[..., Feed], known: Account, caplog: pytest.LogCaptureFixture
) -> None:
    """The first copy is written and not yet committed: it waits for the lock on its totals, say."""
    first, second = make_feed(), make_feed()
    for each in (first, second):
        each(message(known, "0"))
    with another_transaction("SELECT FROM streams_latest FOR UPDATE"):
        one = first.send(numbered(known, 1))
        wait_until(
            lambda: ask("SELECT count(*) FROM pg_locks WHERE NOT granted"), what="the first copy to wait"
        )
        other = second.send(again(known, 1))
        wait_until(
            lambda: ask("SELECT count(DISTINCT pid) FROM pg_locks WHERE NOT granted") == 2,
            what="the second copy to wait",
        )
    assert one.result(60) + other.result(60) == [STORED, DUPLICATE]
    assert values(known) == ["0", "0", "1"]
    assert "DeadlockDetected" not in caplog.text


def test_alike_without_a_mark_is_stored_each_time(feed: Feed, known: Account) -> None:
    """A dedupe key is a hash of packet id and payload, which come round again."""
    assert feed(numbered(known, 1), numbered(known, 1)) == [STORED, STORED]
    assert feed(numbered(known, 1)) == [STORED]
    assert values(known) == ["1"] * 3


def test_in_another_channel_it_is_another_datapoint(feed: Feed, known: Account) -> None:
    known.device("d2", 1)
    feed(numbered(known, 1))
    assert feed(again(known, 1, device_id="d2")) == [STORED]


def test_marked_without_a_key_it_is_stored(feed: Feed, known: Account) -> None:
    assert feed(message(known, "1", repeated=True), message(known, "1", repeated=True)) == [STORED, STORED]


def test_the_window_has_an_end(feed: Feed, known: Account, settings: Settings) -> None:
    settings.DEDUPE_SECONDS = 60
    feed(numbered(known, 1, received_at=now_us() - 120_000_000), numbered(known, 2, received_at=now_us() - 1))
    assert feed(again(known, 1), again(known, 2)) == [STORED, DUPLICATE]


def test_the_journal_says_which_batch_was_committed(make_feed: Callable[..., Feed], known: Account) -> None:
    feed = make_feed()
    feed(message(known, "1"))
    feed(message(known, "2"))
    writer = ask("SELECT writer FROM streams_journal")
    with connect() as reader:
        assert [commit_log.was_committed(reader, writer, batch) for batch in (1, 2, 3)] == [True, True, False]
    feed.stop()
    assert ask("SELECT count(*) FROM streams_journal") == 0
