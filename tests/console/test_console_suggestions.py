"""Suggested events on the pages of a channel."""

import re
from collections.abc import Callable
from urllib.parse import parse_qs, urlsplit

from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from support import Account

from thingscale.events.actions import create_event
from thingscale.lib.clock import now_us
from thingscale.lib.points import Points
from thingscale.streams import rollups
from thingscale.streams.actions.channels import update_channel
from thingscale.streams.actions.datapoints import store_points
from thingscale.streams.models import Rollup

SignIn = Callable[[Account], Client]
PIECE = "/channels/7/suggestions/"
DISMISS = "/channels/7/suggestions/dismiss/"
TITLE = re.compile(r'href="([^"]*)">.*?</svg> ([^<]*)</a>')


def fill(account: Account, text: bytes = b'{"battery": 80, "temp": 21.5, "name": "x"}', by: str = "") -> None:
    labels = [{"key": "temp", "label": "Temperature", "unit": "\u00b0C"}]
    update_channel(account.channel(7), {"streams": labels})
    now = now_us()
    store_points(account.channel(7), Points.of([(None, text, now - n * 60_000_000) for n in (4, 3, 2, 1)]))
    if by:
        device = account.device(by, channel=7)
        with connection.cursor() as cursor:
            cursor.execute("UPDATE datapoint SET device = %s", [device.pk])


def offered(client: Client) -> dict[str, str]:
    """The addresses by their titles."""
    return {title: url for url, title in TITLE.findall(client.get(PIECE).text)}


def test_what_is_offered_fills_the_form(account: Account, signed_in: SignIn) -> None:
    fill(account, by="boiler-1")
    client = signed_in(account)
    found = offered(client)
    assert list(found) == ["Battery below 20", "Temperature above 30 \u00b0C", "A device goes quiet"]
    url = found["Temperature above 30 \u00b0C"].replace("&amp;", "&")
    query = {name: values[0] for name, values in parse_qs(urlsplit(url).query).items()}
    assert query["channel"] == "7"
    assert (query["source"], query["operator"], query["threshold"]) == ("temp", ">", "30")
    assert (query["clear"], query["description"]) == ("29", "Temperature above 30 \u00b0C")
    page = client.get(url)
    assert page.status_code == 200
    assert 'value="29"' in page.text
    assert page.context["more_open"]
    assert page.context["form"]["kind"].value() == "threshold"
    silence = client.get(found["A device goes quiet"].replace("&amp;", "&")).context["form"]
    assert (silence["kind"].value(), silence["period"].value(), silence["grace"].value()) == (
        "silence",
        "1 min",
        "3 min",
    )


def test_the_form_that_was_filled_in_can_be_sent(account: Account, signed_in: SignIn) -> None:
    """Each suggestion is an event that is accepted as it is."""
    fill(account, by="boiler-1")
    client = signed_in(account)
    for url in offered(client).values():
        form = client.get(url.replace("&amp;", "&")).context["form"]
        values = {name: form[name].value() for name in form.fields}
        answer = client.post("/alerts/events/new/", {name: value for name, value in values.items() if value})
        assert answer.status_code == 302, answer.context["form"].errors
    assert offered(client) == {}


def test_both_pages_ask_for_them(account: Account, signed_in: SignIn) -> None:
    fill(account)
    client = signed_in(account)
    for path in ("/streams/7/", "/channels/7/"):
        assert f'hx-get="{PIECE}"' in client.get(path).text


def test_not_for_what_is_watched(account: Account, signed_in: SignIn) -> None:
    fill(account, by="boiler-1")
    client = signed_in(account)
    channel = account.channel(7).pk
    create_event(account.user, {"mapped_channel_id": channel, "source": "temp", "threshold": "3"})
    create_event(account.user, {"kind": "silence", "devices": "*", "period": 60})
    assert list(offered(client)) == ["Battery below 20"]


def test_they_are_dismissed_once_for_all(account: Account, outsider: Account, signed_in: SignIn) -> None:
    """Until there is another key."""
    fill(account, by="boiler-1")
    client = signed_in(account)
    shown = re.findall(r'name="source" value="([^"]*)"', client.get(PIECE).text)
    assert shown == ["battery", "temp", ""]
    answer = client.post(DISMISS, {"source": [*shown, "made-up"]}, headers={"HX-Request": "true"})
    assert (answer.status_code, answer.content) == (200, b"")
    assert client.get(PIECE).content.strip() == b""
    fill(account, b'{"battery": 80, "humidity": 40}')
    assert list(offered(client)) == ["Humidity above 60"]
    assert client.post(DISMISS, {"source": "humidity"}).headers["Location"] == "/streams/7/"
    fill(outsider)
    assert len(offered(signed_in(outsider))) == 2


def test_the_numbers_of_the_last_days_count(account: Account, signed_in: SignIn) -> None:
    fill(account)
    hour = 3600 * 10**6
    old = (now_us() - 30 * hour) // hour * hour
    store_points(account.channel(7), Points.of([(None, b'{"temp": 44}', old)]))
    rollups.mark_hours_that_are_over()
    rollups.roll_up(60)
    assert Rollup.objects.filter(channel=account.channel(7).pk, high=44).exists()
    assert "Temperature above 50 \u00b0C" in offered(signed_in(account))


def test_an_empty_channel_has_none(account: Account, signed_in: SignIn) -> None:
    account.channel(7)
    answer = signed_in(account).get(PIECE)
    assert (answer.status_code, answer.content.strip()) == (200, b"")


def test_the_queries_are_bounded(account: Account, signed_in: SignIn) -> None:
    fill(account, by="boiler-1")
    client = signed_in(account)
    client.get(PIECE)
    with CaptureQueriesContext(connection) as queries:
        client.get(PIECE)
    assert len(queries) <= 14


def test_an_outsider_sees_and_dismisses_nothing(
    account: Account, outsider: Account, signed_in: SignIn
) -> None:
    fill(account)
    client = signed_in(outsider)
    assert client.get(PIECE).status_code == 404
    assert client.post(DISMISS, {"source": "temp"}).status_code == 404
    assert client.get(DISMISS).status_code == 405
    assert len(offered(signed_in(account))) == 2
