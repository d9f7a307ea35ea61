"""An account whose storage, tags or held messages are at their limit: what ingest does."""

from collections.abc import Callable, Sequence
from threading import Event
from typing import Any
from uuid import uuid4

import pytest
from feeding import DUPLICATE, STORED, Feed, held, held_values, message, reasons, rejected, values
from stack import wait_until
from support import Account

from ingest import quotas
from ingest.message import Kept, Kind, Outcome, RawMessage, Reason, Status
from ingest.service import connect
from ingest.session_work import Asked, RetainedAsked, SessionWork
from thingscale.accounts.models import User
from thingscale.devices.models import ClientSession, Device, RejectedMessage, Retained
from thingscale.devices.mqtt_store import queues, sessions
from thingscale.devices.mqtt_store.sessions import Open
from thingscale.lib.clock import from_us, now_us
from thingscale.provisioning.actions import configure_device
from thingscale.streams.actions.channels import delete_channel
from thingscale.streams.exactly_once import commit_log
from thingscale.streams.models import Tag
from thingscale.streams.usage import used_storage

FULL = rejected(Reason.QUOTA_EXCEEDED)


@pytest.fixture(autouse=True)
def _looks_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quotas, "LOOK_SECONDS", 0.0)
    monkeypatch.setattr(quotas, "SHARE", 0)


def limit(account: Account, **limits: int | str) -> None:
    User.objects.filter(pk=account.user.pk).update(**limits)


def bare(answers: Sequence[Outcome]) -> list[Outcome]:
    """Without what they say of the figures."""
    return [answer._replace(detail="") for answer in answers]


def settled(feed: Feed, account: Account, full: bool) -> None:
    wait_until(lambda: (account.user.pk in feed.writer.quotas.full) == full, what="the measurement")


def filled(feed: Feed, account: Account) -> None:
    """One datapoint more than there is room for."""
    limit(account, max_storage=10)
    assert feed(message(account, '"0123456789"')) == [STORED]
    settled(feed, account, True)


def test_b3_a_full_storage_takes_nothing_and_records_why(
    feed: Feed, account: Account, outsider: Account
) -> None:
    account.device("d1")
    outsider.device("d1")
    filled(feed, account)
    answers = feed(
        message(account, "1"), message(outsider, "2"), message(account, "3", tag="new"), message(account, "{")
    )
    assert bare(answers) == [FULL, STORED, FULL, rejected(Reason.BAD_JSON_FORMAT)]
    assert values(account) == ['"0123456789"']
    assert values(outsider) == ["2"]
    assert not Tag.objects.exists()
    assert sorted(reasons(account)) == ["BAD_JSON_FORMAT", "QUOTA_EXCEEDED", "QUOTA_EXCEEDED"]


def test_b3_state_replaces_state_and_is_taken(feed: Feed, account: Account) -> None:
    account.device("d1")
    filled(feed, account)
    assert feed(message(account, b"a=1", kind=Kind.STATE)) == [STORED]
    assert Device.objects.get().state == {"a": 1}


def test_b3_what_is_stored_already_is_no_new_data(feed: Feed, account: Account) -> None:
    account.device("d1")
    limit(account, max_storage=10)
    assert feed(message(account, '"0123456789"', dedupe=5)) == [STORED]
    settled(feed, account, True)
    again = message(account, '"0123456789"', dedupe=5, repeated=True)
    assert bare(feed(again, message(account, "2", dedupe=6, repeated=True))) == [DUPLICATE, FULL]


def test_b3_held_messages_count_and_a_full_storage_holds_none(feed: Feed, account: Account) -> None:
    device = account.device("d1", None)
    limit(account, max_storage=10)
    text = '"0123456789"'
    assert feed(message(account, text, dedupe=5)) == [held(Reason.NO_MAPPED_CH)]
    settled(feed, account, True)
    again = message(account, text, dedupe=5, repeated=True)
    answers = feed(message(account, "1"), again, message(account, "2", "new"))
    assert bare(answers) == [FULL, held(Reason.NO_MAPPED_CH), FULL]
    assert held_values(device) == ["0123456789"]
    before = used_storage(account.user)
    assert (before.held, before.held_bytes, before.datapoint_bytes) == (1, 12, 0)
    configure_device(device, {"mapped_channel": account.channel()})
    after = used_storage(account.user)
    assert (after.held, after.datapoint_bytes) == (0, 12)
    assert values(account) == [text]  # what was acknowledged is stored, however full it is


