"""Broken connections in mid-load, several writers at once: every message stored, none twice."""

import itertools
import os
import random
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager

import pytest
from feeding import (
    DUPLICATE,
    STORED,
    Feed,
    another_transaction,
    ask,
    held,
    message,
    reasons,
    terminate,
    values,
    with_own_connection,
)
from stack import wait_until
from support import Account

from ingest.message import Outcome, RawMessage, Reason
from ingest.writer import Completion
from thingscale.devices.models import Device
from thingscale.provisioning.actions import configure_device
from thingscale.streams.models import Latest

Answers = list[Future[list[Outcome]]]


@contextmanager
def terminating(feed: Feed) -> Iterator[None]:
    """The writer's server process is ended again and again."""
    stop, pause = threading.Event(), random.Random(4)

    def keep_terminating() -> None:
        while not stop.wait(pause.uniform(0, 0.04)):
            terminate(feed.process)

    saboteur = threading.Thread(target=with_own_connection, args=[keep_terminating])
    saboteur.start()
    try:
        yield
    finally:
        stop.set()
        saboteur.join(60)


def settled(answers: Answers) -> list[Outcome]:
    return [outcome for answer in answers for outcome in answer.result(60)]


def test_connections_that_break_at_random_moments(feed: Feed, account: Account) -> None:
    account.device("d1")
    answers: Answers = []
    end = time.monotonic() + 1.5
    with terminating(feed):
        for number in itertools.count():
            answers.append(feed.send(message(account, str(number), tag=f"t{number % 3}")))
            if time.monotonic() > end:
                break
            time.sleep(0.0005)
    assert set(settled(answers)) == {STORED}
    assert values(account) == [str(number) for number in range(len(answers))]
    assert sum(Latest.objects.values_list("count", flat=True)) == len(answers)


@pytest.fixture
def commits_that_hang() -> Iterator[None]:
    """A COMMIT with synchronous_commit is done, and then waits for a standby server that does not exist."""
    ask("ALTER SYSTEM SET synchronous_standby_names = 'nobody'")
    ask("SELECT pg_reload_conf()")
    yield
    ask("ALTER SYSTEM RESET synchronous_standby_names")
    ask("SELECT pg_reload_conf()")


def break_after_the_commit(feed: Feed, *messages: RawMessage) -> list[Outcome]:
    """And before its answer."""
    feed.greeting = "SET synchronous_commit = on"
    terminate(feed.process)
    answer = feed.send(*messages)
    wait_until(
        lambda: ask("SELECT wait_event FROM pg_stat_activity WHERE pid = %s", feed.process) == "SyncRep"
    )
    assert not answer.done()
    feed.greeting = ""
    terminate(feed.process)
    return answer.result(60)


def test_a_batch_whose_connection_breaks_after_the_commit(
    account: Account, feed: Feed, commits_that_hang: None
) -> None:
    """In steps, as one with a new device is written."""
    account.device("d1")
    stored = break_after_the_commit(feed, message(account, "1"), message(account, "2", "new"))
    assert stored == [STORED, held(Reason.NEW_DEVICE_FOUND)]
    assert values(account) == ["1"]
    assert feed.first_contacts == [Device.objects.get(device_id="new").pk]
    assert feed(message(account, "3")) == [STORED]


def test_a_statement_whose_connection_breaks_after_the_commit(
    account: Account, feed: Feed, commits_that_hang: None
) -> None:
    account.device("d1")
    feed(message(account, "1"))
    assert break_after_the_commit(feed, message(account, "2"), message(account, "3")) == [STORED, STORED]
    assert feed(message(account, "4")) == [STORED]
    assert values(account) == ["1", "2", "3", "4"]


def test_a_statement_that_still_waits_when_its_connection_breaks(account: Account, feed: Feed) -> None:
    """It has not come to the journal, so that nothing says of it that it will be stored."""
    account.device("d1")
    for number in range(2):  # in steps, and then in a statement, which is prepared from now on
        feed(message(account, str(number)))
    with another_transaction("LOCK TABLE ONLY datapoint IN ACCESS EXCLUSIVE MODE"):
        answer, before = feed.send(message(account, "2")), feed.process
        wait_until(lambda: waits(before))
        cut_off(feed)
        wait_until(lambda: feed.process != before and waits(feed.process))
        assert waits(before)
    assert answer.result(60) == [STORED]
    wait_until(lambda: not ask("SELECT count(*) FROM pg_stat_activity WHERE pid = %s", before))
    assert feed(message(account, "3")) == [STORED]
    assert values(account) == ["0", "1", "2", "3"]
    assert sum(Latest.objects.values_list("count", flat=True)) == 4


