"""What people do in the console, in Chromium, against the running stack."""

import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import requests
from django.contrib.auth.hashers import make_password
from playwright.sync_api import Browser, expect
from stack import Stack
from support import Account
from visiting import NARROW, visit

from thingscale.accounts.credentials import credentials
from thingscale.accounts.models import User
from thingscale.devices.models import Device
from thingscale.streams.models import Channel

pytestmark = pytest.mark.e2e
Start = Callable[..., Stack]
PASSWORD = "a long enough phrase"
SHOWN = 10_000  # ms
expect.set_options(timeout=SHOWN)


def send(stack: Stack, token: str, device: str, value: str) -> int:
    headers = {"X-DEVICETOKEN": token, "X-DEVICEID": device}
    return requests.post(stack.url("/post_v2/"), headers=headers, data=value, timeout=60).status_code


@pytest.mark.parametrize("viewport", [{"width": 1280, "height": 800}, NARROW], ids=["wide", "narrow"])
def test_from_the_first_visit_to_the_first_live_datapoint(
    stack: Start, browser: Browser, viewport: dict[str, int], transactional_db: None
) -> None:
    running = stack()
    with visit(browser, running, viewport=viewport) as visitor:
        page = visitor.go("/")
        visitor.press("Make an account")
        page.get_by_label("E-mail").fill("new@example.com")
        page.get_by_label("Password", exact=True).fill(PASSWORD)
        visitor.press("Make account")
        expect(page.get_by_text("Waiting for the first message")).to_be_visible()
        expect(page.locator("#arrived-title ~ [data-live-state]")).to_have_text("live")
        subprocess.run(["sh", "-c", page.locator("#snippet").inner_text()], check=True, capture_output=True)
        page.get_by_role("button", name="Enable my-first-device").click()
        expect(page.get_by_role("img").first).to_have_attribute("aria-label", _shows("21.5"))
        send(running, credentials(User.objects.get())["device_token"], "my-first-device", '{"temp": 33.25}')
        expect(page.get_by_role("img").first).to_have_attribute("aria-label", _shows("33.25"))


def _shows(number: str) -> "re.Pattern[str]":
    return re.compile(rf"\b{re.escape(number)}\b")


def test_a_device_made_by_hand_draws_its_chart(stack: Start, browser: Browser, account: Account) -> None:
    running = stack()
    account.channel(7)
    with visit(browser, running, account) as visitor:
        page = visitor.go("/devices/")
        visitor.press("New device")
        page.get_by_label("Device id").fill("boiler-1")
        page.get_by_label("Channel", exact=False).first.fill("7")
        page.get_by_role("button", name="Make device").click()
        assert send(running, account.device_token, "boiler-1", '{"temp": 20.25}') == 200
        page = visitor.go("/streams/7/")
        image = page.get_by_role("img").first
        expect(image).to_have_attribute("aria-label", _shows("20.25"))
        expect(page.locator("[data-live-state]").first).to_have_text("live")
        assert send(running, account.device_token, "boiler-1", '{"temp": 44.75}') == 200
        expect(image).to_have_attribute("aria-label", _shows("44.75"))


def test_a_thousand_devices_are_imported(
    stack: Start, browser: Browser, account: Account, tmp_path: Path
) -> None:
    account.channel(7)
    table = tmp_path / "devices.csv"
    lines = [f"meter-{n:04},true,7,Hall {n % 9}" for n in range(1000)]
    table.write_text("\n".join(["device_id,enabled,channel,location", *lines]))
    with visit(browser, stack("web"), account) as visitor:
        page = visitor.go("/devices/import/")
        page.get_by_label("CSV file").set_input_files(table)
        visitor.press("See what it would do")
        expect(page.get_by_text("1,000")).to_be_visible()
        assert not Device.objects.exists()
        visitor.press("Import")
        expect(page.get_by_role("heading", name="Devices")).to_be_visible()
    devices = Device.objects.for_account(account.user)
    assert devices.filter(enabled=True, mapped_channel__number=7).count() == 1000


