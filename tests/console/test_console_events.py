"""Events: their list, their form, whose they are."""

import html
from typing import Any

import pytest
from support import Account

from console.event_words import in_words
from console.spans import in_words as span
from console.spans import seconds_of
from thingscale.events.actions import (
    create_contact_point,
    create_event,
    ensure_secret,
    update_contact_point,
    update_event,
)
from thingscale.events.models import Delivery, Event
from thingscale.events.transports.http import signature
from thingscale.lib.clock import now_us
from thingscale.lib.points import Points
from thingscale.streams import writer
from thingscale.streams.actions.datapoints import store_points, store_rows

PLAIN = {
    "kind": "threshold",
    "channel": "7",
    "source": "temp",
    "operator": ">",
    "threshold": "30",
    "notify_type": "email",
    "repeat": "crossing",
    "severity": "warning",
}


def event_of(account: Account, **fields: Any) -> Event:
    plain = {"mapped_channel": account.channel(7), "source": "temp", "operator": ">", "threshold": "30"}
    return create_event(account.user, plain | fields)


def the_event(account: Account) -> Event:
    return Event.objects.for_account(account.user).get()


def test_an_empty_list_says_what_to_do(account: Account, signed_in: Any) -> None:
    page = signed_in(account).get("/alerts/events/").text
    assert "No event yet" in page
    assert 'href="/alerts/events/new/"' in page


def test_an_event_is_made_with_the_fields_at_sight(account: Account, signed_in: Any) -> None:
    account.channel(7)
    page = signed_in(account).post("/alerts/events/new/", PLAIN, follow=True).text
    event = the_event(account)
    assert "temp &gt; 30" in page
    assert (event.mapped_channel, event.repeat, event.hold) == (account.channel(7), "crossing", 0)


def test_what_the_query_says_is_filled_in(account: Account, signed_in: Any) -> None:
    account.channel(7)
    query = {"kind": "range", "channel": "7", "source": "humid", "threshold": "30..60", "devices": "roof-*"}
    page = signed_in(account).get("/alerts/events/new/", query).text
    for text in ('value="humid"', 'value="30..60"', 'value="roof-*"', 'value="7"'):
        assert text in page
    assert signed_in(account).get("/alerts/events/new/?channel=9&kind=none&source=%00").status_code == 200


def test_a_switch_is_compared_as_its_values_are(account: Account, outsider: Account, signed_in: Any) -> None:
    """A chart shows true and false as 1 and 0."""
    values = [b'{"pump": true, "valve": 1}', b'{"pump": false, "valve": 0}']
    store_points(account.channel(7), Points.of([(None, value, now_us()) for value in values]))
    client = signed_in(account)
    asked = "/alerts/events/new/?channel=7&operator=%3D"

    def threshold(client: Any, query: str) -> Any:
        return client.get(f"{asked}&{query}").context["form"]["threshold"].value()

    assert threshold(client, "source=pump&threshold=1") == "true"
    assert threshold(client, "source=pump&threshold=0") == "false"
    assert threshold(client, "source=pump&threshold=2") == "2"
    assert threshold(client, "source=valve&threshold=1") == "1"
    assert threshold(client, "source=none&threshold=1") == "1"
    assert threshold(signed_in(outsider), "source=pump&threshold=1") == "1"


def test_everything_an_event_can_have_is_kept(account: Account, signed_in: Any) -> None:
    account.channel(7)
    more = {
        "description": "Hall",
        "devices": "roof-*",
        "hold": "5 min",
        "clear": "28",
        "severity": "critical",
        "quiet_hours": "22:00-06:00",
        "min_interval": "1 h",
        "no_data_after": "1 d",
        "repeat": "every",
    }
    client = signed_in(account)
    client.post("/alerts/events/new/", PLAIN | more)
    event = the_event(account)
    assert (event.hold, event.min_interval, event.no_data_after) == (300, 3600, 86_400)
    assert (event.clear, event.severity, event.devices) == ("28", "critical", "roof-*")
    page = client.get("/alerts/events/1/edit/").text
    for text in ("5 min", "1 h", "1 d", "22:00-06:00"):
        assert f'value="{text}"' in page
    client.post("/alerts/events/1/edit/", PLAIN | {"threshold": "31"})
    event.refresh_from_db()
    assert (event.threshold, event.hold, event.description) == ("31", 0, "")


