"""PostgreSQL away or slow: the queue fills, says so, and is stored later; a drain keeps its time."""

import threading
import time
from collections.abc import Callable

import pytest
from feeding import (
    STORED,
    Feed,
    another_transaction,
    ask,
    database_away,
    message,
    rejected,
    values,
)
from stack import wait_until
from support import Account

from ingest import writer
from ingest.message import Reason
from ingest.writer import QueueFull

LOCK = "SELECT FROM streams_latest FOR UPDATE"


@pytest.fixture
def known(account: Account) -> Account:
    account.device("d1")
    return account


def waiting() -> bool:
    return bool(ask("SELECT count(*) FROM pg_locks WHERE NOT granted"))


def test_it_fills_up_says_so_and_catches_up(make_feed: Callable[..., Feed], known: Account) -> None:
    feed = make_feed(messages=25)
    with database_away():
        answers = [feed.send(message(known, str(number))) for number in range(25)]
        assert feed.writer.full
        with pytest.raises(QueueFull):
            feed.send(message(known, "too much"))
        assert feed.writer.queued == 25
        assert not any(answer.done() for answer in answers)
    assert [answer.result(60) for answer in answers] == [[STORED]] * 25
    wait_until(lambda: not feed.writer.queued, what="room in the queue")
    assert feed(message(known, "25")) == [STORED]
    assert values(known) == [str(number) for number in range(26)]


def test_the_queue_is_bounded_in_bytes_too(make_feed: Callable[..., Feed], known: Account) -> None:
    feed = make_feed(size=1000)
    with database_away():
        answer = feed.send(message(known, '"' + "x" * 600 + '"'), message(known, '"' + "y" * 600 + '"'))
        with pytest.raises(QueueFull):
            feed.send(message(known, "1"))
        assert feed.writer.full
    assert answer.result(60) == [STORED, STORED]


def test_a_drain_stores_everything(feed: Feed, known: Account) -> None:
    answers = [feed.send(*(message(known, "1") for _ in range(10))) for _ in range(100)]
    assert feed.writer.drain(20)
    assert all(answer.done() for answer in answers)
    assert len(values(known)) == 1000
    with pytest.raises(QueueFull):
        feed.send(message(known))


def test_a_drain_with_the_store_away_returns_in_time(feed: Feed, known: Account) -> None:
    with database_away():
        answer = feed.send(message(known, "1"))
        began = time.monotonic()
        assert not feed.writer.drain(0.3)
        assert time.monotonic() - began < 10
    assert not answer.done()
    assert values(known) == []


def test_a_drain_while_a_batch_waits_says_that_it_is_not_stored(
    feed: Feed, known: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "LAST_SECONDS", 0.1)
    feed(message(known, "1"))
    with another_transaction(LOCK):
        answer = feed.send(message(known, "2"))
        wait_until(waiting, what="the writer to wait")
        assert not feed.writer.drain(0.1)
    assert answer.result(60) == [STORED]


def test_cancelled_submissions_are_not_stored(feed: Feed, known: Account) -> None:
    feed(message(known, "1"))
    with another_transaction(LOCK):
        kept = feed.send(message(known, "2"))
        wait_until(waiting, what="the writer to wait")
        gone, submission = feed.submit(message(known, "3"), message(known, "{"))
        last = feed.send(message(known, "4"), message(known, "{"))
        submission.cancelled = True
    assert kept.result(60) == [STORED]
    assert last.result(60) == [STORED, rejected(Reason.BAD_JSON_FORMAT)]
    assert not gone.done()
    assert values(known) == ["1", "2", "4"]
    assert feed.writer.queued == 0


def test_cancelled_while_the_store_is_away_it_is_not_stored_either(feed: Feed, known: Account) -> None:
    with database_away():
        gone, submission = feed.submit(message(known, "1"))
        kept = feed.send(message(known, "2"))
        time.sleep(0.2)  # the writer has taken the first, or both, and keeps trying
        submission.cancelled = True
    assert kept.result(60) == [STORED]
    assert not gone.done()
    assert values(known) == ["2"]
    assert feed.writer.queued == 0


def test_one_batch_is_bounded(feed: Feed, known: Account) -> None:
    feed(message(known, "0"))
    with another_transaction(LOCK):
        first = feed.send(message(known, "1"))
        wait_until(waiting, what="the writer to wait")
        answers = [feed.send(*(message(known, "2") for _ in range(3000))) for _ in range(3)]
    for answer in (first, *answers):
        answer.result(60)
    assert feed.writer.metrics.batch_size == 3000
    assert feed.writer.metrics.outcomes[STORED.status] == 9002


def test_many_threads_feed_one_writer(feed: Feed, known: Account) -> None:
    def work() -> None:
        for number in range(50):
            assert feed(message(known, str(number))) == [STORED]

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sorted(values(known)) == sorted(str(number) for number in range(50) for _ in range(8))
    assert feed.writer.metrics.batches < 400