def test_a_rotated_token_is_refused_after_the_overlap(
    stack: Start, browser: Browser, account: Account
) -> None:
    running = stack()
    account.device("d1")
    with visit(browser, running, account) as visitor:
        page = visitor.go("/profile/tokens/device/rotate/")
        page.get_by_label("How long the old token stays valid").select_option("1 hour")
        visitor.press("Rotate")
        assert send(running, account.device_token, "d1", "1") == 200
        visitor.press("end the overlap now")
        page.get_by_role("button", name="End").click()
        expect(page.get_by_role("heading", name="Profile")).to_be_visible()
        assert send(running, account.device_token, "d1", "2") == 401
    assert send(running, credentials(account.user)["device_token"], "d1", "3") == 200


def test_without_javascript(stack: Start, browser: Browser, account: Account) -> None:
    """Sign in, lists, create, edit, map, delete."""
    set_password(account)
    with visit(browser, stack("web"), java_script_enabled=False) as visitor:
        page = visitor.go("/devices/")
        page.get_by_label("E-mail").fill(account.user.email)
        page.get_by_label("Password").fill(PASSWORD)
        visitor.press("Sign in")
        visitor.go("/channels/new/")
        page.get_by_label("Name").fill("Hall")
        visitor.press("Make channel")
        visitor.go("/devices/new/")
        page.get_by_label("Device id").fill("d1")
        page.get_by_role("button", name="Make device").click()
        device = Device.objects.get()
        visitor.go(f"/devices/{device.pk}/map/")
        page.get_by_label("Channel").fill("0")
        page.get_by_role("button", name="Map").first.click()
        visitor.go(f"/devices/{device.pk}/edit/")
        page.get_by_label("Location").fill("North")
        page.get_by_role("button", name="Save").click()
        visitor.go("/devices/?q=north")
        expect(page.get_by_role("link", name="d1", exact=True)).to_be_visible()
        for path in ("/", "/start/", "/streams/0/", "/publish/", "/inspector/", "/profile/"):
            visitor.go(path)
            expect(page.get_by_role("heading", level=1)).to_be_visible()
        visitor.go(f"/devices/{device.pk}/delete/")
        page.get_by_role("button", name="Delete").click()
        visitor.go("/channels/0/delete/")
        page.get_by_label("Type 0 to confirm").fill("0")
        visitor.press("Delete channel")
    assert not Device.objects.exists()
    assert not Channel.objects.exists()


def test_by_keyboard_alone(stack: Start, browser: Browser, account: Account) -> None:
    set_password(account)
    with visit(browser, stack("web")) as visitor:
        page = visitor.go("/channels/")
        expect(page.get_by_label("E-mail")).to_be_focused()
        page.keyboard.type(account.user.email)
        page.keyboard.press("Tab")
        page.keyboard.type(PASSWORD)
        page.keyboard.press("Enter")
        expect(page.get_by_role("heading", name="Channels", exact=True)).to_be_visible()
        page.keyboard.press("Tab")
        expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
        page.get_by_role("link", name="New channel").focus()
        page.keyboard.press("Enter")
        page.get_by_label("Name").focus()
        page.keyboard.type("Roof")
        page.keyboard.press("Enter")
        expect(page.get_by_role("heading", name="Roof")).to_be_visible()


def set_password(account: Account) -> None:
    """Hashed as the web process can check it."""
    account.user.password = make_password(PASSWORD, hasher="pbkdf2_sha256")
    account.user.save()


def test_pages_leave_no_token_in_the_browser(stack: Start, browser: Browser, account: Account) -> None:
    """Back works all the same."""
    account.device("d1")
    with visit(browser, stack("web"), account) as visitor:
        page = visitor.go("/start/")
        assert account.device_token in page.content()
        page.locator("#tab-arduino").click()
        page.wait_for_url("**/start/?with=arduino")
        page = visitor.go("/devices/")
        page.get_by_role("link", name="Enabled").click()
        page.wait_for_url("**/devices/?*")
        page.go_back()
        expect(page.get_by_role("heading", name="Devices")).to_be_visible()
        visitor.press("Sign out")
        expect(page.get_by_label("E-mail")).to_be_visible()
        kept = page.evaluate("JSON.stringify([{...sessionStorage}, {...localStorage}])")
    assert account.device_token not in kept
    assert "htmx-history-cache" not in kept