def test_b3_what_is_deleted_makes_room_again(feed: Feed, account: Account) -> None:
    account.device("d1")
    filled(feed, account)
    delete_channel(account.channel())
    configure_device(Device.objects.get(), {"mapped_channel": account.channel(1)})
    feed.device_cache.on_change(("devices", account.user.pk, ""))
    settled(feed, account, False)
    assert feed(message(account, "1")) == [STORED]
    assert values(account, 1) == ["1"]


def test_b3_a_raised_limit_makes_room_at_once(feed: Feed, account: Account) -> None:
    account.device("d1")
    filled(feed, account)
    limit(account, max_storage=1_000)
    settled(feed, account, False)
    assert feed(message(account, "1")) == [STORED]


def test_b3_an_account_that_drops_its_oldest_takes_a_tenth_more(feed: Feed, account: Account) -> None:
    account.device("d1")
    limit(account, max_storage=100, when_full="drop_oldest")
    assert feed(message(account, f'"{"x" * 103}"')) == [STORED]
    assert feed(message(account, '"12345678"')) == [STORED]
    settled(feed, account, True)
    assert bare(feed(message(account, "1"))) == [FULL]


def test_b4_no_more_than_max_held_messages_wait(feed: Feed, account: Account) -> None:
    account.device("d1", None)
    limit(account, max_held=3)
    assert feed(*(message(account, "1", f"d{n}") for n in range(1, 4)))[1].status == "held"
    wait_until(lambda: account.user.pk in feed.writer.quotas.held_full, what="the measurement")
    assert bare(feed(message(account, "2"), message(account, "2", "other"))) == [FULL, FULL]


def test_b4_a_device_brings_no_more_tags_than_the_account_may_have(
    feed: Feed, account: Account, outsider: Account
) -> None:
    account.device("d1")
    account.device("d2", 1)
    outsider.device("d1")
    limit(account, max_tags=3)
    first = feed(
        *(message(account, str(n), tag=f"t{n}") for n in range(2)), message(account, "2", "d2", tag="x")
    )
    assert first == [STORED] * 3
    answers = feed(
        message(account, "3", tag="more"),
        message(account, "4", tag="t1"),
        message(account, "5", "d2", tag="t1"),
        message(account, "6"),
        message(outsider, "7", tag="more"),
    )
    assert bare(answers) == [FULL, STORED, FULL, STORED, STORED]
    assert values(account) == ["0", "1", "4", "6"]
    assert Tag.objects.filter(channel__user=account.user).count() == 3
    Tag.objects.filter(name="t0").delete()
    assert feed(message(account, "8", tag="more")) == [STORED]


def test_b4_tags_at_once_are_taken_as_far_as_there_is_room(feed: Feed, account: Account) -> None:
    account.device("d1")
    limit(account, max_tags=5)
    answers = feed(*(message(account, "1", tag=f"t{n:02}") for n in range(20)))
    answers = bare(answers)
    assert (answers.count(STORED), answers.count(FULL)) == (5, 15)


def test_b4_an_account_keeps_max_rejected_messages(feed: Feed, account: Account, outsider: Account) -> None:
    limit(account, max_rejected=3)
    feed(*(message(account, "{", f"d{n}") for n in range(5)), *(message(outsider, "{") for _ in range(5)))
    feed(message(account, "{", "last"))
    kept = (
        RejectedMessage.objects.for_account(account.user).order_by("id").values_list("device_id", flat=True)
    )
    assert list(kept) == ["d3", "d4", "last"]
    assert len(reasons(outsider)) == 5


