"""What events see in the datapoints of a batch: written with them, exactly for what is stored."""

from typing import Any
from unittest.mock import Mock

import pytest
from django.utils import timezone
from feeding import DUPLICATE, STORED, Feed, Feeder, ask, database_away, message
from pytest_django import Settings
from stack import wait_until
from support import Account, make_account

from ingest.message import Kind
from thingscale.events import figures, observe, rules, waiting
from thingscale.events.actions import create_event
from thingscale.events.budget import Budget
from thingscale.events.models import Condition, Event, Observation
from thingscale.lib.clock import now_us
from thingscale.processes import own_connection
from thingscale.processes.wake_up import WAKE_UP
from thingscale.streams.models import Tag

MATCHED, CLEARED, LEFT_OUT = Observation.What.MATCHED, Observation.What.CLEARED, Observation.What.LEFT_OUT
HOUR = 3_600_000_000


@pytest.fixture
def other(transactional_db: None) -> Account:
    return make_account("other@example.com")


def watch(
    account: Account, operator: str = ">", threshold: str = "30", source: str = "t", **fields: Any
) -> Event:
    fields = {"mapped_channel": account.channel(0), "source": source} | fields
    return create_event(account.user, {"operator": operator, "threshold": threshold} | fields)


def seen() -> list[tuple[int, int, str]]:
    """What was seen, in order: event, what, value."""
    return list(Observation.objects.order_by("id").values_list("event", "what", "value"))


def changed(feed: Feed, account: Account) -> None:
    """As if the announcement of a change had come."""
    feed.writer.on_change(("events", account.user.pk, ""))


def test_a_match_and_its_end(feed: Feed, account: Account) -> None:
    device = account.device("d1")
    event = watch(account)
    for value in (20, 31, 32, 29, 28, 33):
        assert feed(message(account, f'{{"t":{value}}}')) == [STORED]
    assert seen() == [
        (event.pk, MATCHED, "31"),
        (event.pk, MATCHED, "32"),
        (event.pk, CLEARED, "29"),
        (event.pk, MATCHED, "33"),
    ]
    assert len(account.stored()) == 6
    first = Observation.objects.earliest("id")
    assert (first.account, first.device, first.tag, first.count) == (account.user.pk, device.pk, 0, 1)
    assert abs((timezone.now() - first.at).total_seconds()) < 60


def test_one_batch_is_looked_at_in_order(feed: Feed, account: Account) -> None:
    account.device("d1")
    account.device("d2")
    event = watch(account)
    values = [("d1", 31), ("d2", 29), ("d1", 29), ("d1", 28), ("d2", 35), ("d1", 36)]
    assert feed(*(message(account, f'{{"t":{t}}}', d) for d, t in values)) == [STORED] * 6
    assert [(what, value) for _, what, value in seen()] == [
        (MATCHED, "31"),
        (CLEARED, "29"),
        (MATCHED, "35"),
        (MATCHED, "36"),
    ]
    assert {each for each, _, _ in seen()} == {event.pk}


def test_tags_and_devices_are_looked_at_apart(feed: Feed, account: Account) -> None:
    one, two = account.device("d1"), account.device("d2")
    watch(account)
    feed(message(account, b'{"t":31}', "d1", tag="a"))
    feed(message(account, b'{"t":1}', "d1", tag="b"))
    feed(message(account, b'{"t":1}', "d2", tag="a"))
    feed(message(account, b'{"t":1}', "d1", tag="a"))
    feed(message(account, b'{"t":32}', "d2"))
    tag = Tag.objects.get(name="a").pk
    assert list(Observation.objects.order_by("id").values_list("device", "tag", "what")) == [
        (one.pk, tag, MATCHED),
        (one.pk, tag, CLEARED),
        (two.pk, 0, MATCHED),
    ]


def test_a_large_batch(feed: Feed, account: Account) -> None:
    """By COPY, with the first contact of a tag in it."""
    account.device("d1")
    watch(account)
    feed(*(message(account, f'{{"t":{number}}}', tag="x" if number == 7 else None) for number in range(300)))
    assert [value for _, _, value in seen()] == [str(number) for number in range(31, 300)]


