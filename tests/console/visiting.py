"""A person at a browser: pages of the running stack, and what the browser complains of."""

from collections.abc import Iterator
from contextlib import contextmanager

from django.conf import settings
from django.test import Client
from playwright._impl._api_structures import SetCookieParam
from playwright.sync_api import Browser, ConsoleMessage, Page, Response
from stack import Stack
from support import Account

WIDE, NARROW = {"width": 1280, "height": 800}, {"width": 360, "height": 740}


class Visit:
    """`complaints`: errors in the browser's log, among them each violation of the content security policy."""

    def __init__(self, page: Page, stack: Stack) -> None:
        self.page = page
        self.stack = stack
        self.complaints: list[str] = []
        page.on("console", self._logged)
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("response", self._answered)
        page.set_default_timeout(60_000)

    def _logged(self, message: ConsoleMessage) -> None:
        if message.type == "error" and "WebSocket" not in message.text:
            self.complaints.append(message.text)

    def _answered(self, response: Response) -> None:
        if response.status >= 500:
            self.complaints.append(f"{response.status} {response.url}")

    def go(self, path: str) -> Page:
        self.page.goto(self.stack.url(path))
        return self.page

    def press(self, name: str) -> None:
        """The button or link of this name."""
        page = self.page
        page.get_by_role("button", name=name, exact=True).or_(
            page.get_by_role("link", name=name, exact=True)
        ).first.click()


@contextmanager
def visit(
    browser: Browser,
    stack: Stack,
    account: Account | None = None,
    viewport: dict[str, int] = WIDE,
    **options: object,
) -> Iterator[Visit]:
    """Fails at its end if the browser had something to complain of."""
    context = browser.new_context(viewport=viewport, **options)  # type: ignore[arg-type]
    if account:
        context.add_cookies([session_cookie(account, stack)])
    visited = Visit(context.new_page(), stack)
    try:
        yield visited
        assert not visited.complaints
    finally:
        context.close()


def session_cookie(account: Account, stack: Stack) -> SetCookieParam:
    client = Client()
    client.force_login(account.user)
    name = settings.SESSION_COOKIE_NAME
    return {"name": name, "value": client.cookies[name].value, "url": stack.url("/")}
