"""Home: the account at a glance."""

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from arrived import MOST_QUERIES, large, new_device, reject, store
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from support import Account

from console import minute_bars_svg
from thingscale.devices.models import Activity, MinuteCount
from thingscale.devices.overview import Minute
from thingscale.streams.actions.tags import delete_tag
from thingscale.streams.models import Tag

SignIn = Callable[[Account], Client]


def test_who_has_nothing_is_shown_how_to_begin(account: Account, signed_in: SignIn) -> None:
    account.device("first-device")
    assert signed_in(account).get("/").headers["Location"] == "/start/"


def test_a_device_that_was_heard_is_enough(account: Account, signed_in: SignIn) -> None:
    new_device(account)
    page = signed_in(account).get("/").text
    assert "No datapoint yet" in page
    assert "Nothing was rejected" in page


def test_what_is_alive_silent_new_and_rejected(account: Account, signed_in: SignIn) -> None:
    for name, minutes in (("a", 1), ("b", 2), ("c", 30)):
        seen = timezone.now() - timedelta(minutes=minutes)
        Activity.objects.create(device=account.device(name), last_seen=seen, messages=1)
    new_device(account, "pump-new")
    reject(account, "pump-bad")
    store(account)
    page = " ".join(signed_in(account).get("/").text.split())
    assert re.search(r"<b>2</b><span>alive", page)
    assert re.search(r"<b>1</b><span>silent for 15 min", page)
    assert re.search(r"<b>1</b><span>new", page)
    assert "pump-new" in page
    assert "pump-bad" in page
    assert "It could not be read" in page
    assert 'href="/streams/7/"' in page


def test_messages_a_minute_are_bars_and_words(account: Account, signed_in: SignIn) -> None:
    store(account)
    MinuteCount.objects.all().delete()
    now = timezone.now().replace(second=0, microsecond=0)
    MinuteCount.objects.create(user=account.user, minute=now, stored=1204, held=3, rejected=2)
    page = signed_in(account).get("/").text
    assert "at most <span data-hour-most>1,209</span> a minute" in page
    assert "<span data-hour-sum-stored>1,204</span> stored" in page
    assert page.count("<g data-minute") == 60
    assert "style=" not in page


def test_storage_is_measured_against_what_the_account_may_have(account: Account, signed_in: SignIn) -> None:
    store(account)
    account.user.max_storage = 1
    account.user.save()
    assert "1 datapoint<" in signed_in(account).get("/").text


def test_a_deleted_tag_counts_no_more(account: Account, signed_in: SignIn) -> None:
    store(account, tag="kitchen")
    store(account, 8)
    delete_tag(Tag.objects.get())
    context = signed_in(account).get("/").context
    assert context["storage"]["datapoints"] == 1
    assert [number for number, *_ in context["heard"]] == [8]


def test_a_device_is_enabled_from_here(account: Account, signed_in: SignIn) -> None:
    device = new_device(account)
    client = signed_in(account)
    assert f'action="/start/enable/{device.pk}/"' in client.get("/").text
    client.post(f"/start/enable/{device.pk}/", {"number": "0"})
    assert f'action="/start/enable/{device.pk}/"' not in client.get("/").text


def test_an_outsider_sees_nothing(account: Account, outsider: Account, signed_in: SignIn) -> None:
    new_device(account, "pump-new")
    reject(account, "pump-bad")
    store(account)
    client = signed_in(outsider)
    assert client.get("/").headers["Location"] == "/start/"
    store(outsider, 3)
    page = client.get("/").text
    assert "pump" not in page
    assert 'href="/streams/7/"' not in page


def test_the_queries_of_a_large_account(account: Account, signed_in: SignIn) -> None:
    large(account)
    client = signed_in(account)
    with CaptureQueriesContext(connection) as queries:
        assert "All 1,000" in client.get("/").text
    assert len(queries) <= MOST_QUERIES


def test_bars_stand_on_each_other() -> None:
    first = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
    drawn = minute_bars_svg.draw([Minute(first, 0, 0, 0), Minute(first, 6, 3, 3)])
    assert [part.height for part in drawn.bars[0].parts] == [0, 0, 0]
    assert [(part.y, part.height) for part in drawn.bars[1].parts] == [(60, 60), (30, 30), (0, 30)]
    assert (drawn.most, drawn.width) == (12, 20)
    assert drawn.sums == [("stored", 6), ("held", 3), ("rejected", 3)]
    assert minute_bars_svg.draw([Minute(first, 0, 0, 0)]).most == 0
