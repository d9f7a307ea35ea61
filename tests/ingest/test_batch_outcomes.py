"""What becomes of a message: stored, held, rejected, a state; through a writer into the real tables."""

from collections.abc import Callable

import pytest
from django.db.models import Sum
from feeding import STORED, Feed, ask, held, held_values, message, reasons, rejected, values
from support import Account

from ingest.message import Kind, Reason
from thingscale.devices.models import Device, RejectedMessage
from thingscale.lib.clock import from_us, now_us
from thingscale.provisioning.actions import configure_device
from thingscale.streams.models import Latest, Tag

NEW = held(Reason.NEW_DEVICE_FOUND)


def test_known_devices_are_stored_in_one_batch(feed: Feed, account: Account) -> None:
    account.device("d1")
    account.device("d2", 1)
    sent = [message(account, '{"t": 23.40}'), message(account, "2", "d2"), message(account, "3")]
    assert feed(*sent) == [STORED] * 3
    assert account.stored() == [('{"t": 23.40}', None), ("3", None)]
    assert account.stored(1) == [("2", None)]


def test_the_receive_time_keeps_its_microseconds(feed: Feed, account: Account) -> None:
    account.device("d1")
    moment = now_us() // 1_000_000 * 1_000_000 + 1
    feed(message(account, received_at=moment), message(account, received_at=moment + 100_000))
    latest = Latest.objects.get(channel=account.channel())
    assert (latest.at, latest.count) == (from_us(moment + 100_000), 2)


def test_equal_times_keep_the_order_of_arrival(feed: Feed, account: Account) -> None:
    account.device("d1")
    moment = now_us()
    feed(*(message(account, str(number), received_at=moment) for number in range(50)))
    assert values(account) == [str(number) for number in range(50)]


def test_an_unknown_device_is_created_disabled_and_unmapped(feed: Feed, account: Account) -> None:
    assert feed(message(account, "1", "new"), message(account, "2", "new")) == [NEW, NEW]
    device = Device.objects.get(user=account.user, device_id="new")
    assert (device.enabled, device.mapped_channel_id, device.activate_at) == (False, None, None)
    assert held_values(device) == [1, 2]
    assert feed.first_contacts == [device.pk]
    assert feed(message(account, "3", "new")) == [held(Reason.DEVICE_DISABLED)]
    assert feed.first_contacts == [device.pk]


def test_one_device_id_of_two_users_is_two_devices(feed: Feed, account: Account, outsider: Account) -> None:
    account.device("d1")
    assert feed(message(account, "1"), message(outsider, "2")) == [STORED, NEW]
    assert values(account) == ["1"]
    assert held_values(Device.objects.get(user=outsider.user)) == [2]


def test_a_device_without_a_channel_is_held(feed: Feed, account: Account) -> None:
    device = account.device("d1", None)
    assert feed(message(account, "1")) == [held(Reason.NO_MAPPED_CH)]
    assert held_values(device) == [1]


def test_a_disabled_device_is_rejected_with_or_without_the_cache(feed: Feed, account: Account) -> None:
    device = account.device("d1")
    configure_device(device, {"enabled": False})
    for _ in range(2):
        assert feed(message(account, "1")) == [rejected(Reason.DEVICE_DISABLED)]
    route = feed.device_cache.devices.get(account.user.pk, "d1")
    assert route is not None
    assert route.channel is None
    assert reasons(account) == ["DEVICE_DISABLED"] * 2
    assert values(account) == held_values(device) == []


def test_an_account_has_room_for_max_devices(feed: Feed, account: Account, outsider: Account) -> None:
    account.user.max_devices = 3
    account.user.save()
    account.device("d1", None)
    sent = [message(account, "1", name) for name in ("d2", "d3", "d4", "d1")]
    full = rejected(Reason.MAX_DEVICE_REACH)._replace(
        detail="You can have 3 devices: delete one first, or ask the operator for more."
    )
    assert feed(*sent, message(outsider)) == [NEW, NEW, full, held(Reason.NO_MAPPED_CH), NEW]
    assert feed(message(account, "1", "d5")) == [full]
    assert Device.objects.filter(user=account.user).count() == 3
    assert reasons(account) == ["MAX_DEVICE_REACH"] * 2


def test_tags_come_into_being_with_their_datapoints(feed: Feed, account: Account) -> None:
    account.device("d1")
    account.device("d2", 1)
    sent = [message(account, "1", tag="Küche"), message(account, "2"), message(account, "3", tag="Küche")]
    assert feed(*sent, message(account, "4", "d2", tag="Küche")) == [STORED] * 4
    assert account.stored() == [("1", "Küche"), ("2", None), ("3", "Küche")]
    assert account.stored(1) == [("4", "Küche")]
    assert Tag.objects.count() == 2


def test_a_tag_that_exists_uses_up_no_key(make_feed: Callable[..., Feed], account: Account) -> None:
    """Keys of tags are 32-bit: a tag that every writer looks up must not cost one each time."""
    account.device("d1")
    keys = []
    for _ in range(3):
        make_feed()(message(account, tag="t"))
        keys.append(ask("SELECT last_value FROM streams_tag_id_seq"))
    assert keys == keys[:1] * 3
    assert len(account.stored()) == 3


