"""What became of messages is handed over to the open pages of their users, and only then."""

import pytest
from feeding import Feed, message
from recorder import Recorder
from support import Account

from ingest import after_commit
from ingest.batch import Batch
from ingest.message import Kind
from thingscale.processes.live_feed import MAX_MESSAGES
from thingscale.provisioning.actions import configure_device
from thingscale.streams.actions import datapoints


@pytest.fixture
def pages(monkeypatch: pytest.MonkeyPatch) -> Recorder:
    recorder = Recorder()
    monkeypatch.setattr(after_commit, "LIVE_FEED", recorder)
    monkeypatch.setattr(datapoints, "LIVE_FEED", recorder)
    return recorder


def test_a_batch_is_told_to_those_who_watch(
    pages: Recorder, feed: Feed, account: Account, outsider: Account
) -> None:
    pages.watched = frozenset({account.user.pk})
    account.device("d1")
    account.device("d2", 1)
    outsider.device("d1")
    feed(message(account, "0"))
    pages.heard.clear()
    pages.counts.clear()
    feed(
        message(account, "1"),
        message(account, "{", dedupe=5),
        message(outsider, "2"),
        message(account, "3", "d2", tag="new"),
        message(account, "4", "unknown"),
        message(account, "a=1", kind=Kind.STATE),
        message(account, "5"),
        message(account, "6", dedupe=6),
        message(account, "6", dedupe=6, repeated=True),
    )
    assert pages.short == [
        ("stored", None, True, b"1"),
        ("rejected", "BAD_JSON_FORMAT", False, b"{"),
        ("stored", None, True, b"3"),
        ("held", "NEW_DEVICE_FOUND", False, b"4"),
        ("stored", None, False, b'{"a":1}'),
        ("stored", None, True, b"5"),
        ("stored", None, True, b"6"),
        ("duplicate", None, False, b"6"),
    ]
    assert [heard.channel for heard in pages.heard[:3:2]] == [account.channel().pk, account.channel(1).pk]
    assert pages.heard[2].tag == "new"
    assert pages.counts == {"stored": 5, "held": 1, "rejected": 1, "duplicate": 1}


def test_of_many_messages_few_are_handed_over(pages: Recorder, feed: Feed, account: Account) -> None:
    pages.watched = frozenset({account.user.pk})
    account.device("d1")
    account.device("d2", 1)
    feed(message(account), message(account, device_id="d2"))
    pages.heard.clear()
    pages.counts.clear()
    feed(message(account, "early", kind=Kind.BINARY, device_id="d2"), *[message(account)] * 1_000)
    assert pages.counts == {"stored": 1_001}
    assert len(pages.heard) == 1 + MAX_MESSAGES
    assert pages.heard[0].channel == account.channel(1).pk


@pytest.mark.parametrize("watched", [None, frozenset(), frozenset({0})])
def test_nothing_is_handed_over_when_nobody_looks(
    pages: Recorder,
    feed: Feed,
    account: Account,
    watched: frozenset[int] | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if not watched:
        monkeypatch.setattr(Batch, "events", None)
    pages.watched = watched
    account.device("d1")
    feed(message(account))
    assert pages.heard == []


def test_a_failure_to_tell_does_not_matter_to_the_store(
    pages: Recorder, feed: Feed, account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    pages.watched = frozenset({account.user.pk})
    monkeypatch.setattr(pages, "publish", lambda *messages: 1 / 0)
    account.device("d1")
    feed(message(account, "1"))
    assert account.stored() == [("1", None)]


def test_held_messages_are_told_once_they_are_stored(pages: Recorder, feed: Feed, account: Account) -> None:
    device = account.device("d1", None)
    feed(message(account, "1"))
    pages.watched = frozenset({account.user.pk})
    configure_device(device, {"mapped_channel": account.channel(3)})
    assert pages.short == [("stored", None, True, b"1")]
    assert (pages.heard[0].device, pages.heard[0].channel) == ("d1", account.channel(3).pk)


def test_of_an_array_the_newest_of_each_tag_is_told_and_all_its_datapoints_are_counted(
    pages: Recorder, feed: Feed, account: Account
) -> None:
    pages.watched = frozenset({account.user.pk})
    account.device("d1")
    array = b'[{"value":2,"at":1769834732},{"value":1,"at":1769834731},{"value":3,"tag":"a","at":1769834733}]'
    feed(message(account, array), message(account, b"[{}]"), message(account, array, "new"))
    assert pages.short == [
        ("stored", None, True, b"2"),
        ("stored", None, True, b"3"),
        ("rejected", "BAD_JSON_FORMAT", False, b"[{}]"),
        ("held", "NEW_DEVICE_FOUND", False, array),
    ]
    assert [(told.tag, told.at) for told in pages.heard[:2]] == [
        (None, 1_769_834_732_000_000),
        ("a", 1_769_834_733_000_000),
    ]
    assert pages.heard[2].detail.startswith("[0].value: is missing")
    assert pages.counts == {"stored": 3, "held": 1, "rejected": 1}
