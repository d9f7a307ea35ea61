"""Every page of the console: seen by people of all kinds, by nobody else, and at a bounded cost."""

import json
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from browser import ROOT
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from intake_history import intake_history
from playwright.sync_api import Browser
from stack import Stack
from support import Account
from visiting import NARROW, WIDE, visit

from console import urls
from ingest.service import connect
from thingscale.devices.models import ActivationRule, Device, RejectedMessage
from thingscale.devices.presence import LOCK
from thingscale.events.actions import create_contact_point, create_event
from thingscale.events.models import Condition, ContactPoint, Incident
from thingscale.hosts.look import find
from thingscale.hosts.models import Host
from thingscale.lib.clock import now_us
from thingscale.lib.points import Points
from thingscale.streams.actions.datapoints import store_points
from thingscale.streams.models import Channel, Tag

Start = Callable[..., Stack]
SignIn = Callable[[Account], Client]

BASELINE = Path(__file__).parent / "query_counts.json"
MOST_QUERIES = 12
AXE = ROOT / "node_modules" / "axe-core" / "axe.min.js"
SERIOUS = "async () => (await axe.run()).violations.filter(v => ['serious', 'critical'].includes(v.impact))"
PUBLIC = {"signin": "/signin/", "signup": "/signup/", "reset": "/reset/"}
PAGES = {
    "home": "/",
    "start": "/start/",
    "devices": "/devices/",
    "device-new": "/devices/new/",
    "devices-import": "/devices/import/",
    "device": "/devices/{device}/",
    "hosts": "/hosts/",
    "host": "/hosts/{host}/",
    "host-events": "/hosts/{host}/events/",
    "hosts-events": "/hosts/events/",
    "device-edit": "/devices/{device}/edit/",
    "device-map": "/devices/{device}/map/",
    "device-delete": "/devices/{device}/delete/",
    "intakes": "/intakes/",
    "intake-new": "/intakes/new/",
    "intake": "/intakes/1/",
    "intake-edit": "/intakes/1/edit/",
    "intake-key": "/intakes/1/key/",
    "intake-delete": "/intakes/1/delete/",
    "channels": "/channels/",
    "channel-new": "/channels/new/",
    "channel": "/channels/7/",
    "channel-delete": "/channels/7/delete/",
    "tag": "/channels/7/tags/{tag}/",
    "tag-delete": "/channels/7/tags/{tag}/delete/",
    "stream": "/streams/7/",
    "publish": "/publish/",
    "inspector": "/inspector/",
    "profile": "/profile/",
    "profile-email": "/profile/email/",
    "profile-when-full": "/profile/when-full/",
    "profile-password": "/profile/password/",
    "profile-close": "/profile/close/",
    "token-rotate": "/profile/tokens/device/rotate/",
    "sessions": "/profile/sessions/",
    "two-factor": "/profile/two-factor/",
    "rules": "/rules/",
    "alerts": "/alerts/",
    "events": "/alerts/events/",
    "event-new": "/alerts/events/new/",
    "event": "/alerts/events/1/",
    "event-edit": "/alerts/events/1/edit/",
    "event-delete": "/alerts/events/1/delete/",
    "deliveries": "/alerts/deliveries/",
    "contacts": "/alerts/contacts/",
    "contact": "/alerts/contacts/{contact}/",
    "contact-delete": "/alerts/contacts/{contact}/delete/",
    "maintenance": "/alerts/maintenance/",
}
# No page of their own, but what a button posts to, a fragment, a file, a way to elsewhere: tested elsewhere.
NO_PAGE = {
    *(
        "signout",
        "theme",
        "signin-code",
        "reset-confirm",
        "streams",
        "rules-preview",
        "event-preview",
        "suggestions",
        "suggestions-dismiss",
        "start-arrived",
    ),
    *("devices-example", "devices-export", "devices-bulk", "device-enable", "device-disable"),
    *("stream-chart", "stream-csv", "stream-ndjson", "session-end", "sessions-end-others"),
    *(
        "token-end-overlap",
        "rule-move",
        "rule-delete",
        "two-factor-end",
        "two-factor-codes",
        "two-factor-setup",
    ),
    *("unsent", "unsent-send", "unsent-discard"),
    *("start-enable", "publish-devices", "signup-confirm", "profile-email-confirm"),
    *("event-keys", "event-usual", "event-enable", "event-disable", "incident-acknowledge", "condition-mute"),
    *("maintenance-end", "event-mute", "event-test", "event-secret"),
    *("intakes-topics-on", "intakes-topics-off"),
    "host-chart",
    *("intake-messages", "intake-enable", "intake-disable"),
    *("contact-test", "contact-enable", "contact-disable"),
}


