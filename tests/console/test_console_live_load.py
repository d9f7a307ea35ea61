"""Pages that show messages as they come, under load, in a real browser."""

import time
from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import Browser, Page
from stack import Stack
from support import Account
from visiting import NARROW, WIDE, visit

pytestmark = pytest.mark.e2e
# As live.js hands them over: four times a second, 50 at most.
SEND = """([messages, pause]) => new Promise(done => {
    let left = 12, sent = 0;
    const timer = setInterval(() => {
        const made = Array.from({length: messages}, () => ({
            at: new Date().toISOString(), device: `device-${sent % 40}`, tag: sent % 3 ? null : "kitchen",
            kind: "json", status: sent % 20 ? "stored" : "rejected", reason: null, channel: 7,
            value: JSON.stringify({temp: sent++ % 40, humidity: 55, text: "x".repeat(100)}),
        }));
        const devices = made.map(({device}) => device);
        const detail = {messages: made, dropped: 0, latest: [], devices};
        document.dispatchEvent(new CustomEvent("live:update", {detail}));
        if (!--left) { clearInterval(timer); done(sent); }
    }, pause);
})"""
PAUSE = 250  # milliseconds


def busy(page: Page, run: Callable[[], Any]) -> float:
    """The share of the time in which the page's main thread had something to do."""
    session = page.context.new_cdp_session(page)
    session.send("Performance.enable", {"timeDomain": "threadTicks"})

    def spent() -> float:
        metrics = session.send("Performance.getMetrics")["metrics"]
        return next(float(each["value"]) for each in metrics if each["name"] == "TaskDuration")

    before, begun = spent(), time.monotonic()
    run()
    return (spent() - before) / (time.monotonic() - begun)


@pytest.mark.parametrize("messages", [50, 3], ids=["200/s", "12/s"])
@pytest.mark.parametrize("viewport", [WIDE, NARROW], ids=["wide", "narrow"])
def test_c6_many_messages_leave_the_browser_time(
    stack: Callable[..., Stack],
    browser: Browser,
    account: Account,
    viewport: dict[str, int],
    messages: int,
) -> None:
    """Processor time of the main thread, so that a busy machine makes no difference."""
    with visit(browser, stack("web"), account, viewport=viewport) as visitor:
        page = visitor.go("/inspector/")
        page.evaluate(SEND, [50, 10])  # fills the table
        share = busy(page, lambda: page.evaluate(SEND, [messages, PAUSE]))
        assert page.locator("[data-inspector-rows] tr").count() == 500
        assert share < 0.25


def test_c6_a_single_message_is_still_seen_to_come(
    stack: Callable[..., Stack], browser: Browser, account: Account
) -> None:
    with visit(browser, stack("web"), account) as visitor:
        page = visitor.go("/inspector/")
        page.evaluate(SEND.replace("left = 12", "left = 1"), [1, PAUSE])
        assert page.locator("[data-inspector-rows] tr.flash").count() == 1


@pytest.mark.parametrize("path", ["/devices/", "/devices/{pk}/"])
def test_c6_other_pages_that_show_messages_leave_time_too(
    stack: Callable[..., Stack], browser: Browser, account: Account, path: str
) -> None:
    devices = [account.device(f"device-{each}") for each in range(40)]
    with visit(browser, stack("web"), account) as visitor:
        page = visitor.go(path.format(pk=devices[0].pk))
        send = SEND if "pk" not in path else SEND.replace("device-${sent % 40}", "device-0")
        share = busy(page, lambda: page.evaluate(send, [50, PAUSE]))
        assert page.get_by_text("just now").count() >= 1
        assert share < 0.25
