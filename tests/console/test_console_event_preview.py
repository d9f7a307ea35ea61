"""The preview beside the form of an event: what it would have done, by the datapoints that are stored."""

import html
import re
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.utils import timezone
from support import Account

from console import event_preview_svg
from thingscale.events import preview as module
from thingscale.events.models import Condition, Event, Incident, Observation
from thingscale.events.preview import Preview
from thingscale.events.replay import Firing, Height, Replay
from thingscale.lib.clock import now_us, to_us
from thingscale.lib.points import Points
from thingscale.streams.actions.datapoints import store_points

SignIn = Callable[[Account], Client]
MINUTE = 60_000_000


def fill(account: Account, *values: Any, tag: str | None = None, channel: int = 7, ago: int = 0) -> None:
    """JSON texts, one a minute, the last one a minute and `ago` more minutes ago."""
    first = now_us() - (len(values) + ago) * MINUTE
    texts = [str(value).encode() for value in values]
    points = [(tag, text, first + number * MINUTE) for number, text in enumerate(texts)]
    store_points(account.channel(channel), Points.of(points))


def send(account: Account, device_id: str, *minutes_ago: float, channel: int = 7) -> None:
    """As if the device had sent then."""
    device = account.device(device_id, channel)
    now = now_us()
    points = Points.of([(None, b"1", now - int(ago * MINUTE)) for ago in minutes_ago])
    store_points(account.channel(channel), points)
    with connection.cursor() as cursor:
        cursor.execute("UPDATE datapoint SET device = %s WHERE device IS NULL", [device.pk])


def ask(client: Client, **fields: Any) -> str:
    plain = {"kind": "threshold", "channel": "7", "source": "temp", "operator": ">", "threshold": "30"}
    answer = client.get("/alerts/events/preview/", plain | {"repeat": "crossing"} | fields)
    assert answer.status_code == 200
    return " ".join(answer.text.split())


def words(page: str) -> str:
    return html.unescape(" ".join(re.sub(r"<[^>]*>", " ", page).split()))


def temps(*numbers: float) -> list[str]:
    return [f'{{"temp": {number}}}' for number in numbers]


def test_how_often_it_would_have_fired(account: Account, signed_in: SignIn) -> None:
    fill(account, *temps(20, 31, 32, 20, 33, 20, 35))
    page = ask(signed_in(account))
    said = r"Would have fired 3 times since \S+ \S+ , the first datapoint of the last 7 days, and would be"
    assert re.match(said, words(page))
    assert page.count('class="preview-line"') == 1
    assert page.count('class="preview-edge"') == 3
    assert page.count("<li>") == 3
    assert "35 still" in words(page)
    assert "style=" not in page


def test_the_last_7_days(account: Account, signed_in: SignIn) -> None:
    fill(account, *temps(31, 31), ago=8 * 24 * 60)
    fill(account, *temps(20, 31, 31, 20), ago=6 * 24 * 60 + 600)
    fill(account, *temps(20, 20))
    page = words(ask(signed_in(account)))
    assert page.startswith("Would have fired 1 time in the last 7 days. ")


def test_how_many_messages_that_makes(account: Account, signed_in: SignIn) -> None:
    fill(account, *temps(20, 31, 32, 33, 20))
    client = signed_in(account)
    assert "of the last 7 days. That makes 3 messages." in words(ask(client, repeat="every"))
    assert "message" not in words(ask(client))


def test_hold_clear_range_and_pattern(account: Account, signed_in: SignIn) -> None:
    fill(account, *temps(20, 31, 20, 31, 32, 33, 29, 31, 20))
    client = signed_in(account)
    assert "fired 3 times" in words(ask(client))
    assert "fired 1 time " in words(ask(client, hold="90 s"))
    assert "fired 2 times" in words(ask(client, clear="28"))
    assert "fired 1 time " in words(ask(client, kind="range", threshold="10..32.5"))
    assert "of these devices" in words(ask(client, devices="pump*"))


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"threshold": ""}, "Say where it fires."),
        ({"threshold": "warm"}, "Threshold: Must be a number with the operator >."),
        ({"channel": ""}, "Choose the channel that is watched."),
        ({"channel": "99"}, "You have no channel 99"),
        ({"source": ""}, "Name the key that is watched"),
        ({"source": "humid"}, "No datapoint of the last 7 days has humid ."),
        ({"kind": "range", "threshold": "9..3"}, "Must be LOW..HIGH"),
        ({"kind": "silence"}, "Say how often the device sends."),
        ({"hold": "soon"}, "Write a span"),
        ({"kind": "nonsense"}, "nonsense"),
        ({"source": "te\0mp"}, "Null characters"),
    ],
)
def test_what_is_missing_is_said(
    account: Account, signed_in: SignIn, fields: dict[str, str], said: str
) -> None:
    fill(account, *temps(20))
    assert said in words(ask(signed_in(account), **fields))


def test_an_untouched_form(account: Account, signed_in: SignIn) -> None:
    assert signed_in(account).get("/alerts/events/preview/").status_code == 200


def test_an_empty_channel(account: Account, signed_in: SignIn) -> None:
    account.channel(7)
    assert "no datapoints of the last 7 days" in words(ask(signed_in(account)))