@pytest.fixture
def paths(account: Account) -> dict[str, str]:
    """Of an account that has something on each page."""
    device = account.device("boiler-1", channel=7)
    store_points(
        account.channel(7),
        Points.of([("hall", b'{"temp": %d}' % n, now_us() - n * 10**6) for n in range(60)]),
    )
    store_points(account.channel(7), Points.of([(None, b'{"humid": 40}', now_us())]))
    Device.objects.create(user=account.user, device_id="pump", enabled=False)
    ActivationRule.objects.create(user=account.user, pattern="pump*", channel=account.channel(7))
    RejectedMessage.objects.create(
        user=account.user,
        device_id="pump",
        source="json",
        reason="BAD_JSON_FORMAT",
        payload=b"{",
        size=1,
        received_at=device.created_at,
    )
    event = {"mapped_channel": account.channel(7), "source": "temp", "operator": ">", "threshold": "30"}
    warm = create_event(account.user, event | {"description": "Hall too warm", "hold": 300})
    incident = Incident.objects.create(
        user=account.user,
        event=warm,
        number=1,
        title="boiler-1",
        severity="info",
        started_at=device.created_at,
    )
    Condition.objects.create(
        event=warm,
        device=device.pk,
        state="firing",
        since=device.created_at,
        at=device.created_at,
        incident=incident,
    )
    create_contact_point(account.user, "pump", "ntfy://ntfy.sh/pump")
    intake_history(account.user)
    account.device("web-1", channel=8)
    sample = b'{"cpu": {"idle": 90}, "memory": {"percent": 40}, "disk": {"/": {"percent": 95}}}'
    store_points(account.channel(8), Points.of([(None, sample, now_us())]))
    find()
    return {name: fill(path, account) for name, path in PAGES.items()}


def fill(path: str, account: Account) -> str:
    device = (
        Device.objects.for_account(account.user).filter(device_id="boiler-1").values_list("pk", flat=True)
    )
    host = Host.objects.for_account(account.user).values_list("pk", flat=True)
    tag = Tag.objects.filter(channel__user=account.user).values_list("pk", flat=True)
    contact = ContactPoint.objects.for_account(account.user).values_list("pk", flat=True)
    return path.format(device=device.first(), tag=tag.first(), contact=contact.first(), host=host.first())


def test_every_url_is_here() -> None:
    names = {pattern.name for pattern in urls.urlpatterns}
    assert names == {*PUBLIC, *PAGES, *NO_PAGE}


def test_what_names_something_of_another_user_is_not_found(
    paths: dict[str, str], outsider: Account, signed_in: SignIn
) -> None:
    client = signed_in(outsider)
    answers = {
        name: client.get(path).status_code for name, path in paths.items() if any(map(str.isdigit, path))
    }
    assert answers
    assert {name: status for name, status in answers.items() if status != 404} == {}


def test_nothing_of_another_user_is_shown(
    paths: dict[str, str], outsider: Account, signed_in: SignIn
) -> None:
    client = signed_in(outsider)
    for path in paths.values():
        words = set(re.split(r'[\s"<>]+', client.get(path).text))
        assert not words & {"boiler-1", "pump", "hall", "web-1"}


def test_who_is_not_signed_in_is_led_to_the_door(paths: dict[str, str]) -> None:
    for path in paths.values():
        assert Client().get(path).headers["Location"].startswith("/signin/?next=")


