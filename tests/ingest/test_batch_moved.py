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
from thingscale.provisioning.actions import configure_device
from thingscale.streams.exactly_once import commit_log, redeliveries
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

    feed.writer.accept([message(account, "busy", "other")], hold)
    assert reached.wait(SECONDS)
    try:
        yield
    finally:
        gate.set()


def announce(account: Account, *keys: int) -> None:
    """As a process does that dies right after it."""
    with connect() as connection:
        redeliveries.announce(connection, uuid.uuid4(), [(account.user.pk, key) for key in keys])


def announce_unnamed(*keys: int) -> None:
    """As a process of a release that does not say whose the keys are."""
    with connect() as connection, connection.transaction(), connection.cursor() as cursor:
        commit_log.lock_all(cursor)
        cursor.execute(
            """WITH r AS (INSERT INTO streams_repeated (writer, keys) VALUES (%s, %s) RETURNING id)
            UPDATE streams_journal SET repeats = r.id FROM r""",
            [uuid.uuid4(), list(keys)],
        )


def known_keys(feed: Feed, account: Account, *keys: int) -> list[int]:
    """Those of them that the process remembers as announced."""
    redeliveries = feed.writer._redeliveries
    return [key for key in keys if redeliveries.announced_at(account.user.pk, key) >= 0]


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
    announce(known, KEY)
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
    announce(known, KEY)
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
    assert not first.writer._redeliveries.known


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keys that a process remembers."""
    monkeypatch.setattr(redeliveries, "MAX_KEYS", 10)


@pytest.mark.usefixtures("few")
def test_the_oldest_of_too_many_are_forgotten(both: tuple[Feed, Feed], known: Account) -> None:
    first, _ = both
    for start in range(0, 40, 4):
        announce(known, *range(start, start + 4))
        first(message(known, "2"))
        assert len(known_keys(first, known, *range(40))) <= 10
    assert known_keys(first, known, 0, 39) == [39]


@pytest.mark.usefixtures("few")
def test_what_is_announced_again_is_among_the_newest(both: tuple[Feed, Feed], known: Account) -> None:
    first, _ = both
    for keys in ([0], range(1, 10), [0], [10]):
        announce(known, *keys)
        first(message(known, "2"))
    assert known_keys(first, known, *range(11)) == [0, 7, 8, 9, 10]


# B4: one account's repetitions push out its own keys

FLOOD = [range(100, 108), range(108, 116), range(116, 140)]  # in announcements of their own


@pytest.mark.usefixtures("few")
def test_b4_a_flood_of_repetitions_leaves_other_accounts_keys_in_memory(
    both: tuple[Feed, Feed], known: Account, outsider: Account
) -> None:
    """Read one by one, as they are announced."""
    first, second = both
    assert second(again(known)) == [STORED]
    for keys in FLOOD:
        announce(outsider, *keys)
        first(message(known, "2"))
    assert known_keys(first, outsider, *FLOOD[-1]) == []  # more at once than there is room for
    assert first(sent(known)) == [DUPLICATE]


@pytest.mark.usefixtures("few")
def test_b4_a_flood_of_repetitions_leaves_other_accounts_keys_to_be_read(
    both: tuple[Feed, Feed], known: Account, outsider: Account
) -> None:
    """All at once, by a process that has not written meanwhile."""
    first, second = both
    assert second(again(known)) == [STORED]
    for keys in FLOOD:
        announce(outsider, *keys)
    assert first(sent(known)) == [DUPLICATE]


@pytest.mark.usefixtures("few")
def test_b4_a_flood_of_repetitions_leaves_other_accounts_keys_to_a_process_that_begins(
    make_feed: Feeder, known: Account, outsider: Account
) -> None:
    late, second = make_feed(), make_feed()
    assert second(again(known)) == [STORED]
    for keys in FLOOD:
        announce(outsider, *keys)
    assert late(sent(known)) == [DUPLICATE]


@pytest.mark.usefixtures("few")
def test_b4_what_a_release_before_announces_is_read_and_pushes_out_no_account(
    both: tuple[Feed, Feed], known: Account, outsider: Account
) -> None:
    first, second = both
    outsider.device("d1")
    for owner in (known, outsider):
        assert second(again(owner)) == [STORED]
    for keys in FLOOD[:2]:
        announce_unnamed(*keys)
    assert first(sent(known), sent(outsider)) == [DUPLICATE, DUPLICATE]
    newest = FLOOD[1][-1]
    assert second(sent(known, dedupe=newest)) == [STORED]  # the process of before stored it
    assert first(sent(known, dedupe=newest)) == [DUPLICATE]
    assert first(sent(known, dedupe=newest)) == [STORED]  # answered for one message


@pytest.mark.usefixtures("few")
def test_b4_accounts_alike_have_room_for_as_many(
    both: tuple[Feed, Feed], known: Account, outsider: Account
) -> None:
    first, _ = both
    for start in range(0, 40, 2):
        announce(known, start, start + 1)
        announce(outsider, 100 + start, 101 + start)
        first(message(known, "2"))
    for owner, newest in ((known, 39), (outsider, 139)):
        found = known_keys(first, owner, *range(200))
        assert newest in found
        assert 2 <= len(found) <= 8


def test_b4_a_key_of_one_account_does_not_answer_for_anothers(
    both: tuple[Feed, Feed], known: Account, outsider: Account
) -> None:
    """Another account may have the same key: by chance, or because it looked for one."""
    first, second = both
    outsider.device("d1")
    first(message(outsider, "0"))
    assert second(again(known)) == [STORED]
    assert first(sent(outsider)) == [STORED]
    assert first(sent(known)) == [DUPLICATE]


def test_b4_two_accounts_repetitions_in_one_batch(
    both: tuple[Feed, Feed], known: Account, outsider: Account
) -> None:
    first, second = both
    outsider.device("d1")
    assert second(again(known), again(outsider), again(known, dedupe=8)) == [STORED] * 3
    assert first(sent(outsider), sent(known, dedupe=8), sent(known)) == [DUPLICATE] * 3


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