@pytest.mark.parametrize(
    ("changes", "field", "said"),
    [
        ({"channel": ""}, "channel", "Choose the channel"),
        ({"channel": "9"}, "channel", "You have no channel 9"),
        ({"source": ""}, "source", "Name the key"),
        ({"threshold": ""}, "threshold", "Say where it fires"),
        ({"kind": "rate", "window": ""}, "window", "within which time"),
        ({"kind": "silence"}, "period", "how often"),
        ({"kind": "silence", "period": "1 min", "channel": ""}, "devices", "Name the devices"),
        ({"hold": "soon"}, "hold", "5 min"),
        ({"hold": "9999 d"}, "hold", "at most 366 d"),
        ({"notify_type": "http"}, "post_url", "https://example.com/hook"),
        ({"notify_type": "http", "post_url": "ftp://a"}, "post_url", "https://example.com/hook"),
        ({"kind": "other"}, "kind", "valid choice"),
        ({"threshold": "warm"}, "threshold", "Must be a number"),
        ({"kind": "range", "threshold": "6..2"}, "threshold", "LOW..HIGH"),
        ({"clear": "40"}, "clear", "above the threshold"),
        ({"quiet_hours": "late"}, "quiet_hours", "22:00-06:00"),
        ({"devices": "a/b"}, "devices", "no / + #"),
        ({"no_data_after": "1"}, "no_data_after", "at least 10 seconds"),
        ({"severity": "other"}, "severity", "valid choice"),
    ],
)
def test_what_is_refused_is_said_at_its_field(
    account: Account, signed_in: Any, changes: dict[str, str], field: str, said: str
) -> None:
    account.channel(7)
    answer = signed_in(account).post("/alerts/events/new/", PLAIN | changes)
    assert answer.status_code == 200
    assert said in " ".join(answer.context["form"].errors[field])
    assert said in answer.text
    assert not Event.objects.exists()


def test_a_channel_of_another_is_none(account: Account, outsider: Account, signed_in: Any) -> None:
    account.channel(7)
    assert "You have no channel 7" in signed_in(outsider).post("/alerts/events/new/", PLAIN).text
    assert not Event.objects.exists()


def test_one_event_too_many(account: Account, signed_in: Any) -> None:
    event_of(account)
    type(account.user).objects.filter(pk=account.user.pk).update(max_events=1)
    assert "You can have 1 event" in signed_in(account).post("/alerts/events/new/", PLAIN).text


def test_keys_of_the_channel_are_offered(account: Account, outsider: Account, signed_in: Any) -> None:
    store_points(account.channel(7), Points.of([(None, b'{"temp": 1, "air": {"co2": 5}}', now_us())]))
    page = signed_in(account).get("/alerts/events/keys/", {"channel": "7"}).text
    assert '<option value="temp">' in page
    assert '<option value="air:co2">' in page
    for client, channel in ((outsider, "7"), (account, "x"), (account, ""), (account, "9"), (account, "\0")):
        assert not signed_in(client).get("/alerts/events/keys/", {"channel": channel}).text.strip()


def test_the_switch_and_the_end(account: Account, signed_in: Any) -> None:
    event_of(account, description="Hall")
    client = signed_in(account)
    assert "disabled" in client.post("/alerts/events/1/disable/", follow=True).text
    assert not the_event(account).enabled
    client.post("/alerts/events/1/enable/", {"next": "/alerts/events/"})
    assert the_event(account).enabled
    assert "Hall" in client.get("/alerts/events/1/delete/").text
    assert "No event yet" in client.post("/alerts/events/1/delete/", follow=True).text


def test_an_outsider_changes_nothing(account: Account, outsider: Account, signed_in: Any) -> None:
    event_of(account, description="secret")
    client = signed_in(outsider)
    assert "secret" not in client.get("/alerts/events/").text
    for page in ("", "edit/", "enable/", "disable/", "delete/", "mute/", "test/", "secret/"):
        assert client.post(f"/alerts/events/1/{page}", PLAIN).status_code == 404
    event = the_event(account)
    assert (event.description, event.enabled) == ("secret", True)