def test_an_array_is_looked_at_by_its_times(feed: Feed, account: Account) -> None:
    account.device("d1")
    watch(account)
    now = now_us() // 1_000_000
    array = ",".join(
        f'{{"value":{{"t":{t}}},"at":{now - ago}}}' for t, ago in ((31, 5), (20, 1), (32, 9), (9, 7))
    )
    assert feed(message(account, f"[{array}]")) == [STORED]
    assert [(what, value) for _, what, value in seen()] == [
        (MATCHED, "32"),
        (CLEARED, "9"),
        (MATCHED, "31"),
        (CLEARED, "20"),
    ]


def test_bare_v1_and_binary_values(feed: Feed, account: Account) -> None:
    account.device("d1")
    bare = watch(account, source="")
    v1 = watch(account, source="value1")
    second = watch(account, source="value2")
    text = watch(account, "=", "ff00", source="value")
    feed(message(account, b"31"))
    feed(message(account, b"v=32&v2=33", kind=Kind.FORM))
    feed(message(account, b"\xff\x00", kind=Kind.BINARY))
    assert seen() == [
        (bare.pk, MATCHED, "31"),
        (v1.pk, MATCHED, "31"),
        (v1.pk, MATCHED, "32"),
        (second.pk, MATCHED, "33"),
        (text.pk, MATCHED, "ff00"),
    ]


def test_what_is_not_stored_is_not_seen(feed: Feed, account: Account) -> None:
    account.device("d1")
    account.device("unmapped", None)
    watch(account)
    again = message(account, b'{"t":31}', dedupe=7, repeated=True)
    assert feed(again) == [STORED]
    assert feed(again, again) == [DUPLICATE, DUPLICATE]
    own_key = message(account, b'{"t":32}', dedupe=-7, repeated=True)
    assert feed(own_key) == [STORED]
    assert feed(own_key, own_key) == [DUPLICATE, DUPLICATE]
    feed(message(account, b'{"t":33}', "unmapped"))  # held
    feed(message(account, b'{"t":34', "d1"))  # rejected
    feed(message(account, b"t=35", kind=Kind.STATE))
    feed(message(account, b'{"t":36}', "new"))
    assert [value for _, _, value in seen()] == ["31", "32"]


def test_a_value_that_postgresql_refuses_leaves_each_other_one_seen_once(
    feed: Feed, account: Account
) -> None:
    account.device("d1")
    watch(account)
    ask("ALTER TABLE datapoint ADD CONSTRAINT nothing_of_this CHECK (value ->> 't' <> '40') NOT VALID")
    try:
        feed(*(message(account, f'{{"t":{number}}}') for number in range(35, 45)))
    finally:
        ask("ALTER TABLE datapoint DROP CONSTRAINT nothing_of_this")
    stored = [str(number) for number in range(35, 45) if number != 40]
    assert [value for _, _, value in seen()] == stored
    assert len(account.stored()) == len(stored)


def test_an_end_in_the_other_half_of_a_batch_is_seen(feed: Feed, account: Account) -> None:
    account.device("d1")
    watch(account)
    ask("ALTER TABLE datapoint ADD CONSTRAINT nothing_of_this CHECK (value ->> 't' <> '40') NOT VALID")
    try:
        feed(*(message(account, f'{{"t":{t}}}') for t in (35, 40, 1, 2)))
    finally:
        ask("ALTER TABLE datapoint DROP CONSTRAINT nothing_of_this")
    assert [(what, value) for _, what, value in seen()] == [(MATCHED, "35"), (CLEARED, "1")]


def test_nothing_is_seen_twice_after_the_database_was_away(feed: Feed, account: Account) -> None:
    account.device("d1")
    watch(account)
    feed(message(account, b'{"t":1}'))
    with database_away():
        answer = feed.send(message(account, b'{"t":31}'), message(account, b'{"t":32}'))
    assert answer.result(60) == [STORED, STORED]
    assert [value for _, _, value in seen()] == ["31", "32"]


