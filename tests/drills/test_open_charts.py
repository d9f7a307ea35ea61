"""An open live chart equals the reloaded one, whatever happened in between: random sequences of events, each
followed by a look at both."""

import json
import os
import random
import time
import urllib.request
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import paho.mqtt.publish as mqtt
import pytest
from django.conf import settings
from django.test import Client
from playwright.sync_api import Browser
from stack import Stack, wait_until
from support import Account

pytestmark = [pytest.mark.drill, pytest.mark.e2e]

LONG = os.environ.get("THINGSCALE_DRILL") == "long"
SEEDS = range(12) if LONG else range(1)
STEPS = 40 if LONG else 0  # 0: each kind of step once
EQUAL_SECONDS = 60
# Sockets that can be closed and made deaf.
SOCKETS = """
window.sockets = [];
window.WebSocket = class extends WebSocket {
    constructor(url) { super(url); window.sockets.push(this); }
    addEventListener(name, heard) {
        super.addEventListener(name, (event) => { if (!(window.deaf && name === "message")) heard(event); });
    }
};
"""
HIDE = """hidden => {
    Object.defineProperty(document, "hidden", { value: hidden, configurable: true });
    document.dispatchEvent(new Event("visibilitychange"));
}"""
DRAWN = """() => {
    const { chart } = document.querySelector(".charts");
    if (!chart?.series || chart.ranges.length) return null;
    const series = {};
    for (const plot of chart.plots) {
        plot.series.forEach((each, index) => {
            const [times, column] = [plot.uplot.data[0], plot.uplot.data[index + 1]];
            const points = times.map((ms, at) => [ms, column[at]]).filter(([, value]) => value != null);
            const breaks = each.t.filter((ms, at) => each.v[at] === null);
            series[`${plot.title} ${each.key} ${each.tag}`] = [points, breaks];
        });
    }
    return { start: chart.start, end: chart.end, series };
}"""


class Visitor:
    """A page that stays open, and another that is loaded for each look."""

    def __init__(self, browser: Browser, stack: Stack, account: Account, chance: random.Random) -> None:
        self.stack, self.account, self.chance = stack, account, chance
        self.context = browser.new_context(viewport={"width": 1000, "height": 800})
        client = Client()
        client.force_login(account.user)
        name = settings.SESSION_COOKIE_NAME
        cookie = client.cookies[name].value
        self.context.add_cookies([{"name": name, "value": cookie, "url": stack.url("/")}])
        self.url = stack.url("/streams/0/?range=15m")
        self.open = self.context.new_page()
        self.open.add_init_script(SOCKETS)
        self.open.goto(self.url)
        self.fresh = self.context.new_page()

    def publish(self, *values: float, tag: str = "") -> None:
        token = self.account.device_token
        mqtt.multiple(
            [(f"{token}/json/d1{tag and '/' + tag}", json.dumps({"n": value}), 1, False) for value in values],
            hostname="127.0.0.1",
            port=self.stack.mqtt,
            auth={"username": self.account.user_id, "password": token},
        )

    def number(self) -> float:
        return round(self.chance.uniform(0, 500), 2)

    def value(self) -> None:
        self.publish(self.number())

    def burst(self) -> None:
        self.publish(*[self.number() for _ in range(5)])

    def tagged(self) -> None:
        self.publish(self.number(), tag=self.chance.choice("ab"))

    def pause(self) -> None:
        time.sleep(self.chance.uniform(0.2, 3))

    def disconnect(self) -> None:
        self.open.evaluate("window.sockets.at(-1)?.close()")
        self.value()

    def lost(self) -> None:
        """A message that does not come, though its socket stays."""
        self.open.evaluate("window.deaf = true")
        self.value()
        time.sleep(1)
        self.open.evaluate("window.deaf = false")

    def hide(self) -> None:
        self.open.evaluate(HIDE, True)
        self.burst()
        time.sleep(1.5)
        self.open.evaluate(HIDE, False)

    def restart(self) -> None:
        self.stack.kill("web")
        self.value()
        self.stack.ensure("web")

    def zoom(self) -> None:
        self.open.evaluate("""() => {
            const { chart } = document.querySelector(".charts");
            chart.zoom(chart.end - 60_000, chart.end - 1_000);
        }""")
        self.value()
        time.sleep(1.5)
        self.open.evaluate("document.querySelector('.charts').chart.zoomOut()")

    def late(self) -> None:
        at = datetime.now(UTC) - timedelta(minutes=self.chance.uniform(1, 10))
        self.rest("POST", {"value": {"n": self.number()}, "at": at.isoformat()})

    def delete_tag(self) -> None:
        self.publish(self.number(), tag="gone")
        self.settle()
        self.rest("DELETE", None, "channel/0?tagname=gone")

    def rest(self, method: str, body: Any, path: str = "stream/0") -> None:
        data = None if body is None else json.dumps(body).encode()
        headers = {"X-APITOKEN": self.account.api_token}
        request = urllib.request.Request(self.stack.url(f"/v2/{path}"), data, headers, method=method)
        urllib.request.urlopen(request, timeout=60).close()

    def settle(self) -> None:
        """Until both show the same; fails if they never do."""

        shown: list[Any] = []

        def equal() -> bool:
            if shown:
                time.sleep(0.3)  # a page takes the machine longer than this to load
            self.fresh.goto(self.url)
            wait_until(lambda: self.fresh.evaluate(DRAWN), 60, "a chart")
            shown[:] = [self.open.evaluate(DRAWN), self.fresh.evaluate(DRAWN)]
            if None in shown:
                return False
            start, end = max(one["start"] for one in shown), min(one["end"] for one in shown)
            first, second = (within(one["series"], start, end) for one in shown)
            return first == second and end - shown[0]["end"] < 20_000

        try:
            wait_until(equal, EQUAL_SECONDS, "the open chart to equal the reloaded one")
        except AssertionError as error:
            raise AssertionError(f"{error}: {shown}") from error


