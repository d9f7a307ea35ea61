"""Readings of intakes: stored, held or refused as other messages are; what is sent again is there once."""

import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from feeding import DUPLICATE, STORED, Feed, held, reasons
from support import Account

from ingest.intake_messages import MAX_DEVICES, Taken, messages, of_publish, refused, taken
from ingest.message import Kind, Outcome, RawMessage, Reason, Status
from ingest.store_protocol import columns
from ingest.store_protocol import messages as of_columns
from thingscale.devices.models import Device, RejectedMessage
from thingscale.intakes.formats.mapped import compile
from thingscale.intakes.formats.readings import BadBody, Reading
from thingscale.lib.clock import now_us
from thingscale.lib.ids import DevicePk
from thingscale.provisioning.actions import configure_device
from thingscale.provisioning.held_messages import store_held

SECOND = 1_000_000


@pytest.fixture
def now() -> int:
    return now_us() // SECOND * SECOND


def intake(account: Account, *readings: Reading) -> list[RawMessage]:
    return messages(account.user.pk, "influx", readings, now_us())


def test_each_device_has_its_own_outcome_and_all_are_stored_together(
    feed: Feed, account: Account, now: int
) -> None:
    account.device("d1")
    account.device("d2", channel=2)
    configure_device(account.device("d3"), {"enabled": False})
    sent = intake(
        account,
        Reading("d1", "cpu", b'{"v":1}', now),
        Reading("d2", None, b"2", now),
        Reading("d1", "cpu", b'{"v":3}', now - SECOND),
        Reading("d3", None, b"4", now),
        Reading("d4", None, b"5", now),
    )
    outcomes = feed(*sent)
    assert outcomes == [
        STORED,
        STORED,
        Outcome(Status.REJECTED, Reason.DEVICE_DISABLED),
        held(Reason.NEW_DEVICE_FOUND),
    ]
    assert account.stored() == [('{"v": 3}', "cpu"), ('{"v": 1}', "cpu")]
    assert account.stored(2) == [("2", None)]
    assert reasons(account) == ["DEVICE_DISABLED"]
    row = RejectedMessage.objects.get()
    assert (row.source, bytes(row.payload)) == ("influx", b'[{"at":%d,"tag":null,"value":4}]' % now)
    summary = taken(sent, outcomes)
    assert (summary.stored, summary.reason, summary.device_id) == (3, Reason.DEVICE_DISABLED, "d3")


def test_what_is_sent_again_with_what_is_new_is_stored_once(feed: Feed, account: Account, now: int) -> None:
    account.device("d1")
    first = [Reading("d1", tag, b'{"v":1.0}', now + number) for number in range(50) for tag in ("a", None)]
    assert feed(*intake(account, *first)) == [STORED]
    assert feed(*intake(account, *first)) == [DUPLICATE]
    more = [Reading("d1", "a", b'{"v":2}', now), Reading("d1", "b", b'{"v":1.0}', now)]
    assert feed(*intake(account, *first[20:], *more, *more)) == [STORED]
    assert len(account.stored()) == 102
    older = Reading("d1", "a", b'{"v":1.0}', now - SECOND)
    assert feed(*intake(account, older), *intake(account, older)) == [STORED, DUPLICATE]
    assert len(account.stored()) == 103


@pytest.mark.parametrize(
    "value",
    [
        b'"a \\"b\\" {c,d} \\\\ e\\\\\\"f"',
        b'{"a":"x\\ny\\u0007","b":null}',
        b'{\n "a": 1.10,\t"b": []}',
        '"é \u2028 🌡"'.encode(),
        b'"NULL"',
        b'""',
        b"-1e-7",
        b"true",
    ],
)
def test_any_value_is_found_again_at_its_microsecond(
    feed: Feed, account: Account, now: int, value: bytes
) -> None:
    account.device("d1")
    readings = [Reading("d1", None, value, now + 123_457), Reading("d1", "a", b"1", now + 999_999)]
    assert feed(*intake(account, *readings)) == [STORED]
    assert feed(*intake(account, *readings)) == [DUPLICATE]
    near = readings[0]._replace(at=now + 123_456)
    assert feed(*intake(account, near)) == [STORED]
    assert len(account.stored()) == 3


def test_equal_readings_of_two_devices_in_one_channel_are_two(feed: Feed, account: Account, now: int) -> None:
    account.device("d1")
    account.device("d2")
    both = [Reading(name, None, b"1", now) for name in ("d1", "d2")]
    for outcome in (STORED, DUPLICATE):
        assert feed(*intake(account, *both)) == [outcome] * 2
    assert len(account.stored()) == 2


def test_readings_without_a_time_are_as_often_as_they_come(feed: Feed, account: Account) -> None:
    account.device("d1")
    for _ in range(2):
        assert feed(*intake(account, Reading("d1", None, b"1", None))) == [STORED]
    assert len(account.stored()) == 2


