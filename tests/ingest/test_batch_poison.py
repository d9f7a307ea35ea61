"""A row that PostgreSQL refuses, and months without a partition: neither disturbs its neighbours."""

import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import psycopg
import pytest
from connecting import V2, Connection
from feeding import (
    STORED,
    Feed,
    another_transaction,
    ask,
    held,
    message,
    reasons,
    rejected,
    terminate,
    values,
)
from support import Account

from ingest import writer
from ingest.batch import Item
from ingest.message import FAILED, Kind, Outcome, RawMessage, Reason
from thingscale.devices.models import RejectedMessage
from thingscale.lib.clock import now_us, to_us
from thingscale.streams import partitions, retention
from thingscale.streams.models import Latest
from thingscale.streams.writer import Partitions

UNSTORABLE = rejected(Reason.UNSTORABLE)


@pytest.fixture
def known(account: Account) -> Account:
    account.device("d1")
    return account


@pytest.fixture
def credulous(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if decode() let everything pass."""
    monkeypatch.setattr(writer, "prepare", lambda raw: Item(raw, raw.payload, None))


def month(year: int, number: int, day: int = 1, hour: int = 0) -> int:
    return to_us(datetime(year, number, day, hour, tzinfo=UTC))


def drop_partition(name: str) -> None:
    ask(f"DROP TABLE {name}")


@pytest.mark.usefixtures("credulous")
@pytest.mark.parametrize("value", ["{", r'"\u0000"', r'"\ud800"', "1e200000", b"\xff", b"\0"])
def test_a_poison_row_is_recorded_and_its_neighbours_are_stored(
    feed: Feed, known: Account, value: str | bytes
) -> None:
    sent = [message(known, str(number)) for number in range(20)]
    sent[7] = message(known, value)
    assert feed(*sent) == [UNSTORABLE if number == 7 else STORED for number in range(20)]
    assert values(known) == [str(number) for number in range(20) if number != 7]
    assert reasons(known) == ["UNSTORABLE"]
    assert Latest.objects.get().count == 19


@pytest.mark.usefixtures("credulous")
def test_several_poison_rows_among_several_callers(feed: Feed, known: Account) -> None:
    answers = [feed.send(message(known, "{"), message(known, str(number))) for number in range(10)]
    assert [answer.result(60) for answer in answers] == [[UNSTORABLE, STORED]] * 10
    assert len(values(known)) == len(reasons(known)) == 10


@pytest.mark.usefixtures("credulous")
def test_a_poison_row_that_would_be_held_or_a_state(feed: Feed, known: Account) -> None:
    known.device("d2", None)
    sent = [message(known, "{", "d2"), message(known, "1"), message(known, "{", kind=Kind.STATE)]
    assert feed(*sent) == [UNSTORABLE, STORED, UNSTORABLE]


@pytest.mark.usefixtures("credulous")
@pytest.mark.parametrize(
    "fields",
    [
        pytest.param({"device_id": "a\0b"}, id="NUL in the device id"),
        pytest.param({"device_id": "a\ud800"}, id="half a surrogate pair in the device id"),
        pytest.param({"device_id": "x" * 65}, id="long device id"),
        pytest.param({"tag": "t\0"}, id="NUL in the tag"),
        pytest.param({"received_at": 2**62}, id="time beyond the calendar"),
        pytest.param({"dedupe": 2**63, "tag": "t"}, id="dedupe key beyond 64 bits"),
    ],
)
def test_what_a_connector_must_never_hand_over_does_not_stop_the_writer(
    feed: Feed, known: Account, fields: dict[str, Any]
) -> None:
    sent = [message(known, "1"), message(known, "2", **fields), message(known, "3")]
    assert feed(*sent) == [STORED, UNSTORABLE, STORED]
    assert values(known) == ["1", "3"]
    assert feed(message(known, "4")) == [STORED]


def test_an_account_that_is_gone_does_not_stop_the_writer(feed: Feed, known: Account) -> None:
    gone = message(known)._replace(user=known.user.pk + 1000)
    stored, refused = feed(message(known, "1"), gone)
    assert (stored, refused.reason) == (STORED, Reason.MAX_DEVICE_REACH)
    assert RejectedMessage.objects.count() == 0


def test_a_month_without_a_partition_gets_one(feed: Feed, known: Account) -> None:
    old = [month(2001, 3, 31, 23) + 3_599_999_999, month(2001, 4), month(2001, 12, 31, 23), month(2002, 1)]
    sent = [message(known, str(place), received_at=time) for place, time in enumerate([*old, now_us()])]
    assert feed(*sent) == [STORED] * 5
    assert values(known) == ["0", "1", "2", "3", "4"]
    for name, rows in {"2001_03": 1, "2001_04": 1, "2001_12": 1, "2002_01": 1}.items():
        assert ask(f"SELECT count(*) FROM datapoint_{name} WHERE channel = %s", known.channel().pk) == rows


def test_a_month_that_has_one_waits_for_nobody_who_makes_another(feed: Feed, known: Account) -> None:
    old = month(2003, 4, 7)
    feed(message(known, "1", received_at=old))
    feed(message(known, "1"))
    with another_transaction("SELECT pg_advisory_xact_lock(%s)", partitions.LOCK):
        assert feed.send(message(known, "2", received_at=old)).result(60) == [STORED]


def believe(feed: Feed, begin: int) -> None:
    """That there are partitions from this moment on. The writer remembers no past month, and the present one
    is needed."""
    feed.writer._partitions._known = begin, 2**62


def test_a_partition_that_was_just_dropped_is_made_again(feed: Feed, known: Account) -> None:
    old = month(2003, 5, 7)
    for _ in range(2):
        assert feed(message(known, "1", received_at=old)) == [STORED]
        drop_partition("datapoint_2003_05")
        believe(feed, old)
    assert feed(message(known, "2", received_at=old)) == [STORED]
    assert values(known) == ["2"]
    assert reasons(known) == []


@pytest.mark.usefixtures("credulous")
def test_also_when_that_happens_several_times(
    feed: Feed, known: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each batch that has to be sent again can meet the next drop, also one with a row to refuse."""
    ensure, drops = Partitions.ensure, iter(range(5))

    def ensure_and_drop(
        self: Partitions, connection: psycopg.Connection, times: Sequence[int], now: int
    ) -> None:
        ensure(self, connection, times, now)
        if next(drops, None) is not None:
            connection.execute("DROP TABLE datapoint_2003_07")

    monkeypatch.setattr(Partitions, "ensure", ensure_and_drop)
    old = month(2003, 7, 7)
    sent = [message(known, value, received_at=old) for value in ("1", "{", "2")]
    assert feed(*sent) == [STORED, UNSTORABLE, STORED]
    assert values(known) == ["1", "2"]
    assert next(drops, None) is None


def test_also_when_the_connection_was_lost_before(feed: Feed, known: Account) -> None:
    """Two troubles in a row are no reason to call the message unstorable."""
    old = month(2003, 6, 7)
    feed(message(known, "1", received_at=old))
    drop_partition("datapoint_2003_06")
    believe(feed, old)
    terminate(feed.process)
    assert feed(message(known, "2", received_at=old)) == [STORED]
    assert values(known) == ["2"]


def test_dropping_empty_partitions_loses_nothing_that_comes_meanwhile(feed: Feed, known: Account) -> None:
    """Datapoints go into a past month while its partition, empty each time, is being dropped."""
    old, stop = month(2004, 7, 7), threading.Event()
    answers: list[Future[list[Outcome]]] = []

    def keep_sending() -> None:
        while not stop.is_set():
            answers.append(feed.send(one(len(answers))))
            answers[-1].result(60)

    def one(number: int) -> RawMessage:
        return message(known, str(number), received_at=old + number % 3 * 31 * 86_400_000_000)

    sender = threading.Thread(target=keep_sending)
    sender.start()
    for _ in range(15):
        retention.drop_empty_partitions()
    stop.set()
    sender.join(60)
    assert {answer.result()[0] for answer in answers} == {STORED}
    assert len(values(known)) == len(answers) > 0


@contextmanager
def broken(sql: str, mend: str) -> Iterator[None]:
    """The database as a change that went wrong leaves it."""
    ask(sql)
    try:
        yield
    finally:
        ask(mend)


NOVEL_COLUMN = (
    "ALTER TABLE devices_device ADD COLUMN novel int NOT NULL DEFAULT 0;"
    " ALTER TABLE devices_device ALTER COLUMN novel DROP DEFAULT",
    "ALTER TABLE devices_device DROP COLUMN novel",
)
CONSTRAINT = (
    "ALTER TABLE streams_tag ADD CONSTRAINT novel CHECK (name <> 'kitchen')",
    "ALTER TABLE streams_tag DROP CONSTRAINT novel",
)
RENAMED = (
    "ALTER TABLE devices_rejectedmessage RENAME COLUMN reason TO why",
    "ALTER TABLE devices_rejectedmessage RENAME COLUMN why TO reason",
)


@pytest.mark.parametrize(
    ("change", "payload", "device_id", "fields", "mended"),
    [
        pytest.param(NOVEL_COLUMN, "7", "new", {}, held(Reason.NEW_DEVICE_FOUND), id="first contact"),
        pytest.param(CONSTRAINT, "7", "d1", {"tag": "kitchen"}, STORED, id="a new tag"),
        pytest.param(RENAMED, "{", "d1", {}, rejected(Reason.BAD_JSON_FORMAT), id="a record of a rejection"),
    ],
)
def test_i7_what_no_payload_has_caused_is_not_rejected_and_stops_no_neighbour(
    feed: Feed,
    known: Account,
    caplog: pytest.LogCaptureFixture,
    change: tuple[str, str],
    payload: str,
    device_id: str,
    fields: dict[str, Any],
    mended: Outcome,
) -> None:
    sent = message(known, payload, device_id, **fields)
    with broken(*change):
        assert feed(message(known, "1"), sent, message(known, "2")) == [STORED, FAILED, STORED]
        assert values(known) == ["1", "2"]
    assert reasons(known) == []
    assert [record.levelname for record in caplog.records] == ["ERROR"]
    assert payload not in caplog.text.split(":")[-1]
    assert feed(sent) == [mended]


def test_i7_http_is_answered_try_again(http: Connection, account: Account) -> None:
    headers: dict[str, str | bytes] = {"X-DEVICETOKEN": account.device_token, "X-DEVICEID": "new"}
    with broken(*NOVEL_COLUMN):
        reply = http.send("POST", V2, headers, b"1")
    assert (reply.short, int(reply.headers["retry-after"]) > 0) == ((503, "TRY_AGAIN"), True)
    assert http.send("POST", V2, headers | {"X-DEVICEID": "another"}, b"1").status == 201
    assert reasons(account) == []
