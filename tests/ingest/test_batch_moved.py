"""A client moves to another process, which gets again what the first one still has (decision 0016)."""

import threading
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any

import pytest
from feeding import (
    DUPLICATE,
    SECONDS,
    STORED,
    Feed,
    another_transaction,
    ask,
    held,
    held_values,
    message,
    values,
)
from pytest_django import Settings
from stack import wait_until
from support import Account

from ingest.message import Outcome, RawMessage, Reason
from ingest.service import connect
from thingscale.streams.actions import configure_device
from thingscale.streams.exactly_once import redeliveries
from thingscale.streams.tasks import drop_expired

Feeder = Callable[..., Feed]
KEY = 7


@pytest.fixture
def known(account: Account) -> Account:
    account.device("d1")
    return account


@pytest.fixture
def both(make_feed: Feeder, known: Account) -> tuple[Feed, Feed]:
    """Two processes that have written before."""
    feeds = make_feed(), make_feed()
    for feed in feeds:
        feed(message(known, "0"))
    return feeds


def sent(account: Account, **fields: Any) -> RawMessage:
    """On a connection that has long been open."""
    return message(account, "1", **{"dedupe": KEY, "connected_at": 1.0, **fields})


def again(account: Account, **fields: Any) -> RawMessage:
    return sent(account, repeated=True, connected_at=time.monotonic(), **fields)


@contextmanager
def busy(feed: Feed, account: Account) -> Iterator[None]:
    """Its writer is at work between two batches: what is sent meanwhile stays in the queue."""
    reached, gate = threading.Event(), threading.Event()

    def hold(outcomes: list[Outcome]) -> None:
        reached.set()
        gate.wait(SECONDS)

    feed.pipeline.accept([message(account, "busy", "other")], hold)
    assert reached.wait(SECONDS)
    try:
        yield
    finally:
        gate.set()


def announce(*keys: int) -> None:
    """As a process does that dies right after it."""
    with connect() as connection:
        redeliveries.announce(connection, uuid.uuid4(), keys)


@pytest.mark.parametrize("tag", [None, "new"])
def test_what_is_still_queued_is_not_stored_again(
    both: tuple[Feed, Feed], known: Account, tag: str | None
) -> None:
    first, second = both
    with busy(first, known):
        waiting = first.send(sent(known, tag=tag))
        assert second(again(known, tag=tag)) == [STORED]
    assert waiting.result(SECONDS) == [DUPLICATE]
    assert values(known) == ["0", "0", "1"]


def test_what_is_still_queued_in_a_process_that_has_not_written_yet(
    make_feed: Feeder, known: Account
) -> None:
    with another_transaction("LOCK TABLE streams_journal"):  # the writer can't even enter its name
        first = make_feed()
        waiting = first.send(sent(known))
        wait_until(lambda: ask("SELECT count(*) FROM pg_locks WHERE NOT granted"), what="the writer to wait")
        other = make_feed().send(again(known))
    outcomes = waiting.result(SECONDS) + other.result(SECONDS)
    assert sorted(outcomes) == [DUPLICATE, STORED]
    assert values(known) == ["1"]


def test_it_is_announced_before_the_other_process_begins_to_write(make_feed: Feeder, known: Account) -> None:
    feed = make_feed()  # connects with its first batch
    announce(KEY)
    make_feed()(again(known))
    assert feed(sent(known)) == [DUPLICATE]


@pytest.mark.parametrize("tag", [None, "new"])
def test_it_is_announced_while_an_idle_process_has_no_row(
    both: tuple[Feed, Feed], known: Account, tag: str | None
) -> None:
    """Nothing was stored for more than a week, in one statement or in steps then."""
    first, second = both
    ask("UPDATE streams_journal SET at = at - interval '8 days'")
    drop_expired()
    assert ask("SELECT count(*) FROM streams_journal") == 0
    assert second(again(known, tag=tag)) == [STORED]
    assert first(sent(known, tag=tag)) == [DUPLICATE]
    assert ask("SELECT count(*) FROM streams_journal") == 2
    assert values(known) == ["0", "0", "1"]