def test_queries(account: Account, paths: dict[str, str], signed_in: SignIn) -> None:
    """Whatever the size of the account. A change of this file needs a reason in the commit."""
    Channel.objects.bulk_create(Channel(user=account.user, number=n) for n in range(100, 1100))
    Device.objects.bulk_create(Device(user=account.user, device_id=f"d-{n}") for n in range(10_000))
    client = signed_in(account)
    with connect() as gateway:
        gateway.execute("SELECT pg_advisory_lock(%s, 1)", [LOCK])  # as one that is alive
        counts = {name: queries(client, path) for name, path in paths.items()}
    assert max(counts.values()) <= MOST_QUERIES, counts
    assert counts == json.loads(BASELINE.read_text())


def queries(client: Client, path: str) -> int:
    client.get(path)
    with CaptureQueriesContext(connection) as found:
        assert client.get(path).status_code == 200
    return len(found)


# English in a page in Japanese: two words of which the second is in small letters.
ENGLISH = re.compile(r"[A-Za-z]{2,},? [a-z]{2,}")
# What the account and programs call things, and what is typed or pasted as it is.
NAMES = re.compile(
    r"Hall too warm|Shelly Gen2 and later|Telegraf, as JSON|host, device, entity_id"
    r"|InfluxDB client|First channel|User name|Home Assistant|data_format json|device id"
    r"|POST http|^[A-Z]\w+/.*"
    r"|glances --export|Custom webhook|Webhook format|Add webhook|Payload encoding|Target URL|Custom server"
)


class Words(HTMLParser):
    """What a page says, outside of code and of what has a language of its own."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.said: list[str] = []
        self._silent = 0
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._silent += tag in {"script", "style", "pre", "code", "textarea"}
        shown = ("title", "placeholder", "aria-label", "data-label", "data-confirm")
        self.said += [value for name, value in attrs if value and name in shown]

    def handle_endtag(self, tag: str) -> None:
        self._silent -= tag in {"script", "style", "pre", "code", "textarea"}

    def handle_data(self, data: str) -> None:
        if not self._silent:
            self.said.append(data)


def english(page: str) -> list[str]:
    said = (NAMES.sub("", " ".join(text.split())) for text in Words(page).said)
    return [text for text in said if ENGLISH.search(text)]


def test_in_japanese(account: Account, paths: dict[str, str], signed_in: SignIn) -> None:
    client = signed_in(account)
    found = {}
    for visitor, those in ((Client(), PUBLIC), (client, paths)):
        for name, path in those.items():
            page = visitor.get(path, headers={"Accept-Language": "ja"})
            assert page.status_code == 200
            assert '<html lang="ja"' in page.text, name
            if left := english(page.text):
                found[name] = left
    assert not found, found


@pytest.mark.e2e
@pytest.mark.parametrize(
    ("viewport", "scheme", "locale"),
    [(WIDE, "light", "en"), (NARROW, "dark", "en"), (WIDE, "dark", "ja"), (NARROW, "light", "ja")],
    ids=["wide-light", "narrow-dark", "wide-japanese", "narrow-japanese"],
)
def test_in_the_browser(
    stack: Start,
    browser: Browser,
    account: Account,
    paths: dict[str, str],
    viewport: Any,
    scheme: str,
    locale: str,
) -> None:
    """Nothing for the browser to complain of, nothing serious for axe, no sideways scrolling."""
    running = stack("web")
    faults = {}
    for visitor_of, those in ((None, PUBLIC), (account, paths)):
        with visit(browser, running, visitor_of, viewport, color_scheme=scheme, locale=locale) as visitor:
            for name, path in those.items():
                page = visitor.go(path)
                page.evaluate(AXE.read_text())
                found = [f"{v['id']}: {v['nodes'][0]['html']}" for v in page.evaluate(SERIOUS)]
                if page.evaluate("document.documentElement.scrollWidth > innerWidth"):
                    found.append("scrolls sideways")
                if found:
                    faults[name] = found
    assert faults == {}