def test_what_is_held_is_held_once_and_stored_once(feed: Feed, account: Account, now: int) -> None:
    sent = Reading("new", "t", b'{"v":1}', now), Reading("new", None, b"2", now)
    assert feed(*intake(account, *sent)) == [held(Reason.NEW_DEVICE_FOUND)]
    assert feed(*intake(account, *sent))[0].status is Status.HELD
    device = Device.objects.get(device_id="new")
    assert device.held.count() == 1
    account.channel()
    configure_device(device, {"enabled": True, "mapped_channel": account.channel()})
    store_held([DevicePk(device.pk)])
    assert sorted(account.stored()) == [("2", None), ('{"v": 1}', "t")]
    assert feed(*intake(account, *sent)) == [DUPLICATE]
    assert len(account.stored()) == 2


def test_two_writers_with_the_same_readings_store_them_once(account: Account, now: int) -> None:
    account.device("d1")
    feeds = [Feed(1000, 10_000_000) for _ in range(2)]
    try:
        for number in range(20):
            readings = [Reading("d1", None, b"%d" % place, now + number) for place in range(20)]
            with ThreadPoolExecutor(2) as pool:
                sent = [pool.submit(each, *intake(account, *readings)) for each in feeds]
                assert {future.result(60)[0].status for future in sent} <= {
                    Status.STORED,
                    Status.DUPLICATE,
                }
        assert len(account.stored()) == 400
    finally:
        assert all(each.stop() for each in feeds)


def test_a_full_account_and_a_bad_body_are_recorded(feed: Feed, account: Account, now: int) -> None:
    bad = BadBody(Reason.BAD_JSON_FORMAT, "line 3: has no field: write one as name=1.")
    outcome = feed(refused(account.user.pk, "influx", b"body", bad, now))
    assert outcome == [Outcome(Status.REJECTED, Reason.BAD_JSON_FORMAT, bad.detail)]
    assert RejectedMessage.objects.get().detail == bad.detail


def test_no_device_is_refused(account: Account, now: int) -> None:
    with pytest.raises(BadBody):
        intake(account, Reading("", None, b"1", now))


def test_they_pass_between_processes(account: Account, now: int) -> None:
    sent = intake(account, Reading("d1", "t", b"1", now), Reading("d2", None, b"2", None))
    assert of_columns(columns(sent)) == sent
    assert sent[0].kind is Kind.INTAKE


def test_the_platforms_fault_is_of_all(account: Account, now: int) -> None:
    sent = intake(account, Reading("d1", "t", b"1", now), Reading("d2", None, b"2", now))
    assert taken(sent, [STORED, Outcome(Status.FAILED)]) == Taken(failed=True)
    assert taken(sent, [STORED, DUPLICATE]) == Taken(2)


def test_what_has_a_time_is_known_again_beside_what_has_none(feed: Feed, account: Account, now: int) -> None:
    account.device("d1")
    account.device("d2", channel=2)
    for _ in range(2):
        feed(
            *intake(
                account,
                Reading("d1", None, b"1", now - SECOND),
                Reading("d1", None, b"2", None),
                Reading("d2", None, b"3", now - SECOND),
            )
        )
    assert account.stored() == [("1", None), ("2", None), ("2", None)]
    assert account.stored(2) == [("3", None)]


def test_a_message_by_mqtt_is_known_again_by_its_packet_where_its_readings_have_no_time() -> None:
    rule = {"readings": [{"device": "d", "value": 1, "time": "{body}"}, {"device": "d", "value": 2}]}
    for _ in range(2):
        made = of_publish(compile({"rules": [rule]}), 1, "intake 1", "t", b"%d" % now_us(), now_us(), 7)
        assert [(each.kind, each.repeated) for each in made] == [(Kind.INTAKE, True), (Kind.JSON, False)]
        assert made[0].dedupe != made[1].dedupe


def test_a_payload_of_too_many_devices_is_refused() -> None:
    readings = [Reading(f"d{number}", None, b"1", None) for number in range(MAX_DEVICES + 1)]
    assert len(messages(1, "influx", readings[1:], now_us())) == MAX_DEVICES
    with pytest.raises(BadBody) as bad:
        messages(1, "influx", readings, now_us())
    assert bad.value.reason is Reason.TOO_LARGE


def test_a_message_by_mqtt_may_cost_a_gateway_little() -> None:
    """All its clients wait meanwhile. Measured in the time of this thread, which a busy machine does not add
    to."""
    wide = {f"k{number}": "{each}" for number in range(60)}
    rule = {"readings": [{"each": "body", "device": "d", "tag": "{each}{each}{each}{each}", "value": wide}]}
    mapping = compile({"rules": [rule]})
    for count in (300, 20_000, 100_000):
        body = b"[" + b",".join([b"1"] * count) + b"]"
        began = time.thread_time()
        made = of_publish(mapping, 1, "intake 1", "t", body, now_us(), None)
        assert time.thread_time() - began < 0.2
        refused_for = [each.refused for each in made]
        assert refused_for == [None if count == 300 else Reason.TOO_LARGE]
