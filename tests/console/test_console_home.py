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
from thingscale.events.actions import create_event, update_event
from thingscale.events.models import Incident
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


def test_what_is_heard_silent_new_and_rejected(account: Account, signed_in: SignIn) -> None:
    for name, hours in (("a", 1), ("b", 2), ("c", 25)):
        seen = timezone.now() - timedelta(hours=hours)
        Activity.objects.create(device=account.device(name), last_seen=seen, messages=1)
    new_device(account, "pump-new")
    reject(account, "pump-bad")
    store(account)
    page = " ".join(signed_in(account).get("/").text.split())
    assert re.search(r"<b>2</b><span>heard in 24 h", page)
    assert "never heard" not in page
    assert re.search(r"<b>1</b><span>new", page)
    assert "pump-new" in page
    assert "pump-bad" in page
    assert "It could not be read" in page
    assert 'href="/streams/7/"' in page


def test_silent_is_what_an_event_fires_for(account: Account, outsider: Account, signed_in: SignIn) -> None:
    """Who has no such event is told how to make one."""
    for owner in (account, outsider):
        last = timezone.now() - timedelta(hours=25)
        Activity.objects.create(
            device=owner.device("a"), last_seen=last, messages=1, silent_since=last + timedelta(hours=1)
        )
        owner.device("b")
    create_event(outsider.user, {"kind": "silence", "period": 60})
    store(account)

    def page() -> str:
        return " ".join(signed_in(account).get("/").text.split())

    link = r'href="/alerts/events/new/\?kind=silence"[^>]*><b aria-hidden="true">–</b><span>silent: nothing'
    assert re.search(link, page())
    assert re.search(r"<b>1</b><span>never heard", page())
    event = create_event(account.user, {"kind": "silence", "period": 60, "enabled": False})
    assert re.search(link, page())
    update_event(event, {"enabled": True})
    assert re.search(r"<b>1</b><span>silent</span>", page())


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


def fires(
    account: Account, title: str, severity: str = "warning", minutes: int = 5, **fields: object
) -> None:
    event = create_event(account.user, {"description": title, "severity": severity})
    Incident.objects.create(
        user=account.user,
        event=event,
        number=event.number,
        title=title,
        severity=severity,
        started_at=timezone.now() - timedelta(minutes=minutes),
        **fields,
    )


def firing_card(page: str) -> str:
    """The words of the card about alerts."""
    pattern = r'<section class="card[^>]*aria-label(?:ledby)?="(?:firing-title|Alerts)">.*?</section>'
    (card,) = re.findall(pattern, page, re.DOTALL)
    return " ".join(re.sub(r"<[^>]*>", " ", card).split())


def test_who_has_no_event_is_led_to_the_first(account: Account, signed_in: SignIn) -> None:
    store(account)
    page = signed_in(account).get("/").text
    assert "Make the first event" in firing_card(page)
    assert 'href="/alerts/events/new/"' in page


def test_nothing_fires(account: Account, signed_in: SignIn) -> None:
    store(account)
    create_event(account.user, {"description": "Too hot"})
    assert "Nothing fires." in firing_card(signed_in(account).get("/").text)


def test_what_fires_now_the_severest_first(account: Account, signed_in: SignIn) -> None:
    store(account)
    device = account.device("boiler-1")
    fires(account, "Humid", "info", 1)
    fires(account, "Warm", minutes=2)
    fires(account, "Burning", "critical", 90, device=device.pk, device_id="boiler-1", tag="hall")
    fires(account, "Over", ended_at=timezone.now())
    client = signed_in(account)
    card = firing_card(client.get("/").text)
    assert re.search(r"critical Burning boiler-1 tag hall 1 h ago warning Warm 2 min ago info Humid", card)
    assert "Over" not in card
    for number in range(4):
        fires(account, f"More {number}", minutes=10)
    card = firing_card(client.get("/").text)
    assert card.count("ago") == 5
    assert "All alerts" in card


def test_what_fires_of_others_is_not_shown(account: Account, outsider: Account, signed_in: SignIn) -> None:
    fires(account, "Burning")
    store(outsider)
    assert "Burning" not in signed_in(outsider).get("/").text


def test_lists_and_pages_mark_what_fires(account: Account, outsider: Account, signed_in: SignIn) -> None:
    store(account)
    channel, device = account.channel(7), account.device("boiler-1", channel=7)
    account.device("pump", channel=8)
    fires(account, "Warm", channel=channel.pk, device=device.pk)
    fires(account, "Burning", "critical", channel=channel.pk, device=device.pk)
    fires(account, "Over", ended_at=timezone.now(), channel=account.channel(8).pk)
    fires(outsider, "Theirs", channel=account.channel(8).pk)
    client = signed_in(account)
    mark = "firing · critical</a>"
    for path in ("/devices/", "/channels/", f"/devices/{device.pk}/", "/channels/7/", "/streams/7/"):
        assert client.get(path).text.count(mark) == 1, path
        assert client.get(path).text.count("firing ·") == 1, path
    assert "firing ·" not in client.get("/streams/8/").text


def test_what_fires_comes_into_an_open_page(account: Account, outsider: Account, signed_in: SignIn) -> None:
    store(account)
    client = signed_in(account)
    asks = {"HX-Request": "true", "X-Shown": client.get("/").context["version"]}
    assert client.get("/", headers=asks).status_code == 204
    event = create_event(account.user, {"kind": "silence", "period": 60})
    for owner, title in ((outsider, "Theirs"), (account, "Hall too warm")):
        Incident.objects.create(
            user=owner.user, event=event, number=1, title=title, severity="warning", started_at=timezone.now()
        )
    answer = client.get("/", headers=asks)
    assert "Hall too warm" in answer.text
    assert "Theirs" not in answer.text
    assert 'id="nav-count" hx-swap-oob="true"><span class="badge badge-bad">1<' in answer.text
    assert "<html" not in answer.text
    asks["X-Shown"] = answer.context["version"]
    assert client.get("/", headers=asks).status_code == 204
    Incident.objects.update(ended_at=timezone.now())
    assert "Nothing fires" in client.get("/", headers=asks).text