def waits(process: int) -> bool:
    """For a lock on the table."""
    return bool(
        ask("SELECT count(*) FROM pg_locks WHERE pid = %s AND NOT granted AND locktype = 'relation'", process)
    )


def cut_off(feed: Feed) -> None:
    """The writer's connection breaks, and its server process does not hear of it."""
    opened = feed.writer._connection
    assert opened
    with socket.socket(fileno=os.dup(opened.fileno())) as ours:
        ours.shutdown(socket.SHUT_RD)


def test_a_first_contact_whose_connection_breaks_is_asked_about_once(feed: Feed, account: Account) -> None:
    answers: Answers = []
    with terminating(feed):
        for number in range(150):
            answers.append(feed.send(message(account, "1", f"n{number}")))
            time.sleep(0.003)
    assert len(settled(answers)) == 150
    assert sorted(feed.first_contacts) == sorted(Device.objects.values_list("pk", flat=True))
    assert {device.held.count() for device in Device.objects.all()} == {1}


@pytest.mark.parametrize("known", [True, False], ids=["known devices", "new devices"])
def test_two_writers_on_the_same_devices(
    make_feed: Callable[..., Feed], account: Account, caplog: pytest.LogCaptureFixture, known: bool
) -> None:
    """Tags, states, repeated and undecodable messages among them, in opposite orders."""
    names = [f"d{number}" for number in range(8)]
    for number, name in enumerate(names if known else []):
        account.device(name, number % 3)
    feeds, answers = [make_feed(), make_feed()], []
    for turn in range(40):
        for which, feed in enumerate(feeds):
            order = names[::-1] if which else names
            sent = [
                message(
                    account,
                    str(turn),
                    name,
                    tag=f"t{turn % 5}",
                    dedupe=turn * 2 + which,
                    repeated=turn % 4 == 0,
                )
                for name in order
            ]
            answers.append(feed.send(*sent, message(account, "{", "d0")))
    outcomes = settled(answers)
    assert "DeadlockDetected" not in caplog.text
    assert reasons(account) == ["BAD_JSON_FORMAT"] * 80
    if known:
        assert sum(len(values(account, channel)) for channel in range(3)) == outcomes.count(STORED)
        return
    for device in Device.objects.all():
        configure_device(device, {"enabled": True, "mapped_channel": account.channel()})
    assert len(values(account)) == 80 * len(names)


def test_repeated_messages_in_two_processes_end_in_no_deadlock(
    make_feed: Callable[..., Feed], account: Account, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("d1", "d2"):
        account.device(name)
    feeds = [make_feed(), make_feed()]
    answers = [
        feed.send(message(account, "1", name, dedupe=number, repeated=which == 0))
        for number in range(200)
        for which, feed in enumerate(feeds)
        for name in ("d1", "d2")
    ]
    assert set(settled(answers)) <= {STORED, DUPLICATE}
    assert "DeadlockDetected" not in caplog.text


def test_an_answer_that_can_not_be_delivered_is_not_stored_again(
    feed: Feed, account: Account, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    account.device("d1")

    def broken(completions: list[Completion]) -> None:
        raise RuntimeError("the connector's loop is gone")

    with monkeypatch.context() as patched:
        patched.setattr(feed.writer, "_dispatch", broken)
        feed.send(message(account, "1"))
        feed.stop()
    assert values(account) == ["1"]
    assert "the connector's loop is gone" in caplog.text


def test_a_caller_that_fails_on_its_answer_harms_no_other(feed: Feed, account: Account) -> None:
    account.device("d1")

    def broken(outcomes: list[Outcome]) -> None:
        raise ValueError("no")

    feed.writer.accept([message(account, "1")], broken)
    assert feed(message(account, "2")) == [STORED]
    assert values(account) == ["1", "2"]
