"""A running Ingest follows what people change, at once; also after its listener was cut off."""

from collections.abc import Callable, Iterator
from datetime import timedelta

import pytest
from django.db import connection
from feeding import SECONDS, STORED, ask, held, message, rejected, values
from stack import wait_until
from support import Account

from ingest.message import Outcome, RawMessage, Reason
from ingest.service import Ingest
from thingscale.accounts.actions import rotate_token
from thingscale.accounts.models import Token
from thingscale.devices.actions import delete_device
from thingscale.devices.models import Device
from thingscale.processes import database_clock
from thingscale.processes.change_notifications import CHANNEL, Change
from thingscale.provisioning.actions import configure_device
from thingscale.streams.actions.channels import delete_channel
from thingscale.streams.actions.tags import delete_tag, rename_tag
from thingscale.streams.models import Tag

FOLLOWS = 2  # seconds: the contract of the caches


class Running:
    """An Ingest, and what its listener told."""

    def __init__(self) -> None:
        self.changes: list[Change | None] = []
        self.ingest = Ingest(on_change=self.changes.append)
        self.ingest.start()
        wait_until(lambda: self.changes, what="the listener to listen")

    def __call__(self, sent: RawMessage) -> Outcome:
        answers: list[Outcome] = []
        self.ingest.writer.accept([sent], answers.extend)
        wait_until(lambda: answers, SECONDS, "the answer")
        return answers[0]


@pytest.fixture
def running(account: Account) -> Iterator[Running]:
    started = Running()
    yield started
    assert started.ingest.stop()


@pytest.fixture
def known(running: Running, account: Account) -> Device:
    """Cached by the running Ingest."""
    device = account.device("d1")

    def cached() -> bool:
        """Once the news of its mapping has come."""
        assert running(message(account, "0", tag="t")) == STORED
        return running.ingest.device_cache.devices.get(account.user.pk, "d1") is not None

    wait_until(cached, what="the device to be cached")
    return device


def remap(device: Device, account: Account) -> None:
    configure_device(device, {"mapped_channel": account.channel(1)})


def unmap(device: Device, account: Account) -> None:
    configure_device(device, {"mapped_channel": None})


def disable(device: Device, account: Account) -> None:
    configure_device(device, {"enabled": False})


def delete(device: Device, account: Account) -> None:
    delete_device(device)


def delete_its_channel(device: Device, account: Account) -> None:
    delete_channel(account.channel())


@pytest.mark.parametrize(
    ("change", "outcome"),
    [
        (unmap, held(Reason.NO_MAPPED_CH)),
        (disable, rejected(Reason.DEVICE_DISABLED)),
        (delete, held(Reason.NEW_DEVICE_FOUND)),
        (delete_its_channel, held(Reason.NO_MAPPED_CH)),
    ],
)
def test_a_change_is_followed(
    running: Running,
    known: Device,
    account: Account,
    change: Callable[[Device, Account], None],
    outcome: Outcome,
) -> None:
    change(known, account)
    wait_until(lambda: not running.ingest.device_cache.devices, FOLLOWS, "the cache to be cleared")
    assert running(message(account, "1")) == outcome


def test_a_new_mapping_is_followed_and_so_is_enabling_again(
    running: Running, known: Device, account: Account
) -> None:
    remap(known, account)
    wait_until(
        lambda: running(message(account, "1")) == STORED and values(account, 1), FOLLOWS, "the new channel"
    )
    disable(known, account)
    wait_until(lambda: running(message(account, "2")) != STORED, FOLLOWS, "the device to be disabled")
    configure_device(known, {"enabled": True})
    wait_until(lambda: running(message(account, "3")) == STORED, FOLLOWS, "the device to be enabled")
    assert values(account, 1)[-1] == "3"


def test_a_change_that_is_rolled_back_is_none(running: Running, known: Device, account: Account) -> None:
    news = ("device", account.user.pk, "d1")
    wait_until(lambda: running.changes.count(news) == 2, what="its creation and its mapping")
    running.changes.clear()
    connection.set_autocommit(False)
    unmap(known, account)
    connection.rollback()
    connection.set_autocommit(True)
    account.device("next", None)
    wait_until(lambda: running.changes, FOLLOWS, "the next change")
    assert running.changes == [("device", account.user.pk, "next")]
    assert running(message(account, "1")) == STORED


@pytest.mark.parametrize(
    "forget", [delete_tag, lambda tag: rename_tag(tag, "renamed")], ids=["delete", "rename"]
)
def test_tags_are_followed(
    running: Running, known: Device, account: Account, forget: Callable[[Tag], None]
) -> None:
    forget(Tag.objects.get())
    wait_until(lambda: not running.ingest.device_cache.tags, FOLLOWS, "the tag to be forgotten")
    assert running(message(account, "1", tag="t")) == STORED
    assert account.stored()[-1] == ("1", "t")


def test_a_rotation_is_followed(running: Running, account: Account) -> None:
    assert running.ingest.device_tokens.find(account.device_token)
    rotate_token(account.user, Token.Kind.DEVICE, timedelta(0))
    wait_until(
        lambda: not running.ingest.device_tokens.find(account.device_token), FOLLOWS, "the old token's end"
    )


def test_after_its_connection_was_lost_it_forgets_and_follows_again(
    running: Running, known: Device, account: Account
) -> None:
    running.changes.clear()
    cut_listeners()
    wait_until(lambda: None in running.changes, what="the caches to be forgotten")
    assert not running.ingest.device_cache.devices
    wait_until(lambda: running.changes.count(None) >= 2, what="the listener to be back")
    assert running(message(account, "1")) == STORED
    unmap(known, account)
    wait_until(lambda: not running.ingest.device_cache.devices, FOLLOWS, "the cache to be cleared")


def test_what_it_does_not_understand_it_survives(running: Running, known: Device, account: Account) -> None:
    ask("SELECT pg_notify(%s, %s)", CHANNEL, "not ours")
    wait_until(lambda: not running.ingest.device_cache.devices, FOLLOWS, "the caches to be forgotten")
    assert running(message(account, "1")) == STORED
    unmap(known, account)
    wait_until(lambda: not running.ingest.device_cache.devices, FOLLOWS, "the cache to be cleared")


def test_many_changes_in_one_transaction_all_arrive(running: Running, account: Account) -> None:
    names = [f"d:{number}" for number in range(30)]
    connection.set_autocommit(False)
    for name in names:
        account.device(name, None)
    connection.commit()
    connection.set_autocommit(True)
    expected = {("device", account.user.pk, name) for name in names}
    wait_until(lambda: expected <= set(running.changes), FOLLOWS, "all changes")


def cut_listeners() -> None:
    """Ours, and those of other processes on this database: nothing tells them apart from here."""
    cut = ask(
        "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
        " WHERE application_name = 'thingscale-ingest' AND datname = current_database()"
        " AND (query LIKE 'LISTEN%%' OR query = %s)",
        database_clock.QUESTION,
    )
    assert cut, "nobody listens"
