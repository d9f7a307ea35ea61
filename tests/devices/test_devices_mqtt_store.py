"""Durable sessions, their queues, and retained messages, as the writer keeps them."""

import uuid
from collections.abc import Iterator
from datetime import timedelta

import psycopg
import pytest
from django.utils import timezone
from support import Account

from ingest.mqtt.packets import topic_matches
from ingest.service import connect
from thingscale.accounts.models import User
from thingscale.devices.models import ClientSession, Queued, QueuedMessages, Retained, Subscription
from thingscale.devices.mqtt_store import queues, retained, sessions, subscriptions
from thingscale.devices.mqtt_store.queues import Copies, Progress
from thingscale.devices.mqtt_store.retained import Retain
from thingscale.devices.mqtt_store.sessions import Disconnected, Open, Opened
from thingscale.devices.mqtt_store.subscriptions import StoredSubscription
from thingscale.lib.own_topics import kept
from thingscale.provisioning.account_purge import purge_closed_accounts
from thingscale.streams.exactly_once import commit_log

GATEWAY = uuid.uuid4()


@pytest.fixture
def cursor(transactional_db: None) -> Iterator[psycopg.Cursor]:
    with connect() as connection, connection.cursor() as cursor:
        yield cursor


def open_one(
    cursor: psycopg.Cursor, account: Account | User, name: str = "c1", most: int = 10_000, **given: object
) -> Opened:
    options = {"clean": False, "stored": True, "expiry": 100} | given
    User.objects.filter(pk=user(account)).update(max_durable_sessions=most)
    return sessions.open_sessions(
        cursor,
        GATEWAY,
        [Open(user(account), name, **options)],  # type: ignore[arg-type]
        commit_log.fence,
    )[0]


def user(account: Account | User) -> int:
    return account.pk if isinstance(account, User) else account.user.pk


def packets(*names: str) -> list[bytes]:
    return [name.encode() for name in names]


def waiting(cursor: psycopg.Cursor, session: int, seq: int = 0) -> list[tuple[int, int, bytes]]:
    return [
        (row.seq, row.last_seq, row.packets)
        for row in queues.read_queues(cursor, [(session, seq)], 1000)[session]
    ]


def test_a_session_is_there_again_with_what_it_had(cursor: psycopg.Cursor, account: Account) -> None:
    first = open_one(cursor, account)
    assert (first.present, first.refused) == (False, False)
    subscriptions.subscribe(cursor, [(first.session, StoredSubscription("", "a/#", 1, 7))])
    queues.enqueue(cursor, [Copies(((first.session, 1, (7,)),), packets("m1", "m2"))])
    sessions.disconnect(cursor, [Disconnected(first.session, 100, None)])
    again = open_one(cursor, account)
    assert (again.session, again.present, again.next_seq, again.done_seq) == (first.session, True, 3, 0)
    assert again.subscriptions == [StoredSubscription("", "a/#", 1, 7)]
    assert waiting(cursor, again.session) == [(1, 2, b"m1m2")]


@pytest.mark.parametrize("end", ["clean", "over", "left"])
def test_what_ends_leaves_nothing(cursor: psycopg.Cursor, account: Account, end: str) -> None:
    first = open_one(cursor, account)
    subscriptions.subscribe(cursor, [(first.session, StoredSubscription("", "a", 1, 0))])
    queues.enqueue(cursor, [Copies(((first.session, 1, ()),), packets("m1"))])
    if end == "left":
        sessions.disconnect(cursor, [Disconnected(first.session, 0, None)])
    if end == "over":
        ClientSession.objects.update(ends_at=timezone.now() - timedelta(seconds=1))
    again = open_one(cursor, account, clean=end == "clean", stored=False)
    assert (again.session, again.present) == (0, False)
    assert again.ended == (0 if end == "left" else first.session)
    for model in (ClientSession, Subscription, Queued, QueuedMessages):
        assert not model.objects.exists()


