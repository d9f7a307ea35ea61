"""Arrays of datapoints from devices: a batch with its own times, all or nothing (docs/contract.md)."""

import json
import threading
from collections.abc import Callable
from typing import Any

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
    reasons,
    rejected,
    terminate,
)
from pytest_django import Settings
from support import Account

from ingest.decode import decode_array
from ingest.message import Kind, Outcome, Reason, Status
from thingscale.devices.models import Device, HeldMessage, MinuteCount, RejectedMessage
from thingscale.lib import exact_json, points
from thingscale.lib.clock import from_us, now_us, to_us
from thingscale.provisioning.actions import configure_device
from thingscale.provisioning.held_messages import store_held
from thingscale.streams.models import Submitted

HTTP = {"source": "http json"}
THREE = [
    {"value": {"temp": 21.50}, "at": "2026-01-31T13:45:30.25+09:00", "tag": "roof"},
    {"value": 2, "at": 1_769_834_731},
    {"value": "three", "at": "1769834732500", "tag": None},
]
STORED_THREE = [
    ('{"temp": 21.5}', "roof", 1_769_834_730_250_000),
    ("2", None, 1_769_834_731_000_000),
    ('"three"', None, 1_769_834_732_500_000),
]


def text(array: Any) -> bytes:
    return json.dumps(array).encode()


def datapoints(account: Account) -> list[tuple[str, str | None, int]]:
    with connection.cursor() as cursor:
        cursor.execute(
            """SELECT d.value::text, t.name, d.at FROM datapoint d JOIN streams_channel c ON c.id = d.channel
            LEFT JOIN streams_tag t ON t.id = d.tag WHERE c.user_id = %s ORDER BY d.at, d.id""",
            [account.user.pk],
        )
        return [(value, tag, to_us(at)) for value, tag, at in cursor.fetchall()]


def test_each_element_has_its_own_time_and_tag(feed: Feed, account: Account) -> None:
    account.device("d1")
    assert feed(message(account, text(THREE))) == [STORED]
    assert datapoints(account) == STORED_THREE


def test_an_elements_tag_goes_before_the_topics_and_its_time_is_the_receive_time_by_default(
    feed: Feed, account: Account
) -> None:
    account.device("d1")
    sent = message(
        account,
        b'\xef\xbb\xbf [{"value":1},{"value":true,"tag":"a/b"}]\r\n\0',
        tag="t",
    )
    assert feed(sent) == [STORED]
    assert datapoints(account) == [("1", "t", sent.received_at), ("true", "a/b", sent.received_at)]


def test_numbers_stay_as_they_were_written(feed: Feed, account: Account) -> None:
    account.device("d1")
    feed(message(account, b'[{"value":23.40},{"value":{"a":1234567890123456789123}}]'))
    assert [value for value, _, _ in datapoints(account)] == ["23.40", '{"a": 1234567890123456789123}']


