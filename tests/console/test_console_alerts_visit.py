"""The pages of alerts in Chromium, against the running stack."""

from collections.abc import Callable
from datetime import timedelta

import pytest
from django.utils import timezone
from playwright.sync_api import Browser, expect
from stack import Stack
from support import Account
from test_console_alerts import fires
from visiting import NARROW, visit

from thingscale.events.models import Condition, Event, Incident
from thingscale.lib.clock import now_us
from thingscale.lib.points import Points
from thingscale.streams.actions.datapoints import store_points

pytestmark = pytest.mark.e2e
Start = Callable[..., Stack]
SHOWN = 30_000  # ms: an open page asks every five seconds
expect.set_options(timeout=SHOWN)


def test_an_open_page_follows_and_leaves_the_focus(stack: Start, browser: Browser, account: Account) -> None:
    first = fires(account, "Hall too warm")
    with visit(browser, stack("web"), account) as visitor:
        page = visitor.go("/alerts/")
        assert first.incident
        acknowledge = page.locator(f"#acknowledge-{first.incident.pk}")
        acknowledge.focus()
        fires(account, "Cellar too wet")
        expect(page.get_by_role("link", name="Cellar too wet")).to_be_visible()
        expect(page.get_by_role("link", name="Alerts 2 firing")).to_be_visible()
        expect(acknowledge).to_be_focused()
        page.keyboard.press("Enter")
        expect(page.get_by_text(f"Acknowledged by {account.user.email}")).to_be_visible()
        page.locator(f"#mute-{first.pk}").press("Enter")
        page.get_by_role("button", name="8 h").first.press("Enter")
        expect(page.get_by_text("Muted until")).to_be_visible()
        Condition.objects.update(state="ok")
        Incident.objects.update(ended_at=timezone.now(), over="cleared")
        expect(page.get_by_text("Nothing fires.")).to_be_visible()
        expect(page.locator("#history").get_by_role("link", name="Hall too warm")).to_be_visible()
    first.refresh_from_db()
    assert first.muted_until
    assert first.muted_until > timezone.now() + timedelta(hours=7)


def test_the_form_shows_what_the_kind_needs(stack: Start, browser: Browser, account: Account) -> None:
    store_points(account.channel(7), Points.of([(None, b'{"temp": 20}', now_us())]))
    with visit(browser, stack("web"), account, NARROW) as visitor:
        page = visitor.go("/alerts/events/new/")
        threshold, period = page.get_by_label("Threshold", exact=True), page.get_by_label("It sends every")
        expect(threshold).to_be_visible()
        expect(period).to_be_hidden()
        page.get_by_label("Channel", exact=True).fill("7")
        page.get_by_label("Channel", exact=True).blur()
        expect(page.locator("#keys option[value=temp]")).to_be_attached()
        page.get_by_label("A device goes silent").check()
        expect(threshold).to_be_hidden()
        expect(period).to_be_visible()
        page.get_by_label("A value leaves a range").check()
        expect(page.get_by_label("Is", exact=True)).to_be_hidden()
        page.get_by_label("Key in the value").fill("temp")
        threshold.fill("18..24")
        page.get_by_label("Webhook", exact=True).check()
        page.get_by_label("Address of the webhook").fill("https://example.com/hook")
        page.get_by_text("More: when").click()
        page.get_by_label("Must hold for").fill("5 min")
        visitor.press("Make event")
        expect(page.get_by_role("heading", name="Signature")).to_be_visible()
        expect(page.get_by_text("temp outside of 18..24 for 5 min").first).to_be_visible()
    event = Event.objects.get()
    assert (event.kind, event.threshold, event.hold, event.notify_type) == ("range", "18..24", 300, "http")


def test_without_javascript(stack: Start, browser: Browser, account: Account) -> None:
    first = fires(account, "Hall too warm")
    with visit(browser, stack("web"), account, java_script_enabled=False) as visitor:
        page = visitor.go("/alerts/")
        visitor.press("Acknowledge")
        expect(page.get_by_text("Acknowledged by")).to_be_visible()
        page.get_by_text("Mute", exact=True).click()
        visitor.press("1 h")
        expect(page.get_by_text("Muted until")).to_be_visible()
        visitor.go("/alerts/contacts/")
        page.get_by_label("Name", exact=True).fill("Night shift")
        page.get_by_label("Address", exact=True).fill("ntfys://ntfy.sh/topic")
        visitor.press("Add")
        visitor.press("Test Night shift")
        expect(page.get_by_text("Below is what becomes of it")).to_be_visible()
        visitor.go("/alerts/events/new/")
        page.get_by_label("Channel", exact=True).fill("7")
        page.get_by_label("Key in the value").fill("temp")
        page.get_by_label("Threshold", exact=True).fill("warm")
        visitor.press("Make event")
        expect(page.get_by_text("Must be a number")).to_be_visible()
        page.get_by_label("Threshold", exact=True).fill("30")
        page.get_by_label("Night shift").check()
        visitor.press("Make event")
        expect(page.get_by_role("heading", name="State of each device and tag")).to_be_visible()
        visitor.press("Disable")
        expect(page.get_by_text("is disabled")).to_be_visible()
        visitor.go("/alerts/maintenance/")
        page.get_by_label("Devices", exact=True).fill("roof-*")
        visitor.press("Plan maintenance")
        page.get_by_role("button", name="End now").click()
        expect(page.get_by_text("The maintenance of roof-* is over.")).to_be_visible()
    assert Event.objects.filter(pk__gt=first.event.pk, contact_points__name="Night shift").exists()