def test_an_account_has_its_share_of_sessions(
    cursor: psycopg.Cursor, account: Account, outsider: User
) -> None:
    assert not open_one(cursor, account, "c1", most=1).refused
    assert open_one(cursor, account, "c2", most=1).refused
    assert not open_one(cursor, outsider, "c2", most=1).refused
    assert open_one(cursor, account, "c1", most=1).present


def test_numbers_and_messages_of_several_sessions(cursor: psycopg.Cursor, account: Account) -> None:
    one, two = (open_one(cursor, account, name).session for name in ("c1", "c2"))
    both = ((one, 1, ()), (two, 2, (5,)))
    batch = [
        Copies(both, packets("a", "b")),
        Copies(((two, 2, ()),), packets("c")),
        Copies(both, packets("d")),
    ]
    assert queues.enqueue(cursor, batch) == {one: (1, 3), two: (1, 4)}
    assert waiting(cursor, one) == [(1, 2, b"ab"), (3, 3, b"d")]
    assert waiting(cursor, two) == [(1, 2, b"ab"), (3, 3, b"c"), (4, 4, b"d")]
    assert waiting(cursor, two, 2) == [(1, 2, b"ab"), (3, 3, b"c"), (4, 4, b"d")]
    assert queues.enqueue(cursor, [Copies(both, packets("e"))]) == {one: (4, 1), two: (5, 1)}


def test_what_all_have_acknowledged_is_gone(cursor: psycopg.Cursor, account: Account) -> None:
    one, two = (open_one(cursor, account, name).session for name in ("c1", "c2"))
    queues.enqueue(cursor, [Copies(((one, 1, ()), (two, 1, ())), packets("a", "b"))])
    queues.progress(cursor, GATEWAY, {one: Progress(one, 1, [], [], [9])})
    assert waiting(cursor, one) == [(1, 2, b"ab")]
    queues.progress(cursor, GATEWAY, {one: Progress(one, 2, [], [], [])})
    assert waiting(cursor, one) == []
    assert QueuedMessages.objects.count() == 1
    queues.progress(cursor, GATEWAY, {two: Progress(two, 0, [2], [1], [3, 4])})
    again = open_one(cursor, account, "c2")
    assert (again.done_seq, again.done, again.received_seq, again.received) == (0, [2], [1], [3, 4])
    queues.progress(cursor, GATEWAY, {two: Progress(two, 2, [], [], [])})
    assert not QueuedMessages.objects.exists()
    assert set(ClientSession.objects.values_list("queued_bytes", flat=True)) == {0}


def test_a_full_queue_leaves_out_and_counts(
    cursor: psycopg.Cursor, account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ClientSession, "MAX_QUEUED", 3)
    one, two = (open_one(cursor, account, name).session for name in ("c1", "c2"))
    queues.enqueue(cursor, [Copies(((one, 1, ()),), packets("a", "b"))])
    found = queues.enqueue(cursor, [Copies(((one, 1, ()), (two, 1, ())), packets("c", "d"))])
    assert found == {one: (3, 1), two: (1, 2)}
    assert waiting(cursor, one)[1] == (3, 3, b"cd")  # of which the first one is its
    monkeypatch.setattr(ClientSession, "MAX_QUEUED", 100)
    monkeypatch.setattr(ClientSession, "MAX_QUEUED_BYTES", 5)
    assert queues.enqueue(cursor, [Copies(((two, 1, ()),), packets("1234", "5"))]) == {two: (3, 0)}
    assert list(ClientSession.objects.order_by("pk").values_list("dropped", flat=True)) == [1, 2]