@pytest.mark.parametrize(
    ("at", "moment"), [("2026-03-01 12:00", 1_772_362_800_000_000), ("2026-03-01", 1_772_319_600_000_000)]
)
def test_a_local_time_is_read_in_the_zone_of_the_account(
    feed: Feed, account: Account, at: str, moment: int
) -> None:
    account.user.locale = "Europe/Berlin"
    account.user.save()
    account.device("d1")
    array = [{"value": 1, "at": at}, {"value": 2, "at": moment // 1000 + 1}]
    assert feed(message(account, text(array)), message(account, "3")) == [STORED] * 2
    assert datapoints(account)[:2] == [("1", None, moment), ("2", None, moment + 1000)]


def test_a_local_time_may_be_a_day_ahead_there(feed: Feed, account: Account) -> None:
    account.user.locale = "Pacific/Kiritimati"  # UTC+14
    account.user.save()
    account.device("d1")
    now = now_us()
    there = from_us(now).astimezone(account.user.zone)
    array = [{"value": 1, "at": f"{there:%Y-%m-%d %H:%M:%S}"}]
    assert feed(message(account, text(array))) == [STORED]
    assert datapoints(account) == [("1", None, now // 1_000_000 * 1_000_000)]


BAD: list[tuple[bytes, str]] = [
    (b"[]", "no datapoint"),
    (b"[1, 2]", "[0] is not"),
    (b"[", "not whole JSON"),
    (b'[{"value":1},{"value":1}', "not whole JSON"),
    (b'[{"value":1}] x', "not whole JSON"),
    (b'[{"value":1},{"tag":"x"}]', "[1].value: is missing"),
    (b'[{"value":1},{"value":null}]', "[1].value"),
    (b'[{"value":1},{"value":[1]}]', "[1].value"),
    (b'[{"value":1},{"value":2},{"value":"a\\u0000"}]', "[2].value"),
    (b'[{"value":1,"tag":"a#"}]', "[0].tag"),
    (b'[{"value":1,"tag":7}]', "[0].tag"),
    (b'[{"value":1},{"value":1,"at":"yesterday"}]', "[1].at"),
    (b'[{"value":1,"at":true}]', "[0].at"),
    (b'[{"value":1,"at":"2036-01-01T00:00:00Z"}]', "[0].at"),
    (b'[{"value":1,"at":"2036-01-01 00:00"}]', "[0].at"),
    (b'[{"value":1,"at":"1999-12-31T23:59:59Z"}]', "[0].at"),
    (b'[{"value":1e400}]', "[0].value"),
    (b'[[{"value":1}]]', "[0] is not"),
]


@pytest.mark.parametrize(("payload", "fault"), BAD)
def test_all_or_nothing_and_the_reason_names_the_first_bad_element(
    feed: Feed, account: Account, payload: bytes, fault: str
) -> None:
    account.device("d1")
    outcomes = feed(message(account, "1"), message(account, payload), message(account, "2"))
    assert [outcomes[0], outcomes[2]] == [STORED, STORED]
    assert outcomes[1][:2] == (Status.REJECTED, Reason.BAD_JSON_FORMAT)
    assert fault in outcomes[1].detail
    assert 'must look like [{"value": 21.5' in outcomes[1].detail
    assert [value for value, _, _ in datapoints(account)] == ["1", "2"]
    record = RejectedMessage.objects.get(user=account.user)
    assert (record.reason, record.detail) == ("BAD_JSON_FORMAT", outcomes[1].detail)


def padded(size: int) -> bytes:
    return b'[{"value":1}' + b" " * (size - 13) + b"]"


@pytest.mark.parametrize(
    ("payload", "fields", "fits"),
    [
        (padded(256 * 1024), {}, True),
        (padded(256 * 1024 + 1), {}, False),
        (padded(1024 * 1024), HTTP, True),
        (padded(1024 * 1024 + 1), HTTP, False),
        (text([{"value": 1}] * 10_000), {}, True),
        (text([{"value": 1}] * 10_001), {}, False),
        (text([{"value": "x" * (64 * 1024 - 2)}]), HTTP, True),
        (text([{"value": "x" * (64 * 1024 - 1)}]), HTTP, False),
    ],
    ids=str,
)
def test_limits(feed: Feed, account: Account, payload: bytes, fields: dict[str, str], fits: bool) -> None:
    account.device("d1")
    (outcome,) = feed(message(account, payload, **fields))
    assert outcome[:2] == ((Status.STORED, None) if fits else (Status.REJECTED, Reason.TOO_LARGE))
    assert bool(datapoints(account)) is fits


def test_an_array_of_a_new_device_is_held_as_one_message_and_stored_whole(
    feed: Feed, account: Account
) -> None:
    assert (
        feed(message(account, text(THREE), tag="t"), message(account, "5"))
        == [held(Reason.NEW_DEVICE_FOUND)] * 2
    )
    device = Device.objects.get(user=account.user)
    assert len(held_values(device)) == 2
    configure_device(device, {"enabled": True, "mapped_channel": account.channel()})
    found = datapoints(account)
    assert [(value, at) for value, _, at in found[:3]] == [(value, at) for value, _, at in STORED_THREE]
    assert [tag for _, tag, _ in found] == ["roof", "t", "t", None]
    assert not HeldMessage.objects.exists()


def test_what_is_held_is_bounded_in_number_and_bytes(
    feed: Feed, account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(HeldMessage, "MAX_BYTES", 1000)
    account.device("d1", channel=None)
    for number in range(120):
        feed(message(account, text([{"value": number}])))
    assert 10 < HeldMessage.objects.count() < 30
    feed(message(account, text([{"value": 1}] * 100)))
    assert HeldMessage.objects.count() == 1, "the newest is kept, however large"
    monkeypatch.setattr(HeldMessage, "MAX_BYTES", 10**9)
    for number in range(120):
        feed(message(account, text([{"value": number}] * 3)))
    device = Device.objects.get(user=account.user)
    assert len(held_values(device)) == HeldMessage.KEPT
    configure_device(device, {"mapped_channel": account.channel()})
    assert len(datapoints(account)) == 3 * HeldMessage.KEPT


def test_much_held_for_many_devices_is_stored_some_at_a_time(
    feed: Feed, account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("thingscale.provisioning.held_messages.BATCH_BYTES", 100)
    monkeypatch.setattr("thingscale.provisioning.held_messages.STATEMENT_ROWS", 7)
    devices = [account.device(f"d{n}", channel=None) for n in range(4)]
    for device in devices:
        feed(message(account, text([{"value": 1}] * 10), device.device_id))
    Device.objects.filter(user=account.user).update(mapped_channel=account.channel())
    store_held([device.id for device in devices])
    assert len(datapoints(account)) == 40


def again(sent: Any, **more: Any) -> Any:
    return sent._replace(repeated=True, **more)


def test_an_array_sent_again_is_stored_once(feed: Feed, account: Account) -> None:
    """Found by its arrival, whatever times its elements have. As another packet it is another array."""
    account.device("d1")
    sent = message(account, text(THREE), dedupe=7, connected_at=1.0)
    assert feed(sent) == [STORED]
    assert feed(again(sent)) == [DUPLICATE]
    assert feed(again(sent), again(sent)) == [DUPLICATE] * 2
    assert datapoints(account) == STORED_THREE
    assert feed(sent._replace(dedupe=8)) == [STORED]
    assert len(datapoints(account)) == 6


def test_a_packet_id_that_comes_round_with_the_same_array_is_a_new_message(
    feed: Feed, account: Account
) -> None:
    account.device("d1")
    sent = message(account, text(THREE), dedupe=7, connected_at=1.0)
    assert feed(sent, sent) == [STORED] * 2
    assert len(datapoints(account)) == 6


def test_a_redelivery_in_one_batch_with_the_first_is_stored_once(feed: Feed, account: Account) -> None:
    account.device("d1")
    sent = message(account, text(THREE), dedupe=7, connected_at=1.0)
    assert feed(again(sent), again(sent)) == [STORED, DUPLICATE]
    assert len(datapoints(account)) == 3


def test_a_held_array_sent_again_is_held_once_and_known_when_it_is_stored(
    feed: Feed, account: Account
) -> None:
    sent = message(account, text(THREE), dedupe=7, connected_at=1.0)
    feed(sent)
    assert feed(again(sent)) == [Outcome(Status.DUPLICATE, Reason.NEW_DEVICE_FOUND)]
    device = Device.objects.get(user=account.user)
    assert len(held_values(device)) == 1
    configure_device(device, {"enabled": True, "mapped_channel": account.channel()})
    assert feed(again(sent)) == [DUPLICATE]
    assert datapoints(account) == STORED_THREE


def test_an_array_that_moves_to_another_process_is_stored_once(
    make_feed: Callable[..., Feed], account: Account
) -> None:
    """The first process has it still in its queue when the second gets it again (decision 16)."""
    account.device("d1")
    first, second = make_feed(), make_feed()
    for feed in (first, second):
        feed(message(account, "0"))
    sent = message(account, text(THREE), dedupe=7, connected_at=1.0)
    with another_transaction("LOCK TABLE streams_journal"):
        answers = [first.send(sent), second.send(again(sent, connected_at=2.0))]
    assert sorted(answer.result(60)[0].status for answer in answers) == [Status.DUPLICATE, Status.STORED]
    assert len(datapoints(account)) == 5


def test_an_array_under_an_idempotency_key(feed: Feed, account: Account) -> None:
    account.device("d1")
    sent = message(account, text(THREE), dedupe=-7, repeated=True, **HTTP)
    assert feed(sent) == [STORED]
    assert feed(sent) == [DUPLICATE]
    assert feed(sent._replace(payload=text(THREE[:2]))) == [rejected(Reason.IDEMPOTENCY_KEY_REUSED)]
    assert datapoints(account) == STORED_THREE
    assert reasons(account) == ["IDEMPOTENCY_KEY_REUSED"]


@pytest.mark.parametrize("second", [b"1", text(THREE), b"2"])
def test_one_key_at_two_processes_at_the_same_moment_is_stored_once(
    make_feed: Callable[..., Feed], account: Account, second: bytes
) -> None:
    """Two web processes: the second waits for the first's COMMIT."""
    account.device("d1")
    feeds = make_feed(), make_feed()
    for feed in feeds:
        feed(message(account, "0"))
    sent = [message(account, body, dedupe=-7, repeated=True, **HTTP) for body in (b"1", second)]
    with another_transaction("SELECT FROM devices_device FOR UPDATE"):
        answers = [feed.send(each) for feed, each in zip(feeds, sent, strict=True)]
    outcomes = [answer.result(60)[0] for answer in answers]
    assert outcomes.count(STORED) == 1
    other = DUPLICATE if second == b"1" else rejected(Reason.IDEMPOTENCY_KEY_REUSED)
    assert outcomes.count(other) == 1
    stored = len(datapoints(account)) - 2
    assert stored == (3 if second == text(THREE) and outcomes[1] == STORED else 1)


def test_a_value_that_postgresql_refuses_rejects_its_array_only(
    feed: Feed, account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Halving finds it; the array is one message, never half of one."""
    account.device("d1")

    def spoil(payload: bytes, *arguments: Any) -> Any:
        array = decode_array(payload, *arguments)
        if b"poison" in payload:
            array = array._replace(values=[*array.values[:-1], b'"\\u0000"'])
        return array

    monkeypatch.setattr("ingest.batch.decode_array", spoil)
    poison = message(account, text([{"value": 1}, {"value": "poison"}]), dedupe=9)
    outcomes = feed(message(account, "5"), poison, message(account, text(THREE)), message(account, "6"))
    assert outcomes == [STORED, rejected(Reason.UNSTORABLE), STORED, STORED]
    assert sorted(value for value, _, _ in datapoints(account)) == sorted(
        ["5", "6", *(value for value, _, _ in STORED_THREE)]
    )
    assert reasons(account) == ["UNSTORABLE"]
    assert not Submitted.objects.exists()


def test_a_connection_that_breaks_in_mid_batch_stores_an_array_once(feed: Feed, account: Account) -> None:
    account.device("d1")
    feed(message(account, "0"))
    with another_transaction("LOCK TABLE ONLY datapoint IN EXCLUSIVE MODE"):
        answer = feed.send(message(account, text(THREE), dedupe=7, connected_at=1.0))
        waiting = "SELECT count(*) FROM pg_stat_activity WHERE pid = %s AND wait_event_type = 'Lock'"
        pause = threading.Event()
        for _ in range(400):
            if ask(waiting, feed.process):
                break
            pause.wait(0.05)
        terminate(feed.process)
    assert answer.result(60) == [STORED]
    assert len(datapoints(account)) == 4


def test_arrays_count_as_messages_of_the_device_and_as_datapoints_of_the_account(
    make_feed: Callable[..., Feed], account: Account
) -> None:
    device = account.device("d1")
    feed = make_feed()
    feed(message(account, text(THREE)), message(account, "1"), message(account, b"[]"))
    feed.stop()
    assert ask("SELECT messages FROM devices_activity WHERE device_id = %s", device.pk) == 3
    counts = MinuteCount.objects.for_account(account.user).values_list("stored", "rejected")
    assert [sum(each) for each in zip(*counts, strict=True)] == [4, 1]


def test_old_and_new_months_get_their_partitions(feed: Feed, account: Account) -> None:
    account.device("d1")
    array = [{"value": n, "at": f"{year}-06-15T00:00:00Z"} for n, year in enumerate((2001, 2013, 2020))]
    assert feed(message(account, text(array))) == [STORED]
    assert [value for value, _, _ in datapoints(account)] == ["0", "1", "2"]


def test_a_disabled_device_rejects_an_array_as_one_message(
    feed: Feed, account: Account, settings: Settings
) -> None:
    configure_device(account.device("d1"), {"enabled": False})
    assert feed(message(account, text(THREE))) == [rejected(Reason.DEVICE_DISABLED)]
    assert reasons(account) == ["DEVICE_DISABLED"]


@pytest.mark.parametrize("kind", ["binary", "v1"])
def test_other_kinds_know_no_arrays(feed: Feed, account: Account, kind: str) -> None:
    account.device("d1")
    payload = b'[{"value":1}]' if kind == "binary" else b'v=[{"value":1}]'
    assert feed(message(account, payload, kind=Kind(kind))) == [STORED]
    assert len(datapoints(account)) == 1


def test_numbers_as_printf_writes_them_are_read_at_once(account: Account) -> None:
    """23.40 is what most devices send; one by one, ten thousand of them took a fifth of a second."""
    body = exact_json.loads(
        b'[{"value":23.40},{"value":{"t":-7.50,"u":[1.0]}},{"value":1234567890123456789}]'
    )
    found = points._parse_together(body, account.user.zone, now_us())
    assert found is not None
    assert found.values == [b"23.40", b'{"t":-7.50,"u":[1.0]}', b"1234567890123456789"]
    for number in (b"1e400", b"1e-400", b"9" * 1001):
        body = exact_json.loads(b'[{"value":23.40},{"value":%s}]' % number)
        assert points._parse_together(body, account.user.zone, now_us()) is None


@pytest.mark.parametrize("at", ["2026-01-31T13:45:30Z", "2026-01-31 13:45"])
def test_a_batch_is_bounded_by_its_datapoints(
    feed: Feed, account: Account, monkeypatch: pytest.MonkeyPatch, at: str
) -> None:
    """Arrays that wait together are not written together if that would be too much at a time."""
    monkeypatch.setattr("ingest.writer.MAX_BATCH", 100)
    account.device("d1")
    feed(message(account, "0"))
    before = feed.writer.metrics.batches
    array = text([{"value": n, "at": at} for n in range(60)])
    with another_transaction("LOCK TABLE streams_journal"):
        answers = [feed.send(message(account, array)) for _ in range(4)]
    assert [answer.result(60) for answer in answers] == [[STORED]] * 4
    assert feed.writer.metrics.batches - before >= 4
    assert len(datapoints(account)) == 241


def test_what_the_release_before_has_stored_hides_no_other_body_in_the_same_batch(
    feed: Feed, account: Account
) -> None:
    account.device("d1")
    one, other = (message(account, body, dedupe=-7, repeated=True, **HTTP) for body in ("1", "2"))
    feed(one)
    Submitted.objects.all().delete()
    outcomes = feed(other, one)
    assert outcomes == [rejected(Reason.IDEMPOTENCY_KEY_REUSED), DUPLICATE]
    Submitted.objects.all().delete()
    assert feed(one, other) == [STORED, rejected(Reason.IDEMPOTENCY_KEY_REUSED)]
