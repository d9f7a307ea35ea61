"""What pages cost over the wire, in a real browser."""

from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import Browser
from stack import Stack
from support import Account
from visiting import visit

from thingscale.lib.clock import now_us
from thingscale.lib.points import Points
from thingscale.streams.actions.datapoints import store_points

pytestmark = pytest.mark.e2e
MAX_BYTES = 90_000


@pytest.mark.parametrize("path", ["/streams/7/", "/devices/", "/inspector/"])
def test_c11_a_page_weighs_less_than_90_kb(
    stack: Callable[..., Stack], browser: Browser, account: Account, path: str
) -> None:
    """All that comes, heads included; and the second visit fetches no file again."""
    running = stack("web")
    now = now_us()
    readings = [(None, b'{"temp": %d.5}' % (each % 40), now - each * 1_000_000) for each in range(500)]
    store_points(account.channel(7), Points.of(readings))
    account.device("d1", 7)
    with visit(browser, running, account) as visitor:
        session = visitor.page.context.new_cdp_session(visitor.page)
        session.send("Network.enable")
        received: dict[str, float] = {}
        urls: dict[str, str] = {}
        cached: set[str] = set()

        def asked(event: Any) -> None:
            urls[event["requestId"]] = event["request"]["url"]

        def answered(event: Any) -> None:
            if event["response"].get("fromDiskCache"):
                cached.add(event["requestId"])

        def done(event: Any) -> None:
            received[event["requestId"]] = event["encodedDataLength"]

        session.on("Network.requestWillBeSent", asked)
        session.on("Network.responseReceived", answered)
        session.on("Network.requestServedFromCache", lambda event: cached.add(event["requestId"]))
        session.on("Network.loadingFinished", done)
        visitor.go(path)
        visitor.page.wait_for_load_state("load")
        if path.startswith("/streams/"):
            visitor.page.locator(".uplot").first.wait_for()
        weights = {urls[each]: size for each, size in received.items()}
        assert 10_000 < sum(weights.values()) < MAX_BYTES, weights
        received.clear()
        visitor.go("/channels/")
        visitor.page.wait_for_load_state("load")
        fetched = [urls[each] for each in received.keys() - cached]
        assert not [url for url in fetched if "/static/" in url]