def test_the_list_is_searched(account: Account, signed_in: Any) -> None:
    event_of(account, description="Hall")
    event_of(account, source="humid")
    client = signed_in(account)
    assert "Hall" not in client.get("/alerts/events/?q=humid").text
    assert "No event matches" in client.get("/alerts/events/?q=cellar").text
    assert client.get("/alerts/events/?q=%00").status_code == 200


def test_whom_it_notifies(account: Account, signed_in: Any) -> None:
    account.channel(7)
    point = create_contact_point(account.user, "Night shift", "ntfy://ntfy.sh/topic")
    client = signed_in(account)
    chosen = PLAIN | {"notify_type": "none", "contact_points": str(point.pk)}
    client.post("/alerts/events/new/", chosen)
    event = the_event(account)
    assert list(event.contact_points.all()) == [point]
    assert "Night shift" in client.get("/alerts/events/1/").text
    assert "Night shift" in client.get("/alerts/events/").text
    assert "checked" in client.get("/alerts/events/1/edit/").text.partition('name="contact_points"')[2][:60]
    client.post("/alerts/events/1/edit/", PLAIN)
    assert not event.contact_points.exists()


def test_a_contact_point_of_another_is_no_choice(account: Account, outsider: Account, signed_in: Any) -> None:
    point = create_contact_point(account.user, "Night shift", "ntfy://ntfy.sh/topic")
    outsider.channel(7)
    signed_in(outsider).post("/alerts/events/new/", PLAIN | {"contact_points": str(point.pk)})
    assert not Event.objects.exists()


def test_which_addresses_get_it_and_whether_a_server_does(
    account: Account, signed_in: Any, settings: Any
) -> None:
    account.user.email1, account.user.email2 = "first@example.com", "second@example.com"
    account.user.save()
    settings.EMAIL_HOST = ""
    event_of(account)
    client = signed_in(account)
    for path in ("/alerts/events/new/", "/alerts/events/1/"):
        page = client.get(path).text
        assert "first@example.com" in page
        assert "second@example.com" in page
        assert "no mail server yet" in page
    settings.EMAIL_HOST = "mail.example.com"
    assert "no mail server yet" not in client.get("/alerts/events/new/").text
    account.user.email1 = account.user.email2 = ""
    account.user.save()
    assert "no address for it" in client.get("/alerts/events/new/").text


def test_the_secret_of_a_webhook(account: Account, signed_in: Any) -> None:
    event = event_of(account, notify_type="http", post_url="https://example.com/hook")
    client = signed_in(account)
    secret = ensure_secret(event)
    page = client.get("/alerts/events/1/").text
    assert secret in page
    code = html.unescape(page.partition('<pre id="verify"')[2].partition(">")[2].partition("</pre>")[0])
    receiver: dict[str, Any] = {}
    exec(code, receiver)  # as its reader would
    assert receiver["is_ours"](b"{}", signature(b"{}", secret), secret)
    assert not receiver["is_ours"](b"{ }", signature(b"{}", secret), secret)
    client.post("/alerts/events/1/secret/")
    assert ensure_secret(event) != secret
    Event.objects.update(secret_ciphertext=None)
    assert ensure_secret(event) in client.get("/alerts/events/1/").text


def test_a_test_goes_to_all_receivers(account: Account, signed_in: Any) -> None:
    account.user.email1, account.user.email2 = "first@example.com", "first@example.com"
    account.user.save()
    event = event_of(account)
    points = [create_contact_point(account.user, name, "ntfy://ntfy.sh/topic") for name in ("on", "off")]
    event.contact_points.set(points)
    update_contact_point(points[1], {"enabled": False})
    page = signed_in(account).post("/alerts/events/1/test/", follow=True).text
    assert "A test to 2 receivers" in page
    owed = Delivery.objects.values_list("transport", "receiver", "about").order_by("-transport")
    assert list(owed) == [
        ("email", "first@example.com", "test"),
        ("contact", f"contact:{points[0].pk}", "test"),
    ]
    update_event(event, {"notify_type": "http", "post_url": "https://user:pw@example.com:8443/x"}, [])
    signed_in(account).post("/alerts/events/1/test/")
    assert Delivery.objects.filter(transport="http", receiver="example.com:8443").exists()
    update_event(event, {"notify_type": "none"}, [])
    assert "It has no receiver" in signed_in(account).post("/alerts/events/1/test/", follow=True).text