def test_late_data_is_not_seen(feed: Feed, account: Account, settings: Settings) -> None:
    account.device("d1")
    watch(account)
    feed(message(account, b'{"t":31}', received_at=now_us() - HOUR))
    feed(message(account, b'{"t":32}', received_at=now_us() - HOUR // 5))
    settings.EVENT_LATE_SECONDS = 7200
    feed(message(account, b'{"t":33}', received_at=now_us() - HOUR))
    assert [value for _, _, value in seen()] == ["32", "33"]


def test_rules_follow_changes(feed: Feed, account: Account) -> None:
    account.device("d1")
    event = watch(account)
    feed(message(account, b'{"t":31}'))
    Event.objects.filter(pk=event.pk).update(threshold="50")
    feed(message(account, b'{"t":32}'))  # nobody has said it
    changed(feed, account)
    feed(message(account, b'{"t":49}'), message(account, b'{"t":51}'))
    Event.objects.filter(pk=event.pk).update(enabled=False)
    feed.writer.on_change(None)
    feed(message(account, b'{"t":52}'))
    assert [(what, value) for _, what, value in seen()] == [
        (MATCHED, "31"),
        (MATCHED, "32"),
        (CLEARED, "49"),
        (MATCHED, "51"),
    ]


def test_others_are_not_compared(feed: Feed, account: Account, other: Account) -> None:
    """Neither by another channel, nor by another account."""
    account.device("d1")
    account.device("d2", 5)
    other.device("d1")
    watch(account)
    feed(message(account, b'{"t":31}', "d2"), message(other, b'{"t":32}'), message(account, b'{"t":33}'))
    assert [value for _, _, value in seen()] == ["33"]


def test_an_event_that_lacks_something_does_nothing(feed: Feed, account: Account) -> None:
    account.device("d1")
    watch(account, threshold="")
    watch(account, mapped_channel=None)
    watch(account, enabled=False)
    watch(account, kind=Event.Kind.SILENCE, period=60)
    feed(message(account, b'{"t":31}'))
    assert seen() == []


def test_only_some_devices(feed: Feed, account: Account) -> None:
    for name in ("room-1", "hall-1"):
        account.device(name)
    watch(account, devices="room-*")
    feed(message(account, b'{"t":31}', "hall-1"), message(account, b'{"t":32}', "room-1"))
    feed(message(account, b'{"t":33}', "hall-1", tag="x"), message(account, b'{"t":34}', "room-1", tag="x"))
    assert [value for _, _, value in seen()] == ["32", "34"]


def test_what_is_open_is_known_after_a_start(make_feed: Feeder, account: Account) -> None:
    device = account.device("d1")
    one, two, three = (watch(account) for _ in range(3))
    now = timezone.now()
    Condition.objects.create(event=one, device=device.pk, state="no data", since=now, at=now)
    Condition.objects.create(event=two, device=device.pk, state="ok", since=now, at=now)
    Observation.objects.create(event=three.pk, device=device.pk, what=MATCHED, at=now, value="31")
    feed = make_feed()
    feed(message(account, b'{"t":1}'))
    feed(message(account, b'{"t":2}'))
    assert seen()[1:] == [(one.pk, CLEARED, "1"), (three.pk, CLEARED, "1")]


def test_what_another_process_has_opened(feed: Feed, account: Account) -> None:
    device = account.device("d1")
    event = watch(account)
    feed(message(account, b'{"t":1}'))
    feed.writer.on_change(("event-open", account.user.pk, f"{event.pk}:{device.pk}:0"))
    feed.writer.on_change(("event-open", account.user.pk, "9999999:1:0"))
    feed(message(account, b'{"t":2}'))
    assert seen() == [(event.pk, CLEARED, "2")]
    feed.writer.on_change(("event-open", account.user.pk, "of a later release"))
    feed(message(account, b'{"t":3}'))
    assert len(seen()) == 1


def test_changes_that_nobody_announces_are_followed_some_minutes_later(
    feed: Feed, account: Account, other: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As those of a web process of the release before."""
    monkeypatch.setattr("thingscale.events.rule_cache.KNOWN_SECONDS", (0.3, 0.3))
    account.device("d1")
    other.device("d1")
    watch(account)
    feed(message(account, b'{"t":1}'), message(other, b'{"t":1}'))
    Event.objects.update(threshold="40")
    late = Event.objects.create(
        user=other.user, number=1, mapped_channel=other.channel(0), source="t", operator=">", threshold="30"
    )

    def is_followed() -> bool:
        feed(message(account, b'{"t":35}'), message(other, b'{"t":36}'))
        return late.pk in {event for event, _, _ in seen()}

    wait_until(is_followed, 30, "the event to be read")
    before = len(seen())
    feed(message(account, b'{"t":37}'), message(account, b'{"t":41}'))
    assert [value for _, _, value in seen()[before:] if value in {"37", "41"}] == ["41"]


def test_an_account_is_not_read_again_before(
    feed: Feed, account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    account.device("d1")
    watch(account)
    load = Mock(wraps=rules.load)
    monkeypatch.setattr(rules, "load", load)
    for value in range(5):
        feed(message(account, f'{{"t":{value}}}'))
    assert load.call_count == 1


def test_a_change_and_a_rate_go_on_in_another_process(make_feed: Feeder, account: Account) -> None:
    account.device("d1")
    change = watch(account, kind=Event.Kind.CHANGE, source="s", threshold="")
    rate = watch(account, kind=Event.Kind.RATE, threshold="5", window=60)
    one, two = make_feed(), make_feed()
    one(message(account, b'{"s":"a","t":1}'))
    two(message(account, b'{"s":"a","t":4}'))
    one(message(account, b'{"s":"b","t":7}'), message(account, b'{"s":"b","t":7}', tag="x"))
    two(message(account, b'{"s":"b","t":7}'), message(account, b'{"s":"c"}', tag="x"))
    assert seen() == [
        (change.pk, MATCHED, "b"),
        (rate.pk, MATCHED, "7"),
        (rate.pk, MATCHED, "7"),
        (change.pk, MATCHED, "c"),
    ]


def test_a_clock_that_is_ahead_does_not_stop_changes(feed: Feed, account: Account) -> None:
    account.device("d1")
    watch(account, kind=Event.Kind.CHANGE, threshold="")
    ahead = now_us() // 1_000_000 + 3600
    feed(message(account, f'[{{"value":{{"t":1}},"at":{ahead}}}]'))
    feed(message(account, b'{"t":2}'))
    assert [value for _, _, value in seen()] == ["2"]


def test_an_account_with_too_many_matches(
    feed: Feed, account: Account, other: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(observe, "MATCHES", Budget(10, 1))
    account.device("d1")
    other.device("d1")
    event, of_other = watch(account), watch(other)
    messages = [message(account, f'{{"t":{number}}}') for number in range(40, 55)]
    assert feed(*messages, message(other, b'{"t":99}')) == [STORED] * 16
    found = list(Observation.objects.exclude(event=of_other.pk).order_by("id").values_list("what", "count"))
    assert found == [(MATCHED, 1)] * 10 + [(LEFT_OUT, 5)]
    assert Observation.objects.filter(event=of_other.pk).count() == 1
    feed(message(account, b'{"t":1}'))  # its end is told
    assert seen()[-1] == (event.pk, CLEARED, "1")


def test_an_account_with_too_much_to_compare(
    feed: Feed, account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(observe, "COMPARISONS", Budget(100, 1))
    account.device("d1")
    watch(account)
    large = '{"t":' + str([1] * 1000) + "}"
    assert feed(message(account, large), message(account, b'{"t":31}'), message(account, b'{"t":1}')) == [
        *(STORED, STORED, STORED)
    ]
    assert [(what, value) for _, what, value in seen()] == [(MATCHED, "31"), (CLEARED, "1"), (LEFT_OUT, "")]


def test_each_rule_is_charged_for_each_element_of_an_array(
    feed: Feed, account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(observe, "COMPARISONS", Budget(1_500, 1))
    account.device("d1")
    first, second = watch(account), watch(account, ">", "40")
    short = '{"t":[' + ",".join(["9"] * 999) + ",99]}"  # to read its 2 kB is 126 comparisons, for each event
    feed(message(account, short), message(account, b'{"t":31}'))
    assert seen() == [(first.pk, MATCHED, "99"), (first.pk, MATCHED, "31"), (second.pk, LEFT_OUT, "")]


def test_too_much_open_to_know_it_all(
    make_feed: Feeder, account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(observe, "PARSED_BYTES", 20)
    monkeypatch.setattr("thingscale.events.rules.MAX_OPEN", 2)
    devices = [account.device(f"d{number}") for number in range(4)]
    event = watch(account)
    now = timezone.now()
    for device in devices[:3]:
        Condition.objects.create(event=event, device=device.pk, state="firing", since=now, at=now)
    feed = make_feed()
    feed(*(message(account, b'{"t":1}', f"d{number}") for number in (0, 3, 3, 1, 0)))
    places = list(Observation.objects.order_by("id").values_list("device", "what"))
    assert places == [(devices[0].pk, CLEARED), (devices[1].pk, CLEARED)]


def test_more_becomes_open_than_may_be_known(
    feed: Feed, account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("thingscale.events.rules.MAX_OPEN", 2)
    devices = [account.device(f"d{number}") for number in range(4)]
    watch(account)
    feed(*(message(account, b'{"t":31}', device.device_id) for device in devices))
    feed(*(message(account, b'{"t":1}', device.device_id) for device in devices))
    feed(message(account, b'{"t":2}', "d0"))
    assert [what for _, what, _ in seen()][:8] == [MATCHED] * 4 + [CLEARED] * 4


def test_rules_that_were_pushed_out_are_read_again(
    feed: Feed, account: Account, other: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("thingscale.events.rule_cache.MAX_ENTRIES", 1)
    for each in (account, other):
        each.device("d1")
        watch(each)
    for value in (31, 1):
        for each in (account, other):
            feed(message(each, f'{{"t":{value}}}'))
    assert [what for _, what, _ in seen()] == [MATCHED, MATCHED, CLEARED, CLEARED]


def test_an_event_that_cannot_be_compared_costs_no_datapoint(
    feed: Feed, account: Account, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    account.device("d1")
    watch(account)
    monkeypatch.setattr("thingscale.events.evaluate.to_number", lambda value: 1 / 0)
    assert feed(message(account, b'{"t":31}')) == [STORED]
    assert seen() == []
    assert "could not be compared" in caplog.text


def test_the_worker_is_woken_after_the_commit(
    feed: Feed, account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    woken: list[int] = []
    account.device("d1")
    watch(account)
    monkeypatch.setattr(WAKE_UP, "events", lambda: woken.append(1))
    feed(message(account, b'{"t":1}'))
    assert woken == []
    feed(message(account, b'{"t":31}'))
    wait_until(lambda: woken == [1])


@pytest.fixture
def little_room(monkeypatch: pytest.MonkeyPatch) -> None:
    """For three observations of an account, and six in all; looked at each time."""
    monkeypatch.setattr(waiting, "MOST", 3)
    monkeypatch.setattr(waiting, "LOOK_EACH", 1)
    monkeypatch.setattr(waiting, "LOOK_SECONDS", 0.0)
    monkeypatch.setattr(observe, "WAITING", waiting.Waiting())


def test_without_a_worker_what_changes_a_state_is_kept(
    feed: Feed, account: Account, other: Account, little_room: None
) -> None:
    for each in (account, other):
        each.device("d1")
    event, of_other = watch(account), watch(other)
    for value in (31, 32, 33, 34, 35, 20, 36, 37):
        assert feed(message(account, f'{{"t":{value}}}')) == [STORED]
    assert seen() == [
        *((event.pk, MATCHED, "31"), (event.pk, MATCHED, "32"), (event.pk, MATCHED, "33")),
        *((event.pk, CLEARED, "20"), (event.pk, MATCHED, "36")),
    ]
    feed(message(other, '{"t":40}'))
    assert seen()[-1] == (of_other.pk, MATCHED, "40")  # an account is not in the way of others
    assert len(account.stored()) == 8
    with own_connection.connect("test") as connection:
        counted = figures.read(connection).counted
    assert counted[figures.NOT_KEPT, ""] >= 2


def test_without_a_worker_no_more_is_kept_than_may_wait(
    feed: Feed, account: Account, little_room: None
) -> None:
    account.device("d1")
    event = watch(account)
    for _ in range(10):
        for value in (31, 20):
            feed(message(account, f'{{"t":{value}}}'))
    assert len(seen()) == 6
    Observation.objects.all().delete()  # a worker runs again
    for value in (31, 32, 20, 33):
        feed(message(account, f'{{"t":{value}}}'))
    # The first one found that there is room.
    assert seen()[-2:] == [(event.pk, CLEARED, "20"), (event.pk, MATCHED, "33")]


def test_values_of_what_waits_are_bounded(
    feed: Feed, account: Account, little_room: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(waiting, "MOST_BYTES", 10)
    account.device("d1")
    watch(account, "=", "long enough", source="t")
    for _ in range(3):
        feed(message(account, '{"t":"long enough"}'))
    assert len(seen()) == 1