def test_sessions_of_a_full_account_get_no_more_and_keep_what_they_have(
    cursor: psycopg.Cursor, account: Account, outsider: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And what is left out is counted in each; those of another account get theirs."""
    monkeypatch.setattr(queues, "SPARE_BYTES", 0)
    one, two = (open_one(cursor, account, name).session for name in ("c1", "c2"))
    other = open_one(cursor, outsider).session
    queues.enqueue(cursor, [Copies(((one, 1, ()),), packets("a"))])
    batch = [
        Copies(((one, 1, ()), (two, 1, ())), packets("b", "c")),
        Copies(((other, 1, ()),), packets("d")),
    ]
    assert queues.enqueue(cursor, batch, {account.user.pk}) == {one: (2, 0), two: (1, 0), other: (1, 1)}
    assert [waiting(cursor, key) for key in (one, two, other)] == [[(1, 1, b"a")], [], [(1, 1, b"d")]]
    assert list(ClientSession.objects.order_by("pk").values_list("dropped", flat=True)) == [2, 2, 0]
    assert queues.enqueue(cursor, batch[:1]) == {one: (2, 2), two: (1, 2)}


def test_a_session_that_keeps_up_goes_on_though_its_account_is_full(
    cursor: psycopg.Cursor, account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What others of the account leave in their queues takes nothing from it."""
    monkeypatch.setattr(queues, "SPARE_BYTES", 10)
    behind, keeps_up = (open_one(cursor, account, name).session for name in ("c1", "c2"))
    both, full = ((behind, 1, ()), (keeps_up, 1, ())), {account.user.pk}
    queues.enqueue(cursor, [Copies(((behind, 1, ()),), [b"x" * 8])])
    for number in range(1, 6):
        found = queues.enqueue(cursor, [Copies(both, [b"1234", b"5"])], full)
        assert found == {behind: (2, 0), keeps_up: (2 * number - 1, 2)}
        queues.progress(cursor, GATEWAY, {keeps_up: Progress(keeps_up, 2 * number, [], [], [])})
    assert queues.enqueue(cursor, [Copies(both, [b"x" * 11])], full)[keeps_up] == (11, 0)
    assert list(ClientSession.objects.order_by("pk").values_list("dropped", flat=True)) == [11, 1]


def test_retained_messages(cursor: psycopg.Cursor, account: Account, outsider: User) -> None:
    now = timezone.now()
    topics = ["a", "a/b", "a/b/c", "a0", "a-b/b", "x/b", "é/b/'%", "a/.+"]
    for user in (account.user.pk, outsider.pk):
        retained.retain(cursor, [Retain(user, topic, b"1", 1, b"\0", now, None) for topic in topics])
    past = now - timedelta(seconds=1)
    retained.retain(cursor, [Retain(account.user.pk, "a/old", b"1", 1, b"\0", past, past)])
    for filter_ in [
        "#",
        "a",
        "a/#",
        "a/b",
        "+/b",
        "+/b/#",
        "a/+",
        "+",
        "+/+/+",
        "é/#",
        "a/.+",
        "nothing",
        "a/b/#",
    ]:
        found = retained.read_retained(cursor, account.user.pk, filter_, "", 100)
        assert [row.topic for row in found] == sorted(t for t in topics if topic_matches(filter_, t)), filter_
    first = retained.read_retained(cursor, account.user.pk, "#", "", 3)
    rest = retained.read_retained(cursor, account.user.pk, "#", first[-1].topic, 100)
    assert [row.topic for row in [*first, *rest]] == sorted(topics)


def test_retained_messages_of_topics_without_a_token(cursor: psycopg.Cursor, account: Account) -> None:
    """They are found by filters without a token, and only by those."""
    topics, now = ["a", "/a", "a/b", "b/a/c"], timezone.now()
    both = {**{topic: topic for topic in topics}, **{kept(topic): topic for topic in topics}}
    retained.retain(cursor, [Retain(account.user.pk, name, b"1", 1, b"\0", now, None) for name in both])
    for filter_ in ["#", "+/#", "+", "+/+", "+/a", "+/a/#", "a", "a/#"]:
        for name in (filter_, kept(filter_)):
            found = retained.read_retained(cursor, account.user.pk, name, "", 100)
            without = name != filter_
            expected = sorted(
                name for name, t in both.items() if topic_matches(filter_, t) and (name != t) is without
            )
            assert [row.topic for row in found] == expected, name


def test_the_last_retained_message_of_a_topic_counts(cursor: psycopg.Cursor, account: Account) -> None:
    now, user = timezone.now(), account.user.pk
    retained.retain(cursor, [Retain(user, "t", text, 1, b"\0", now, None) for text in (b"1", b"2")])
    assert [bytes(row.payload) for row in Retained.objects.all()] == [b"2"]
    retained.retain(cursor, [Retain(user, "t", text, 1, b"\0", now, None) for text in (b"3", b"")])
    assert not Retained.objects.exists()
    retained.retain(cursor, [Retain(user, "t", text, 1, b"\0", now, None) for text in (b"", b"4")])
    assert [bytes(row.payload) for row in Retained.objects.all()] == [b"4"]


def test_a_read_is_bounded_in_bytes(cursor: psycopg.Cursor, account: Account) -> None:
    session = open_one(cursor, account).session
    for _ in range(5):
        queues.enqueue(cursor, [Copies(((session, 1, ()),), [b"x" * 40, b"y" * 40])])
    (rows,) = queues.read_queues(cursor, [(session, 3)], 100).values()
    assert [(row.seq, row.last_seq) for row in rows] == [(3, 4), (5, 6)]
    (rows,) = queues.read_queues(cursor, [(session, 4)], 1).values()
    assert [(row.seq, row.last_seq) for row in rows] == [(3, 4)]


def test_what_a_crash_leaves_may_have_been_sent(cursor: psycopg.Cursor, account: Account) -> None:
    session = open_one(cursor, account).session
    queues.enqueue(cursor, [Copies(((session, 1, ()),), packets("a", "b"))])
    sessions.disconnect_dead_gateways(cursor, ())  # as the next gateway does when it starts
    queues.enqueue(cursor, [Copies(((session, 1, ()),), packets("c"))])
    assert open_one(cursor, account).sent_seq == 2


def test_a_will_is_kept_until_it_is_published(cursor: psycopg.Cursor, account: Account) -> None:
    for name, expiry, will_in in [("due", 100, 0), ("ended", 0, 0), ("waits", 100, 50)]:
        opened = open_one(cursor, account, name, will=name.encode())
        sessions.disconnect(cursor, [Disconnected(opened.session, expiry, will_in)])
    wills, following = sessions.claim_wills(cursor, [])
    assert {(will.client_id, will.packet) for will in wills} == {("due", b"due"), ("ended", b"ended")}
    assert following is not None
    assert 20 < following <= sessions.CLAIM_SECONDS  # then these may be claimed again
    sessions.expire_sessions(cursor, 10)
    assert ClientSession.objects.count() == 3
    sessions.delete_wills(cursor, [will.session for will in wills])
    wills, following = sessions.claim_wills(cursor, [])
    assert not wills
    assert following is not None
    assert 40 < following <= 50
    assert dict(ClientSession.objects.values_list("client_id", "will_at"))["due"] is None
    assert not ClientSession.objects.filter(client_id="ended").exists()


def test_a_will_goes_out_when_its_session_ends_and_not_when_its_client_is_back(
    cursor: psycopg.Cursor, account: Account
) -> None:
    keys = {}
    for name in ("back", "ends", "waits"):
        keys[name] = open_one(cursor, account, name, will=b"w", will_delay=50).session
        sessions.disconnect(cursor, [Disconnected(keys[name], 100, 50)])
    open_one(cursor, account, "back", will=b"new")
    wills, _ = sessions.claim_wills(cursor, [keys["back"], keys["ends"]])
    assert [will.client_id for will in wills] == ["ends"]
    sessions.delete_wills(cursor, [keys["back"], keys["ends"]])
    kept = ClientSession.objects.exclude(will=None).values_list("client_id", "will")
    assert {name: bytes(will or b"") for name, will in kept} == {"back": b"new", "waits": b"w"}


def test_a_session_is_not_over_before_its_will_is_published(cursor: psycopg.Cursor, account: Account) -> None:
    session = open_one(cursor, account, will=b"w").session
    sessions.disconnect(cursor, [Disconnected(session, 100, 100)])
    ClientSession.objects.update(ends_at=timezone.now() - timedelta(seconds=1))
    sessions.expire_sessions(cursor, 10)
    assert open_one(cursor, account).session == session


def test_clients_of_gateways_that_are_gone_have_left(cursor: psycopg.Cursor, account: Account) -> None:
    """Their wills wait for their delay, or the session's end; what has no will, and is not to last, ends."""
    for name, expiry, will, delay in [
        ("clean", 0, b"packet", 7),
        ("lasts", 9, b"packet", 7),
        ("without", 9, None, 0),
        ("nothing", 0, None, 0),
    ]:
        open_one(cursor, account, name, expiry=expiry, will=will, will_delay=delay)
    sessions.disconnect_dead_gateways(cursor, ())
    assert {each.client_id: each.will_waits for each in sessions.load_sessions(cursor)} == {
        "lasts": True,
        "without": False,
    }
    assert ClientSession.objects.filter(ends_at=None).count() == 0
    assert not ClientSession.objects.filter(client_id="nothing").exists()
    wills, following = sessions.claim_wills(cursor, [])
    assert [will.client_id for will in wills] == ["clean"]
    assert following is not None
    assert 2 < following <= 7


def test_sessions_that_ended_with_their_gateway_are_told(cursor: psycopg.Cursor, account: Account) -> None:
    """Of those whose client was the last that they had: other gateways know them by their subscriptions."""
    assert sessions.disconnect_dead_gateways(cursor, ()) is None
    keys = {}
    for name, expiry, will in [("ends", 0, None), ("ends with a will", 0, b"w"), ("lasts", 9, None)]:
        keys[name] = open_one(cursor, account, name, expiry=expiry, will=will).session
        subscriptions.subscribe(cursor, [(keys[name], StoredSubscription("", "a", 1, 0))])
    open_one(cursor, account, "was never known", expiry=0, will=b"w")
    ended = sessions.disconnect_dead_gateways(cursor, ())
    assert ended == [(keys[name], account.user.pk) for name in ("ends", "ends with a will")]
    assert [each.client_id for each in sessions.load_sessions(cursor)] == ["lasts"]


def test_what_a_gateway_has_claimed_and_not_published_is_given_back_when_it_is_killed(
    cursor: psycopg.Cursor, account: Account
) -> None:
    """By claim_wills, or because it was about to publish it when the client left; not what waits."""
    cases = [("claimed", 9, 0, 0), ("leaving", 9, 0, sessions.CLAIM_SECONDS), ("ended", 0, 5, 0)]
    for name, expiry, delay, will_in in [*cases, ("waits", 90, 80, 80), ("session waits", 70, 80, 70)]:
        opened = open_one(cursor, account, name, expiry=expiry, will=b"w", will_delay=delay)
        sessions.disconnect(cursor, [Disconnected(opened.session, expiry, will_in)])
    assert {will.client_id for will in sessions.claim_wills(cursor, [])[0]} == {"claimed", "ended"}
    sessions.disconnect_dead_gateways(cursor, ())
    wills, _ = sessions.claim_wills(cursor, [])
    assert {will.client_id for will in wills} == {"claimed", "leaving", "ended"}
    sessions.disconnect_dead_gateways(cursor, [1])
    assert not sessions.claim_wills(cursor, [])[0], "another one is about to publish them"


def test_a_closed_account_leaves_nothing(cursor: psycopg.Cursor, account: Account, outsider: User) -> None:
    for owner in (account, outsider):
        session = open_one(cursor, owner).session
        subscriptions.subscribe(cursor, [(session, StoredSubscription("", "a", 1, 0))])
        queues.enqueue(cursor, [Copies(((session, 1, ()),), packets("m"))])
        retained.retain(cursor, [Retain(user(owner), "t", b"1", 1, b"\0", timezone.now(), None)])
    User.objects.filter(pk=account.user.pk).update(closed_at=timezone.now())
    purge_closed_accounts()
    for model in (ClientSession, Subscription, Queued, QueuedMessages, Retained):
        assert model.objects.count() == 1, model
    assert ClientSession.objects.get().account_id == outsider.pk


def test_what_is_retained_for_a_while_goes(cursor: psycopg.Cursor, account: Account) -> None:
    past = timezone.now() - timedelta(seconds=1)
    retained.retain(cursor, [Retain(account.user.pk, "t", b"1", 1, b"\0", past, past)])
    sessions.expire_sessions(cursor, 10)
    assert not Retained.objects.exists()
