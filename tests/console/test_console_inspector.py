"""The Inspector as it comes from the server; what it does live is in static/console/inspector.js."""

import json
import re
from collections.abc import Callable

from arrived import MOST_QUERIES, large, new_device, reject, store
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from support import Account

from console.rejection_texts import REASONS
from thingscale.devices.models import HeldMessage, RejectedMessage
from thingscale.streams import recent_messages

SignIn = Callable[[Account], Client]


def rows(client: Client, query: str = "") -> list[tuple[str, bool]]:
    """(status, shown) of each, the newest first."""
    page = client.get(f"/inspector/{query}").text.partition("<template")[0]
    return [(status, not hidden) for status, hidden in re.findall(r'<tr data-status="(\w+)"( hidden)?', page)]


def test_an_empty_one_says_how_to_send(account: Account, signed_in: SignIn) -> None:
    page = signed_in(account).get("/inspector/").text
    assert "Nothing has come yet." in page
    assert 'href="/start/"' in page


def test_the_newest_of_each_status_are_there_at_first(account: Account, signed_in: SignIn) -> None:
    new_device(account)
    reject(account, source="json/a/b/c")
    store(account, tag="kitchen")
    client = signed_in(account)
    assert rows(client) == [("stored", True), ("rejected", True), ("held", True)]
    page = client.get("/inspector/").text
    for text in ("Tag kitchen", "json/a/b/c", "It could not be read", "{oops"):
        assert text in page


def test_filters_work_without_scripts(account: Account, signed_in: SignIn) -> None:
    new_device(account, "Pump-1")
    reject(account, "valve")
    client = signed_in(account)
    assert rows(client, "?status=held") == [("rejected", False), ("held", True)]
    assert rows(client, "?device=pump") == [("rejected", False), ("held", True)]
    assert rows(client, "?text=OOPS") == [("rejected", True), ("held", False)]
    nothing = client.get('/inspector/?text="><b>').text
    assert "Nothing here matches." in nothing
    assert 'value="&quot;&gt;&lt;b&gt;"' in nothing


def test_scripts_are_told_the_reasons(account: Account, signed_in: SignIn) -> None:
    page = signed_in(account).get("/inspector/").text
    found = re.search(r'<script id="reasons" type="application/json">(.*?)</script>', page)
    assert found
    assert json.loads(found[1]) == REASONS


def test_what_was_sent_is_shown_as_text(account: Account, signed_in: SignIn) -> None:
    reject(account, payload=b"<script>alert(1)</script>\xff\x00")
    store(account, value=b'"<img src=x>"')
    page = signed_in(account).get("/inspector/").text
    assert "<script>alert" not in page
    assert "<img" not in page


def test_an_outsider_sees_nothing(account: Account, outsider: Account, signed_in: SignIn) -> None:
    new_device(account)
    reject(account)
    store(account)
    assert rows(signed_in(outsider)) == []


def test_the_queries_of_a_large_account(account: Account, signed_in: SignIn) -> None:
    large(account)
    client = signed_in(account)
    with CaptureQueriesContext(connection) as queries:
        assert len(rows(client)) == 30  # held: the channels' totals are made up
    assert len(queries) <= MOST_QUERIES


def test_the_newest_held_messages_of_all_devices(account: Account, outsider: Account) -> None:
    first, second = new_device(account, "a", 1), new_device(account, "b", 2)
    new_device(outsider, "c", 3)
    HeldMessage.objects.create(device=first, value=4, tag="kitchen", received_at=timezone.now())
    account.device("unmapped", None).held.create(value=5, received_at=timezone.now())
    found = recent_messages.held(account.user, 3)
    assert [(a.device, a.value, a.tag) for a in found] == [
        ("unmapped", "5", None),
        ("a", "4", "kitchen"),
        ("b", "2", None),
    ]
    assert [a.reason for a in found] == ["NO_MAPPED_CH", "NEW_DEVICE_FOUND", "NEW_DEVICE_FOUND"]
    assert found[2].device_pk == second.pk


def test_the_newest_datapoints_of_all_channels(account: Account, outsider: Account) -> None:
    for number, value in ((1, b"1"), (2, b"2"), (1, b"3"), (3, b'{"a": "%s"}' % (b"x" * 300)), (1, b"5")):
        store(account, number, value)
    store(outsider, 9, b"9")
    found = recent_messages.stored(account.user, 4)
    assert [(a.channel, a.value[:4]) for a in found] == [(1, "5"), (3, '{"a"'), (1, "3"), (2, "2")]
    assert len(found[1].value) == 200


def test_what_is_wrong_with_an_array_is_said(account: Account, signed_in: SignIn) -> None:
    device = account.device("d1")
    reject(account, "d1")
    RejectedMessage.objects.update(detail="[3].at: must be <before> tomorrow.")
    client = signed_in(account)
    for page in ("/inspector/", f"/devices/{device.pk}/"):
        assert "[3].at: must be &lt;before&gt; tomorrow." in client.get(page).text