def test_a_whole_event_is_muted(account: Account, signed_in: Any) -> None:
    event_of(account)
    client = signed_in(account)
    assert (
        "Nobody is notified until" in client.post("/alerts/events/1/mute/", {"until": "8h"}, follow=True).text
    )
    assert "muted" in client.get("/alerts/events/").text
    client.post("/alerts/events/1/mute/", {"until": "over"})
    assert the_event(account).muted_until is None
    assert client.post("/alerts/events/1/mute/", {"until": "noon"}).status_code == 400


def test_more_is_open_when_something_in_it_is_wrong(account: Account, signed_in: Any) -> None:
    account.channel(7)
    opened = '<details class="card more" open>'
    assert opened in signed_in(account).post("/alerts/events/new/", PLAIN | {"hold": "soon"}).text
    assert opened not in signed_in(account).post("/alerts/events/new/", PLAIN | {"source": ""}).text


def test_a_trend_is_made_and_changed(account: Account, signed_in: Any) -> None:
    account.channel(7)
    client = signed_in(account)
    trend = PLAIN | {"kind": "trend", "operator": ">", "threshold": "100", "window": "6 h", "ahead": "2 d"}
    assert "how far it looks ahead" in client.post("/alerts/events/new/", trend | {"ahead": ""}).text
    assert client.post("/alerts/events/new/", trend).status_code == 302
    event = Event.objects.get()
    assert (event.kind, event.window, event.period) == ("trend", 21_600, 172_800)
    assert 'value="2 d"' in client.get(f"/alerts/events/{event.number}/edit/").text
    assert "within 2 d" in client.get(f"/alerts/events/{event.number}/").text
    assert client.get("/alerts/events/preview/", trend).status_code == 200


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({}, "temp > 30"),
        ({"hold": 300, "clear": "28"}, "temp > 30 for 5 min, until 28"),
        ({"kind": "range", "threshold": "18..24"}, "temp outside of 18..24"),
        ({"kind": "change", "threshold": ""}, "temp changes"),
        ({"kind": "change", "threshold": "2"}, "temp changes by more than 2"),
        ({"kind": "rate", "threshold": "2", "window": 600}, "temp moves by more than 2 within 10 min"),
        ({"kind": "trend", "period": 7200}, "temp gets > 30 within 2 h, as it goes"),
        ({"kind": "silence", "period": 60, "grace": 120}, "not heard for 3 min"),
    ],
)
def test_words(fields: dict[str, Any], words: str) -> None:
    assert in_words(Event(**{"source": "temp", "operator": ">", "threshold": "30"} | fields)) == words


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90", 90), ("90 s", 90), ("5 min", 300), ("5m", 300), ("1 h 30 min", 5400), ("2d", 172_800)],
)
def test_spans(text: str, seconds: int) -> None:
    assert seconds_of(text) == seconds
    assert seconds_of(span(seconds)) == seconds


@pytest.mark.parametrize("text", ["", "soon", "5 months", "-5 s", "5.5 h", "٣", "1 h soon"])
def test_what_is_no_span(text: str) -> None:
    assert seconds_of(text) is None


def test_how_often_devices_usually_send(account: Account, outsider: Account, signed_in: Any) -> None:
    device = account.device("roof-1", 7)
    channel = account.channel(7)
    times = [now_us() - n * 60 * 10**6 for n in range(30)]
    store_rows([writer.Row(channel.id, at, device.id, None, b"1", None) for at in times])
    client = signed_in(account)
    for query in ({"channel": "7"}, {"devices": "roof-*"}, {"channel": "7", "devices": "roof-1"}):
        page = client.get("/alerts/events/usual/", query).text
        assert "Usually every 1 min" in page
        assert 'data-fill-period="1 min"' in page
    for query in ({}, {"devices": "cellar"}, {"channel": "9"}, {"devices": "\0"}, {"devices": "x" * 65}):
        assert not client.get("/alerts/events/usual/", query).text.strip()
    assert not signed_in(outsider).get("/alerts/events/usual/", {"devices": "roof-*"}).text.strip()