def test_b3_an_account_is_measured_when_it_sends(
    make_feed: Callable[..., Feed], account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that begins with a full account knows it after its first batch."""
    account.device("d1")
    filled(make_feed(), account)
    monkeypatch.setattr(quotas, "LOOK_SECONDS", 60.0)
    other = make_feed()
    other(message(account, "1", received_at=now_us()))
    settled(other, account, True)
    assert bare(other(message(account, "2"))) == [FULL]
    limit(account, max_storage=1_000)
    other.writer.on_change(("limits", account.user.pk, ""))
    settled(other, account, False)
    assert other(message(account, "3")) == [STORED]


SENT_TWICE = [
    {"payload": "1", "dedupe": -7, "source": "http json"},
    {"payload": '[{"value":1},{"value":2}]', "dedupe": -7, "source": "http json"},
    {"payload": '[{"value":1}]', "dedupe": 7},
    {"payload": "1", "dedupe": 7},
]


@pytest.mark.parametrize("sent", SENT_TWICE)
@pytest.mark.parametrize("limits", [{"max_storage": 10}, {"max_tags": 0}])
def test_what_is_refused_is_refused_where_it_comes_again_in_one_batch(
    feed: Feed, account: Account, limits: dict[str, int], sent: dict[str, object]
) -> None:
    """Answered as a repetition of what is not stored, it would be lost."""
    account.device("d1")
    if "max_storage" in limits:
        filled(feed, account)
    else:
        limit(account, **limits)
    before = values(account)
    twice = message(account, tag="new", repeated=True, connected_at=1.0, **sent)  # type: ignore[arg-type]
    assert bare(feed(twice, twice)) == [FULL, FULL]
    limit(account, max_storage=1_000_000, max_tags=10)
    settled(feed, account, False)
    assert feed(twice, twice) == [STORED, DUPLICATE]
    assert len(values(account)) > len(before)


def details(account: Account) -> list[str]:
    """Of rejected messages, the newest last, as their page shows them."""
    kept = RejectedMessage.objects.for_account(account.user).order_by("id")
    return list(kept.values_list("detail", flat=True))


MORE = "or ask the operator for more."


def test_b3_what_a_full_storage_refuses_is_told_the_figures(feed: Feed, account: Account) -> None:
    account.device("d1")
    filled(feed, account)
    answers = feed(message(account, "1"), message(account, "1", "new"))
    assert {answer.detail for answer in answers} == {
        "The storage is full: 12 of 10 bytes are used. Delete channels, tags or old datapoints (by a"
        f" channel's retention), {MORE}"
    }
    assert details(account) == [answer.detail for answer in answers]
    limit(account, when_full="drop_oldest")
    feed.writer.on_change(("limits", account.user.pk, ""))
    wait_until(
        lambda: "being deleted: send it again in a minute" in feed(message(account, "1"))[0].detail,
        what="the other sentence",
    )


def test_b3_each_limit_that_refuses_says_which_one_it_is_and_how_much(
    feed: Feed, account: Account, outsider: Account
) -> None:
    """Of a message's tag, of an array's tags, of a new device, of held messages."""
    account.device("d1")
    account.device("d2", None)
    outsider.device("d1")
    limit(account, max_tags=1, max_devices=2)
    array = '[{"value":1,"tag":"a"},{"value":2,"tag":"b"},{"value":3,"tag":"c"}]'
    feed(message(account, "1", tag="a"), message(account, "1", tag="b"), message(account, "1", "d3"))
    feed(message(account, array, source="http json"), message(outsider, "1", tag="b"))
    tags = "you can have 1 in all channels. Delete tags that are no longer used, " + MORE
    assert sorted(details(account)) == [
        f"There is no room for 1 more tag: {tags}",
        f"There is no room for 2 more tags: {tags}",
        f"You can have 2 devices: delete one first, {MORE}",
    ]
    assert details(outsider) == []
    limit(account, max_held=1)
    assert feed(message(account, "1", "d2"))[0].held
    wait_until(lambda: account.user.pk in feed.writer.quotas.held_full, what="the measurement")
    (answer,) = feed(message(account, "2", "d2"))
    assert answer.detail == (
        "As many messages are held as may be: 1 of 1. Map the devices that they wait for, or delete those,"
        f" {MORE}"
    )


def retained(topic: str, payload: bytes = b"1", kind: Kind = Kind.MESSAGE, **fields: Any) -> Any:
    return lambda account: message(
        account, payload, kept=Kept(topic, 1, True, b"\0", (), None, 0, []), kind=kind, **fields
    )


def test_no_more_topics_have_a_retained_message_than_there_may_be(feed: Feed, account: Account) -> None:
    account.device("d1")
    limit(account, max_retained=2)
    for topic in ("a", "b"):
        assert feed(retained(topic, device_id="")(account)) == [STORED]
    quotas_of = feed.writer.quotas
    wait_until(lambda: account.user.pk in quotas_of.retained_full, what="the look at what is retained")
    assert feed(retained("a", b"2", device_id="")(account)) == [STORED]
    (refused,) = feed(retained("c", device_id="")(account))
    assert (refused.status, refused.reason) == (Status.REJECTED, Reason.QUOTA_EXCEEDED)
    assert "As many messages are retained" in refused.detail
    assert feed(retained("json/d1", kind=Kind.JSON)(account)) == [STORED]
    assert [value for value, _ in account.stored()] == ["1"]
    assert topics(account) == {"a": b"2", "b": b"1"}
    sources = RejectedMessage.objects.filter(user=account.user).values_list("source", flat=True)
    assert sorted(sources) == ["TOKEN/c", "TOKEN/json/d1"]
    assert feed(retained("b", b"", device_id="")(account)) == [STORED]
    assert topics(account) == {"a": b"2"}


def topics(account: Account) -> dict[str, bytes]:
    rows = Retained.objects.filter(account=account.user).values_list("topic", "payload")
    return {topic: bytes(payload) for topic, payload in rows}


def test_what_no_queue_has_room_for_is_stored_and_answered_all_the_same(
    feed: Feed, account: Account, outsider: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of all the queues of an account together; the sessions of another one get theirs."""
    monkeypatch.setattr(queues, "SPARE_BYTES", 0)
    limit(account, max_queued=100)
    for each in (account, outsider):
        each.device("d1")
        with connect() as raw, raw.cursor() as cursor:
            opens = [Open(each.user.pk, name, False, True, 100) for name in ("one", "two")]
            sessions.open_sessions(cursor, uuid4(), opens, commit_log.fence)

    def publish(each: Account, value: str, kind: Kind) -> RawMessage:
        sessions = ClientSession.objects.filter(account=each.user).order_by("client_id")
        copies = tuple((session.pk, 1, ()) for session in sessions)
        kept = Kept("json/d1", 1, False, b"\0", copies, None, 0, [])
        device_id = "" if kind is Kind.MESSAGE else "d1"
        return message(each, value, device_id, kept=kept, kind=kind)

    def numbers(each: Account) -> list[tuple[int, int]]:
        sessions = ClientSession.objects.filter(account=each.user).order_by("client_id")
        return [(session.next_seq - 1, session.dropped) for session in sessions]

    first = '"' + "x" * 80 + '"'
    assert feed(publish(account, first, Kind.JSON)) == [STORED]
    quotas_of = feed.writer.quotas
    wait_until(lambda: account.user.pk in quotas_of.queued_full, what="the look at what is queued")
    assert feed(publish(account, "1", Kind.JSON), publish(outsider, "2", Kind.JSON)) == [STORED, STORED]
    (told,) = feed(publish(account, "3", Kind.MESSAGE))
    assert told.status is Status.STORED
    assert numbers(account) == [(1, 2), (1, 2)]
    assert numbers(outsider) == [(1, 0), (1, 0)]
    assert [value for value, _ in account.stored()] == [first, "1"]
    limit(account, max_queued=10_000)
    feed.writer.on_change(("limits", account.user.pk, ""))
    wait_until(lambda: account.user.pk not in quotas_of.queued_full, what="the look at the changed limit")
    feed(publish(account, "4", Kind.JSON))
    assert numbers(account) == [(2, 2), (2, 2)]


def test_retained_messages_for_a_new_subscription_find_no_room_either(
    feed: Feed, account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An account that only subscribes, again and again, is measured too."""
    monkeypatch.setattr(queues, "SPARE_BYTES", 0)
    limit(account, max_queued=100)
    with connect() as raw, raw.cursor() as cursor:
        (opened,) = sessions.open_sessions(
            cursor, uuid4(), [Open(account.user.pk, "c", False, True, 100)], commit_log.fence
        )
    Retained.objects.create(
        account=account.user, topic="t", payload=b"x" * 200, qos=1, properties=b"\0", at=from_us(now_us())
    )
    asked = Asked(retained=[RetainedAsked(account.user.pk, "#", "", (opened.session, 1, ()))])

    def subscribe() -> int:
        work, done = SessionWork(asked, None), Event()
        feed.writer.accept([], lambda _: done.set(), work)
        assert done.wait(60)
        assert work.found
        return work.found.retained[0].queued

    assert subscribe() == 1
    wait_until(lambda: account.user.pk in feed.writer.quotas.queued_full, what="the look at what is queued")
    assert subscribe() == 0
    assert ClientSession.objects.get().dropped == 1