def test_only_the_newest_datapoints(
    account: Account, signed_in: SignIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_DATAPOINTS", 3)
    fill(account, *temps(31, 20, 31, 20, 20))
    page = words(ask(signed_in(account)))
    assert re.search(r"fired 1 time since \S+ \S+ , as far as the newest 3 datapoints go back\.", page)


def test_it_takes_no_longer_than_it_may(
    account: Account, signed_in: SignIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "READ_SECONDS", 0)
    fill(account, *temps(*range(1500)))
    page = words(ask(signed_in(account)))
    assert "the newest 1,000 datapoints" in page


def test_looking_takes_no_longer_than_it_may(
    account: Account, signed_in: SignIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SECONDS", 0)
    monkeypatch.setattr(module, "LOOK_AT_CLOCK", 3)
    fill(account, *temps(31, 20, 31, 20, 31))
    page = words(ask(signed_in(account)))
    assert re.match(
        r"Would have fired 2 times from \S+ \S+ to \S+ \S+ : there was no time to look at more", page
    )


def test_large_numbers_and_deep_values(account: Account, signed_in: SignIn) -> None:
    fill(account, *temps(20), '{"temp": 1e400}', '{"temp": {"deep": [1]}}', '"text"', "null")
    assert "fired 1 time" in words(ask(signed_in(account)))


def test_silence_by_the_gaps_of_devices(account: Account, signed_in: SignIn) -> None:
    send(account, "boiler-1", 60, 59, 58, 57, 30, 29, 28, 27, 1, 0.5)
    send(account, "pump", 90, 1)
    client = signed_in(account)
    silence = {"kind": "silence", "source": "", "threshold": "", "period": "1 min", "grace": "9 min"}
    page = words(ask(client, **silence))
    assert "Would have fired 3 times since" in page
    assert "would be firing now" not in page
    assert "They usually send every" in page
    assert "fired 2 times" in words(ask(client, **silence, devices="boiler-?"))
    assert "fired 2 times" in words(ask(client, **silence | {"channel": ""}, devices="boiler-?"))


def test_it_fires_now_that_a_device_is_silent(account: Account, signed_in: SignIn) -> None:
    send(account, "boiler-1", 60, 59, 58)
    page = ask(signed_in(account), kind="silence", period="60", grace="120")
    assert "Would have fired 1 time since" in words(page)
    assert "and would be firing now." in words(page)


def test_nothing_is_written(account: Account, signed_in: SignIn) -> None:
    fill(account, *temps(20, 31))
    ask(signed_in(account))
    assert not any(model.objects.exists() for model in (Event, Condition, Incident, Observation))


def test_an_outsider_learns_nothing(account: Account, outsider: Account, signed_in: SignIn) -> None:
    fill(account, *temps(20, 31))
    send(account, "boiler-1", 60, 59, 58)
    client = signed_in(outsider)
    assert "You have no channel 7" in words(ask(client))
    page = words(ask(client, kind="silence", channel="", devices="*", period="60", grace="60"))
    assert "boiler" not in page
    assert "fired" not in page


def test_who_is_not_signed_in_is_led_to_the_door(account: Account) -> None:
    answer = Client().get("/alerts/events/preview/", {"channel": "7"})
    assert answer.headers["Location"].startswith("/signin/")


def test_the_form_asks_for_it_without_addresses(account: Account, signed_in: SignIn) -> None:
    page = signed_in(account).get("/alerts/events/new/").text
    (sent,) = re.findall(r'hx-params="([^"]*)"', page)
    assert {"channel", "threshold", "kind"} <= set(sent.split(","))
    assert not {"post_url", "csrfmiddlewaretoken", "description"} & set(sent.split(","))


def test_the_drawing() -> None:
    end = timezone.now().replace(microsecond=0)
    start = end - timedelta(hours=6)
    at = [to_us(start) + hour * 60 * MINUTE for hour in range(7)]
    heights = [
        Height(each, ("", ""), number) for each, number in zip(at, (0, 10, 0, 10, 0, 10, 5), strict=True)
    ]
    firings = [
        Firing(start + timedelta(hours=1), start + timedelta(hours=2), "a", "", "10"),
        Firing(start + timedelta(hours=1.5), start + timedelta(hours=3), "b", "", "10"),
        Firing(start + timedelta(hours=4), start + timedelta(hours=4), "b", "", "10"),
        Firing(start + timedelta(hours=5), None, "b", "", "10"),
    ]
    drawn = event_preview_svg.draw(Preview(start, end, True, 7, Replay(firings, 4, 7, heights), [8.0], [6.0]))
    assert drawn.firing == [(100, 200), (400, 1.5), (500, 100)]
    assert drawn.paths == ["M0.0 110.4L100.0 9.6L200.0 110.4L300.0 9.6L400.0 110.4L500.0 9.6L600.0 60.0"]
    assert drawn.lines == [29.8]
    assert drawn.clear == [49.9]


@pytest.mark.slow
def test_many_datapoints_are_previewed_soon(account: Account, signed_in: SignIn) -> None:
    for _ in range(6):
        fill(account, *temps(*range(10_000)))
    client = signed_in(account)
    begun = time.monotonic()
    page = words(ask(client))
    assert "the newest" in page or "no time to look at more" in page
    assert time.monotonic() - begun < 8  # on a busy machine; SECONDS otherwise
