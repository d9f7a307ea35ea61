"""live.js in a real browser, under the content security policy that the console's pages have."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.conf import settings
from listening import sign_in
from playwright.sync_api import Browser, Page
from stack import Stack, wait_until
from support import Account
from test_live_stack import publish

pytestmark = pytest.mark.e2e
Start = Callable[..., Stack]

RESTRICT = """() => {
    document.body.dataset.live = "";
    const policy = document.createElement("meta");
    policy.httpEquiv = "Content-Security-Policy";
    policy.content = "default-src 'self'";
    document.head.append(policy);
}"""
LISTEN = """
window.states = []; window.updates = [];
document.addEventListener("live:state", event => window.states.push(event.detail));
document.addEventListener("live:update", event => window.updates.push(event.detail));
"""
HIDE = """hidden => {
    Object.defineProperty(document, "hidden", {value: hidden, configurable: true});
    document.dispatchEvent(new Event("visibilitychange"));
}"""


class Tab:
    """Shows a page that does nothing but listen."""

    def __init__(self, page: Page, stack: Stack, session: str) -> None:
        self.page = page
        url = stack.url("/healthz")
        page.context.add_cookies([{"name": settings.SESSION_COOKIE_NAME, "value": session, "url": url}])
        page.add_init_script(LISTEN)
        page.clock.install()
        page.goto(url)
        page.evaluate(RESTRICT)
        page.add_script_tag(url=stack.url("/static/console/live.js"), type="module")

    @property
    def states(self) -> list[str]:
        found: list[str] = self.page.evaluate("window.states")
        return found

    @property
    def updates(self) -> list[Any]:
        found: list[Any] = self.page.evaluate("window.updates")
        return found

    def wait(self, state: str) -> None:
        wait_until(lambda: self.states[-1:] == [state], 10, state)


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    with browser.new_context() as context:
        yield context.new_page()


def test_a_page_hears_updates_and_comes_back_after_a_restart(
    stack: Start, account: Account, page: Page
) -> None:
    running = stack()
    account.device("d1")
    tab = Tab(page, running, sign_in(account))
    tab.wait("connected")
    publish(running, account, "json/d1", '{"temp": 23.5}')
    wait_until(lambda: tab.updates, 60, "an update")
    assert tab.updates[0]["messages"][0]["value"] == '{"temp": 23.5}'
    running.kill("web")
    tab.wait("waiting")
    running.ensure("web")
    tab.wait("connected")


def test_a_page_without_a_session_stops_asking(stack: Start, account: Account, page: Page) -> None:
    tab = Tab(page, stack("web"), "x" * 32)
    tab.wait("signed-out")
    page.clock.fast_forward(60_000)
    assert tab.states[-1] == "signed-out"


def test_a_tab_hidden_for_long_gives_up_its_socket(stack: Start, account: Account, page: Page) -> None:
    tab = Tab(page, stack("web"), sign_in(account))
    tab.wait("connected")
    page.evaluate(HIDE, True)
    page.clock.fast_forward(4 * 60_000)
    assert tab.states[-1] == "connected"
    page.clock.fast_forward(61_000)
    tab.wait("waiting")
    page.evaluate(HIDE, False)
    tab.wait("connected")