def test_what_was_announced_and_not_stored_is_stored(both: tuple[Feed, Feed], known: Account) -> None:
    first, second = both
    announce(KEY)
    assert first(sent(known)) == [STORED]
    assert second(again(known)) == [DUPLICATE]
    assert values(known)[2:] == ["1"]


def test_a_held_message_is_held_once(make_feed: Feeder, account: Account) -> None:
    device = account.device("d1", None)
    first, second = make_feed(), make_feed()
    with busy(first, account):
        waiting = first.send(sent(account))
        assert second(again(account)) == [held(Reason.NO_MAPPED_CH)]
    assert waiting.result(SECONDS) == [held(Reason.NO_MAPPED_CH)]
    assert held_values(device) == [1]


def test_what_was_held_elsewhere_and_is_stored_by_now(make_feed: Feeder, account: Account) -> None:
    device = account.device("d1", None)
    first, second = make_feed(), make_feed()
    with busy(first, account):
        waiting = first.send(sent(account))
        second(again(account))
        configure_device(device, {"mapped_channel": account.channel()})
    assert waiting.result(SECONDS) == [DUPLICATE]
    assert values(account) == ["1"]


def test_alike_on_a_connection_that_began_later_is_another_message(
    both: tuple[Feed, Feed], known: Account
) -> None:
    """A client that counts its packets from 1 after each reconnect, and says the same again."""
    first, second = both
    second(again(known))
    assert first(sent(known, connected_at=time.monotonic())) == [STORED]
    assert values(known)[2:] == ["1", "1"]


def test_a_process_is_not_told_what_it_got_itself(both: tuple[Feed, Feed], known: Account) -> None:
    """What comes on a connection after its repetition is another message."""
    _, second = both
    assert second(again(known)) == [STORED]
    assert second(sent(known)) == [STORED]


def test_one_repetition_answers_for_one_message(both: tuple[Feed, Feed], known: Account) -> None:
    first, second = both
    second(again(known))
    assert first(sent(known)) == [DUPLICATE]
    assert first(sent(known)) == [STORED]


def test_after_an_hour_it_is_forgotten(both: tuple[Feed, Feed], known: Account, settings: Settings) -> None:
    first, second = both
    second(again(known))
    first(message(known, "2"))  # and so has read of it
    settings.DEDUPE_SECONDS = 0
    drop_expired()
    assert ask("SELECT count(*) FROM streams_repeated") == 0
    assert first(sent(known)) == [STORED]
    assert first.pipeline._redeliveries.times == {}


def test_the_oldest_of_too_many_are_forgotten(
    both: tuple[Feed, Feed], known: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redeliveries, "MOST", 10)
    first, _ = both
    for start in range(0, 40, 4):
        announce(*range(start, start + 4))
        first(message(known, "2"))
        assert len(first.pipeline._redeliveries.times) <= 10
    assert 39 in first.pipeline._redeliveries.times


def test_a_post_with_a_key_is_not_announced(both: tuple[Feed, Feed], known: Account) -> None:
    """Each copy of it is looked up, under the lock of its device."""
    first, second = both
    posted = message(known, "1", dedupe=KEY, repeated=True)
    answers: list[Future[list[Outcome]]] = []
    with another_transaction("SELECT FROM devices_device FOR UPDATE"):
        answers += [first.send(posted), second.send(posted)]
        wait_until(
            lambda: ask("SELECT count(DISTINCT pid) FROM pg_locks WHERE NOT granted") == 2,
            what="both to wait",
        )
    assert sorted(answer.result(SECONDS)[0] for answer in answers) == [DUPLICATE, STORED]
    assert ask("SELECT count(*) FROM streams_repeated") == 0