def within(series: dict[str, Any], start: float, end: float) -> dict[str, Any]:
    clipped = {
        name: ([p for p in points if start <= p[0] <= end], [at for at in breaks if start <= at <= end])
        for name, (points, breaks) in series.items()
    }
    return {name: both for name, both in clipped.items() if both[0]}


KINDS: list[Callable[[Visitor], None]] = [
    Visitor.value,
    Visitor.burst,
    Visitor.tagged,
    Visitor.pause,
    Visitor.disconnect,
    Visitor.lost,
    Visitor.hide,
    Visitor.restart,
    Visitor.zoom,
    Visitor.late,
    Visitor.delete_tag,
]


@pytest.fixture
def visitor(
    browser: Browser, stack: Callable[..., Stack], account: Account, request: pytest.FixtureRequest
) -> Iterator[Visitor]:
    running = stack("web", "ingest")
    account.device("d1", 0)
    visiting = Visitor(browser, running, account, random.Random(request.param))
    yield visiting
    visiting.context.close()


@pytest.mark.timeout(3_600 if LONG else 600)
@pytest.mark.parametrize("visitor", SEEDS, indirect=True)
def test_c1_an_open_chart_equals_the_reloaded_one(visitor: Visitor) -> None:
    steps = visitor.chance.choices(KINDS, k=STEPS) if STEPS else visitor.chance.sample(KINDS, len(KINDS))
    done = []
    for step in steps:
        done.append(step.__name__)
        step(visitor)
        try:
            visitor.settle()
        except AssertionError as error:
            raise AssertionError(f"after {', '.join(done)}: {error}") from error


def test_c2_each_value_of_a_burst_is_drawn(
    browser: Browser, stack: Callable[..., Stack], account: Account
) -> None:
    """Also in a channel that was empty, and with a peak that is over when the page is told."""
    running = stack("web", "ingest")
    account.device("d1", 0)
    visiting = Visitor(browser, running, account, random.Random(0))

    def drawn() -> list[float | None]:
        found = visiting.open.evaluate(DRAWN)
        return [value for points, _ in found["series"].values() for _, value in points] if found else [None]

    wait_until(lambda: drawn() == [], 60, "an empty chart")
    visiting.publish(1, 2, 500, 3, 4)
    wait_until(lambda: len(drawn()) == 5, 60, "all of the burst")
    assert drawn() == [1, 2, 500, 3, 4]
    visiting.context.close()