def test_a_state_is_kept_with_the_device_and_not_in_the_channel(feed: Feed, account: Account) -> None:
    device = account.device("d1")
    moment = now_us()
    sent = [
        message(account, "mode=eco&pod_run_current=2", kind=Kind.STATE, received_at=moment),
        message(account, "pod_run_current=3\n", kind=Kind.STATE, received_at=moment + 5),
    ]
    assert feed(*sent) == [STORED, STORED]
    device.refresh_from_db()
    assert (device.state, device.state_at) == ({"pod_run_current": 3}, from_us(moment + 5))
    assert values(account) == []


def test_an_older_state_does_not_replace_a_newer_one(feed: Feed, account: Account) -> None:
    device = account.device("d1")
    moment = now_us()
    feed(message(account, "n=2", kind=Kind.STATE, received_at=moment))
    feed(message(account, "n=1", kind=Kind.STATE, received_at=moment - 1))
    device.refresh_from_db()
    assert device.state == {"n": 2}


def test_a_state_makes_a_first_contact_too(feed: Feed, account: Account) -> None:
    assert feed(message(account, "n=1", "new", kind=Kind.STATE)) == [STORED]
    device = Device.objects.get(device_id="new")
    assert (device.state, device.enabled, device.held.count()) == ({"n": 1}, False, 0)
    assert feed.first_contacts == [device.pk]


def test_a_state_of_a_disabled_device_is_rejected(feed: Feed, account: Account) -> None:
    configure_device(account.device("d1"), {"enabled": False})
    assert feed(message(account, "n=1", kind=Kind.STATE)) == [rejected(Reason.DEVICE_DISABLED)]
    assert Device.objects.get().state is None


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        pytest.param({"payload": "{"}, Reason.BAD_JSON_FORMAT, id="broken JSON"),
        pytest.param({"payload": r'"\u0000"'}, Reason.NUL_CHARACTER, id="NUL"),
        pytest.param({"payload": b"1" * 70_000}, Reason.TOO_LARGE, id="70 kB"),
        pytest.param({"refused": Reason.UNKNOWN_TOPIC}, Reason.UNKNOWN_TOPIC, id="refused by the connector"),
        pytest.param({"refused": Reason.DEVICE_ID_ZERO, "device_id": "0"}, Reason.DEVICE_ID_ZERO, id="0"),
    ],
)
def test_bad_messages_are_recorded_beside_good_ones(
    feed: Feed, account: Account, fields: dict[str, object], reason: Reason
) -> None:
    account.device("d1")
    sent = [message(account, "1"), message(account, **fields), message(account, "2")]  # type: ignore[arg-type]
    assert feed(*sent) == [STORED, rejected(reason), STORED]
    assert values(account) == ["1", "2"]
    assert reasons(account) == [reason.value]


def test_a_rejected_message_shows_its_first_bytes_and_its_size(feed: Feed, account: Account) -> None:
    payload = bytes(range(256)) * 4
    moment = now_us()
    feed(message(account, payload, received_at=moment, refused=Reason.UNKNOWN_TOPIC, source="text/d1"))
    row = RejectedMessage.objects.get(user=account.user)
    assert bytes(row.payload) == payload[:256]
    assert (row.size, row.device_id, row.source) == (1024, "d1", "text/d1")
    assert row.received_at == from_us(moment)


def test_a_thousand_rejected_messages_are_kept_for_each_user(
    feed: Feed, account: Account, outsider: Account
) -> None:
    feed(message(outsider, "{", "mine"))
    for start in (0, 700, 1400):
        feed(*(message(account, "{", f"n{number}") for number in range(start, start + 700)))
    kept = list(
        RejectedMessage.objects.for_account(account.user).order_by("id").values_list("device_id", flat=True)
    )
    assert kept == [f"n{number}" for number in range(1100, 2100)]
    assert len(reasons(outsider)) == 1


def test_totals_are_exact(feed: Feed, account: Account) -> None:
    account.device("d1")
    account.device("d2")
    moment = now_us()
    feed(message(account, "10", tag="t"), message(account, "1.50"), message(account, "{", "d2"))
    feed(message(account, '"newest"', "d2", received_at=moment + 10_000_000))
    feed(message(account, '"late"', received_at=moment - 10_000_000))
    totals = {row.tag: (row.value, row.count, row.bytes) for row in Latest.objects.all()}
    tag = Tag.objects.get().pk
    assert totals == {Latest.UNTAGGED: ("newest", 3, len('1.50"newest""late"')), tag: (10, 1, 2)}
    assert Latest.objects.aggregate(all=Sum("count"))["all"] == ask("SELECT count(*) FROM datapoint d "
        "JOIN streams_channel c ON c.id = d.channel WHERE c.user_id = %s", account.user.pk)  # fmt: skip
