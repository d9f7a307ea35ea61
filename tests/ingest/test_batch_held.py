"""Messages that wait for their device to be mapped: the last 100, in order, none lost and none doubled."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from django.db import connection
from feeding import (
    DUPLICATE,
    STORED,
    Feed,
    another_transaction,
    ask,
    held,
    held_values,
    message,
    values,
    with_own_connection,
)
from stack import wait_until
from support import Account

from ingest.message import Reason
from thingscale.devices.models import Device
from thingscale.lib.clock import from_us, now_us
from thingscale.provisioning.actions import configure_device
from thingscale.streams.actions.channels import delete_channel
from thingscale.streams.models import Latest, Tag

HOUR = 3_600_000_000


def test_the_newest_hundred_are_kept(feed: Feed, account: Account) -> None:
    device, other = account.device("d1", None), account.device("d2", None)
    feed(message(account, '"other"', "d2"))
    for start in (0, 90, 180):
        feed(*(message(account, str(number)) for number in range(start, start + 90)))
    assert held_values(device) == list(range(170, 270))
    feed(*(message(account, str(number)) for number in range(1000, 1300)))
    assert held_values(device) == list(range(1200, 1300))
    assert held_values(other) == ["other"]


def test_they_are_stored_in_order_with_their_receive_time(feed: Feed, account: Account) -> None:
    device = account.device("d1", None)
    start = now_us() - HOUR
    for number in range(5):
        feed(
            message(
                account, f'{{"n": {number}.10}}', tag="t" * (number % 2) or None, received_at=start + number
            )
        )
    configure_device(device, {"mapped_channel": account.channel()})
    assert account.stored() == [(f'{{"n": {number}.10}}', "t" if number % 2 else None) for number in range(5)]
    assert Latest.objects.get(tag=Latest.UNTAGGED).at == from_us(start + 4)
    assert held_values(device) == []
    assert feed(message(account, "9")) == [STORED]
    assert values(account)[-1] == "9"


def test_a_held_number_keeps_every_digit(feed: Feed, account: Account) -> None:
    device = account.device("d1", None)
    exact = "12345678901234567890.12345678901234567890"
    feed(message(account, exact))
    configure_device(device, {"mapped_channel": account.channel()})
    assert values(account) == [exact]


@pytest.mark.parametrize("first", ["enabled", "mapped_channel_id"])
def test_a_new_device_stores_once_it_is_both_mapped_and_enabled(
    feed: Feed, account: Account, first: str
) -> None:
    feed(message(account, "1", "new"))
    device = Device.objects.get(device_id="new")
    changes = {"enabled": True, "mapped_channel_id": account.channel().pk}
    configure_device(device, {first: changes.pop(first)})
    assert values(account) == []
    reason = Reason.NO_MAPPED_CH if first == "enabled" else Reason.DEVICE_DISABLED
    assert feed(message(account, "2", "new")) == [held(reason)]
    configure_device(device, changes)
    assert values(account) == ["1", "2"]


def test_a_disabled_device_keeps_what_was_held_before(feed: Feed, account: Account) -> None:
    device = account.device("d1", None)
    feed(message(account, "1"))
    configure_device(device, {"enabled": False})
    configure_device(device, {"mapped_channel": account.channel()})
    assert held_values(device) == [1]
    configure_device(device, {"enabled": True})
    assert values(account) == ["1"]


def test_sent_again_it_is_held_once(feed: Feed, account: Account) -> None:
    device = account.device("d1", None)
    again = message(account, "1", dedupe=7, repeated=True)
    feed(message(account, "1", dedupe=7), again)
    assert feed(again, message(account, "2", dedupe=8)) == [held(Reason.NO_MAPPED_CH)] * 2
    assert held_values(device) == [1, 2]
    configure_device(device, {"mapped_channel": account.channel()})
    assert feed(again) == [DUPLICATE]
    assert values(account) == ["1", "2"]


def test_none_is_left_behind_while_another_transaction_maps_the_device(feed: Feed, account: Account) -> None:
    """Messages keep coming, one batch after the other, until some are stored directly."""
    device, channel = account.device("d1", None), account.channel()
    began, answers = threading.Event(), []

    def keep_sending() -> None:
        for number in range(100):
            answers.extend(feed(message(account, str(number))))
            began.set()

    sender = threading.Thread(target=keep_sending)
    sender.start()
    assert began.wait(60)
    configure_device(device, {"mapped_channel": channel})
    sender.join(60)
    assert values(account) == [str(number) for number in range(100)]
    assert STORED in answers
    assert held(Reason.NO_MAPPED_CH) in answers
    assert held_values(device) == []


def test_a_message_waits_for_the_transaction_that_maps_its_device(
    make_feed: Callable[..., Feed], account: Account
) -> None:
    """While the mapping is not committed, the batch can neither hold nor store: either may turn out wrong."""
    feed, device, channel = make_feed(), account.device("d1", None), account.channel()
    feed(message(account, "1"))
    connection.set_autocommit(False)
    try:
        configure_device(device, {"mapped_channel": channel})
        answer = feed.send(message(account, "2"))
        with pytest.raises(TimeoutError):
            answer.result(0.3)
        connection.commit()
    finally:
        connection.rollback()
        connection.set_autocommit(True)
    assert answer.result(60) == [STORED]
    assert values(account) == ["1", "2"]


def test_a_channel_is_deleted_after_the_batch_that_brings_it_a_tag(feed: Feed, account: Account) -> None:
    """Neither sees the other's half: the tag goes with the channel, and the device is unmapped."""
    account.device("d1")
    channel = account.channel()
    feed(message(account, "1"))
    with ThreadPoolExecutor(1) as pool:
        with another_transaction("SELECT FROM streams_latest FOR UPDATE"):
            answer = feed.send(message(account, "2", tag="new"), message(account, "3"))
            wait_until(lambda: waiting(1), what="the batch to wait")
            deleted = pool.submit(with_own_connection, lambda: delete_channel(channel))
            wait_until(lambda: waiting(2), what="the deletion to wait")
        assert answer.result(60) == [STORED, STORED]
        deleted.result(60)
    assert Device.objects.get().mapped_channel is None
    assert not Tag.objects.exists()


def waiting(processes: int) -> bool:
    found: int = ask("SELECT count(DISTINCT pid) FROM pg_locks WHERE NOT granted")
    return found == processes
