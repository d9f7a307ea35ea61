"""Pages that follow what comes, and pages on a phone, in a real browser."""

from collections.abc import Callable

import pytest
from playwright.sync_api import Browser, expect
from stack import Stack, wait_until
from support import Account
from visiting import NARROW, visit

from thingscale.lib.clock import now_us
from thingscale.lib.points import Points
from thingscale.streams.actions.datapoints import store_points

pytestmark = pytest.mark.e2e
Start = Callable[..., Stack]


def store(account: Account, *values: int) -> None:
    points = [(None, b'{"n": %d}' % value, now_us()) for value in values]
    store_points(account.channel(0), Points.of(points))


def test_c8_table_and_totals_follow_the_chart(browser: Browser, stack: Start, account: Account) -> None:
    store(account, 1)
    with visit(browser, stack("web"), account) as visited:
        page = visited.go("/streams/0/")
        expect(page.locator("#totals")).to_contain_text("1 datapoint in all")
        store(account, 2, 3)
        expect(page.locator("#totals")).to_contain_text("3 datapoints in all", timeout=30_000)
        expect(page.locator("#data tbody tr")).to_have_count(3, timeout=30_000)
        expect(page.locator("#data tbody td").nth(1)).to_have_text('{"n": 3}')


def test_c8_date_and_time_are_not_cut_off(browser: Browser, stack: Start, account: Account) -> None:
    """With seconds, AM and PM: the widest that a browser writes."""
    store(account, 1)
    with visit(browser, stack("web"), account, NARROW, locale="en-US") as visited:
        page = visited.go("/streams/0/?start=2026-10-20T22:10:10&end=2026-12-30T23:59:59")
        assert page.evaluate("document.documentElement.scrollWidth") <= 360
        for width in (360, 1280):
            page.set_viewport_size({"width": width, "height": 800})
            box = page.locator("#start").bounding_box()
            assert box
            assert box["width"] >= 250


@pytest.mark.parametrize("path", ["/", "/publish/", "/inspector/", "/profile/"])
def test_c10_the_menu_shows_where_one_is(browser: Browser, stack: Start, account: Account, path: str) -> None:
    store(account, 1)
    with visit(browser, stack("web"), account, NARROW) as visited:
        page = visited.go(path)
        current = page.locator(".nav [aria-current=page]")

        def in_sight() -> bool:
            box = current.bounding_box()
            return box is not None and box["x"] >= 0 and box["x"] + box["width"] <= NARROW["width"]

        wait_until(in_sight, 60, "the current entry of the menu in sight")


def test_c14_what_is_typed_outlives_the_session(browser: Browser, stack: Start, account: Account) -> None:
    """Where a part of a page is asked for."""
    account.device("d1")
    with visit(browser, stack("web"), account) as visited:
        page = visited.go("/publish/")
        page.get_by_label("Payload").fill("typed with care")
        page.context.clear_cookies()
        page.get_by_label("Find a device").fill("d")
        expect(page.locator(".messages")).to_contain_text("You are signed out.")
        link = page.locator(".messages").get_by_role("link", name="Sign in")
        expect(link).to_have_attribute("href", "/signin/?next=%2Fpublish%2F")
        expect(page.get_by_label("Payload")).to_have_value("typed with care")
        visited.complaints.clear()  # the 401 itself


def test_c9_the_start_page_asks_only_for_the_device_it_waits_for(
    browser: Browser, stack: Start, account: Account
) -> None:
    with visit(browser, stack("web"), account) as visited:
        page = visited.go("/start/?device=mine")
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url) if "arrived" in request.url else None)
        expect(page.locator("[data-live-state=connected], [data-state=connected]").first).to_be_visible()
        page.wait_for_timeout(2_000)  # what it asks when it is connected is over
        asked.clear()
        tell = (
            """devices => document.dispatchEvent(new CustomEvent("live:update", { detail: { devices } }))"""
        )
        for _ in range(10):
            page.evaluate(tell, ["another", "third"])
        page.wait_for_timeout(300)
        assert asked == []
        for _ in range(20):
            page.evaluate(tell, ["another", "mine"])
            page.wait_for_timeout(100)
        assert 2 <= len(asked) <= 4
