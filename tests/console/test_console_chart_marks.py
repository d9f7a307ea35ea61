"""Events in charts, in a real browser: thresholds, incidents, and the bell that leads to a new event."""

import re
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import requests
from chart_page import Json, Site, serve
from playwright.sync_api import Browser, Page, expect
from stack import Stack, wait_until
from support import Account
from test_console_charts import HOUR, START, chart, drag, humid, labels, series, tell
from visiting import NARROW, WIDE, visit

from thingscale.lib.clock import now_us
from thingscale.lib.points import Points
from thingscale.streams.actions.datapoints import store_points

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    with serve() as site:
        yield site


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    context = browser.new_context(viewport={"width": 1000, "height": 800}, color_scheme="light")
    complaints: list[str] = []
    page = context.new_page()
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    yield page
    context.close()
    assert [text for text in complaints if "Failed to load resource" not in text] == []


def event(key: str = "temp", **changes: Any) -> Json:
    return {
        "name": "Too hot",
        "url": "/alerts/events/3/",
        "key": key,
        "kind": "threshold",
        "operator": ">",
        "severity": "critical",
        "lines": [24.0],
        "clear": [],
    } | changes


def incident(
    start: float, end: float | None, tag: str = "", event: int = 0, severity: str = "critical"
) -> Json:
    """Hours after the chart begins."""
    return {
        "event": event,
        "number": 3,
        "tag": tag,
        "severity": severity,
        "start": START + int(start * HOUR),
        "end": None if end is None else START + int(end * HOUR),
    }


def marked(answer: Json, *events: Json, incidents: tuple[Json, ...] = ()) -> Json:
    return answer | {"marks": {"events": list(events), "incidents": list(incidents)}}


def show(page: Page, site: Site, answer: Json, live: bool = False) -> list[str]:
    site.show(answer, live=live)
    page.goto(site.url)
    return labels(page)


def reddish(page: Page, part: float, at: float, plot: int = 0) -> bool:
    """Whether the canvas has the colour of `critical` at this part of its width, at the height of the number
    `at`, or at the edge above the plot for infinity."""
    found: bool = page.evaluate(
        """([part, at, plot]) => {
            const { uplot: u } = document.querySelector(".charts").chart.plots[plot];
            const { bbox, ctx } = u;
            const x = Math.round(bbox.left + bbox.width * part);
            const y = at === null ? bbox.top + 2 : Math.round(u.valToPos(at, "y", true));
            const { data } = ctx.getImageData(x - 8, y - 2, 16, 4);
            const isRed = (red, i) => i % 4 === 0 && data[i + 3] > 200 && red > 150 && data[i + 2] < 90;
            return data.some(isRed);
        }""",
        [part, None if at == float("inf") else at, plot],
    )
    return found


EDGE = float("inf")


def test_a_threshold_is_a_line_in_the_chart_of_its_key(page: Page, site: Site) -> None:
    first, second = show(page, site, marked(chart(series(20, 22, 21), humid(50, 60)), event()))
    assert reddish(page, 0.6, 24)
    assert not reddish(page, 0.6, 23)
    assert not reddish(page, 0.6, 55, plot=1)
    assert "Too hot: did not fire in this range" in first
    assert "Too hot" not in second
    expect(page.locator(".chart-events li")).to_have_text(["Too hot · critical, did not fire in this range"])
    expect(page.get_by_role("link", name="Too hot")).to_have_attribute("href", "/alerts/events/3/")


def test_a_range_has_two_lines_and_the_second_threshold_is_fainter(page: Page, site: Site) -> None:
    bounds = event(kind="range", lines=[19.0, 23.0])
    show(page, site, marked(chart(series(20, 22, 21)), bounds, event(clear=[21.5])))
    assert [reddish(page, 0.6, at) for at in (19, 23, 24)] == [True, True, True]
    texts = page.evaluate("""async () => {
        const { linesOf } = await import("/static/console/chart-marks.js");
        const { marks } = document.querySelector(".charts").chart.plots[0];
        return linesOf(marks.events).map(({ text, clear }) => [text, clear]);
    }""")
    assert texts == [["< 19", False], ["> 23", False], ["", True], ["> 24", False]]


def test_a_far_threshold_does_not_flatten_the_data(page: Page, site: Site) -> None:
    show(page, site, marked(chart(series(20, 22, 21)), event(lines=[500.0]), event(lines=[23.5])))
    low, high = page.evaluate(
        "(({ min, max }) => [min, max])(document.querySelector('.charts').chart.plots[0].uplot.scales.y)"
    )
    assert low < 20
    assert 23.5 < high < 30


def test_an_incident_shades_its_time(page: Page, site: Site) -> None:
    (said,) = show(
        page, site, marked(chart(series(20, 22, 21)), event(), incidents=(incident(2, 4), incident(8, None)))
    )
    assert [reddish(page, part, EDGE) for part in (0.1, 0.3, 0.6, 0.9)] == [False, True, False, True]
    assert "Too hot: fires now, fired 2 times in this range" in said


def test_an_incident_is_of_its_tag(page: Page, site: Site) -> None:
    """Where the series of that tag is switched off, the incident is, too."""
    kitchen = series(20, 22, tag="kitchen")
    answer = marked(
        chart(series(20, 21), kitchen),
        event(),
        incidents=(incident(2, 4, "kitchen"), incident(6, 7, "attic")),
    )
    show(page, site, answer)
    assert [reddish(page, part, EDGE) for part in (0.3, 0.65)] == [True, False]
    page.get_by_role("button", name="Temperature · kitchen").click()
    wait_until(lambda: not reddish(page, 0.3, EDGE))
    expect(page.locator(".chart-events li")).to_have_text(["Too hot · critical, did not fire in this range"])


def test_silence_shades_every_chart(page: Page, site: Site) -> None:
    quiet = event("", kind="silence", lines=[], name="Quiet")
    show(page, site, marked(chart(series(20, 22), humid(50, 60)), quiet, incidents=(incident(2, 4),)))
    assert [reddish(page, 0.3, EDGE, plot) for plot in (0, 1)] == [True, True]


def test_a_live_chart_shows_what_fires_now(page: Page, site: Site) -> None:
    show(page, site, marked(chart(series(20, 22)), event()), live=True)
    site.answer = marked(chart(series(20, 22)), event(lines=[23.0]), incidents=(incident(5, None),))
    tell(page, [7])
    expect(page.locator(".chart-events li")).to_have_text(
        ["Too hot · critical, fires now, fired once in this range"]
    )
    wait_until(lambda: reddish(page, 0.9, EDGE))
    assert reddish(page, 0.3, 23)
    assert not reddish(page, 0.3, 24)


def test_zooming_asks_for_the_marks_of_that_part(page: Page, site: Site) -> None:
    show(page, site, marked(chart(series(*range(11))), event(), incidents=(incident(2, 4),)))
    site.answer = marked(chart(series(*range(11))), event())
    drag(page, 0.25, 0.75)
    expect(page.locator(".chart-events li")).to_have_text(["Too hot · critical, did not fire in this range"])
    wait_until(lambda: not reddish(page, 0.3, EDGE))


def test_spans_that_overlap_are_one(page: Page, site: Site) -> None:
    show(page, site, chart(series(1)))
    joined = page.evaluate("""async () => {
        const { union } = await import("/static/console/chart-marks.js");
        const spans = [[5, null], [-3, 2], [1, 3], [7, 8], [-9, -8]].map(([start, end]) => ({ start, end }));
        return union(spans, 0, 10);
    }""")
    assert joined == [[0, 3], [5, 10]]


def asked_for(page: Page) -> dict[str, str]:
    page.wait_for_url("**/alerts/events/new/*")
    return {name: values[0] for name, values in parse_qs(urlsplit(page.url).query).items()}


@pytest.mark.parametrize(("height", "operator"), [(0.2, ">"), (0.95, "<")])
def test_from_a_height_of_a_chart_to_an_event(page: Page, site: Site, height: float, operator: str) -> None:
    """Above the latest value it is told above, below it below."""
    show(page, site, chart(series(20, 30, 22)))
    page.get_by_role("link", name="Notify me").click()
    expect(page.locator(".chart-ask")).to_contain_text("Click at the height")
    box = page.locator(".u-over").bounding_box()
    assert box
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] * height
    value = page.evaluate(
        "(y) => document.querySelector('.charts').chart.plots[0].uplot.posToVal(y, 'y')",
        box["height"] * height,
    )
    page.mouse.move(x, y)
    expect(page.locator(".chart-ask")).to_have_text(
        re.compile(f"Temperature {'above' if operator == '>' else 'below'} [\\d.]+ °C")
    )
    page.mouse.click(x, y)
    query = asked_for(page)
    assert float(query.pop("threshold")) == pytest.approx(value, abs=0.1)
    assert query == {"channel": "7", "source": "temp", "operator": operator}


def test_by_keyboard_the_bell_has_the_latest_value(page: Page, site: Site) -> None:
    show(page, site, chart(series(20, 30, 22.25, key="a\\:b:temp")))
    page.get_by_role("link", name="Notify me").focus()
    page.keyboard.press("Enter")
    assert asked_for(page) == {"channel": "7", "source": "a:b:temp", "operator": ">", "threshold": "22.25"}


def test_the_bell_takes_the_series_that_is_nearest(page: Page, site: Site) -> None:
    show(page, site, chart(series(*[20] * 11), series(*[40] * 11, key="water", label="Water")))
    page.get_by_role("link", name="Notify me").click()
    box = page.locator(".u-over").bounding_box()
    assert box
    page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] * 0.3)
    assert asked_for(page)["source"] == "water"


def test_the_bell_of_a_switch_asks_for_on_or_off(page: Page, site: Site) -> None:
    show(page, site, chart(series(0, 1, 0)))
    page.get_by_role("link", name="Notify me").click()
    box = page.locator(".u-over").bounding_box()
    assert box
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] * 0.3)
    expect(page.locator(".chart-ask")).to_have_text("Temperature is 1 °C")
    page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] * 0.3)
    query = asked_for(page)
    assert (query["operator"], query["threshold"]) == ("=", "1")


def test_escape_or_the_bell_once_more_and_nothing_is_asked(page: Page, site: Site) -> None:
    show(page, site, chart(series(20, 22)))
    bell = page.get_by_role("link", name="Notify me")
    for by_key in (True, False):
        bell.click()
        expect(page.locator(".chart-armed")).to_have_count(1)
        if by_key:
            page.keyboard.press("Escape")
        else:
            bell.click()
        expect(page.locator(".chart-armed")).to_have_count(0)
    page.locator(".u-over").click()
    assert urlsplit(page.url).path == "/"


def test_by_finger_on_a_narrow_screen(browser: Browser, site: Site) -> None:
    context = browser.new_context(viewport={"width": 360, "height": 700}, has_touch=True, is_mobile=True)
    page = context.new_page()
    show(page, site, marked(chart(series(20, 30, 22)), event(), incidents=(incident(2, 4),)))
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    page.get_by_role("link", name="Notify me").tap()
    box = page.locator(".u-over").bounding_box()
    assert box
    page.touchscreen.tap(box["x"] + box["width"] / 2, box["y"] + box["height"] * 0.2)
    assert asked_for(page)["operator"] == ">"
    context.close()


def test_heights_are_rounded_to_a_pixel(page: Page, site: Site) -> None:
    show(page, site, chart(series(1)))
    texts = page.evaluate("""async () => {
        const { rounded } = await import("/static/console/chart-marks.js");
        return [[23.4567, 0.025], [-0.0000123, 1e-7], [1234567, 1000], [0.30000004, 0.1], [1e21, 1e18]]
            .map(([value, perPixel]) => rounded(value, perPixel));
    }""")
    assert texts == ["23.45", "-0.0000123", "1235000", "0.3", "1e+21"]


@pytest.mark.parametrize("viewport", [WIDE, NARROW], ids=["wide", "narrow"])
def test_from_a_chart_to_an_event_that_fires(
    stack: Callable[..., Stack], browser: Browser, account: Account, viewport: dict[str, int]
) -> None:
    """On the running stack: a click at a height, the preview, the event; then it fires, in the chart that is
    open."""
    running = stack("web", "ingest", "celery")
    account.device("boiler-1", channel=7)
    ten_minutes = now_us() - 600_000_000
    store_points(
        account.channel(7),
        Points.of(
            [
                (None, b'{"temp": %d}' % temp, ten_minutes + number * 60_000_000)
                for number, temp in enumerate((20, 22, 30, 22, 20))
            ]
        ),
    )
    with visit(browser, running, account, viewport) as visitor:
        page = visitor.go("/streams/7/")
        visitor.press("Notify me")
        box = page.locator(".u-over").bounding_box()
        assert box
        page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] * 0.3)
        preview = page.locator("#preview")
        expect(preview).to_contain_text("Would have fired 1 time")
        page.locator("#id_threshold").fill("99")
        expect(preview).to_contain_text("Would not have fired")
        page.locator("#id_threshold").fill("hot")
        expect(preview).to_contain_text("Must be a number")
        page.locator("#id_threshold").fill("25")
        page.locator("#id_description").fill("Too hot")
        expect(preview).to_contain_text("Would have fired 1 time")
        visitor.press("Make event")
        expect(page.get_by_role("heading", name="Too hot")).to_be_visible()
        page = visitor.go("/streams/7/")
        events = page.locator(".chart-events li")
        expect(events).to_have_text(["Too hot · warning, did not fire in this range"])
        headers = {"X-DEVICETOKEN": account.device_token, "X-DEVICEID": "boiler-1"}
        sent = requests.post(running.url("/post_v2/"), headers=headers, data='{"temp": 26}', timeout=60)
        assert sent.status_code == 200
        expect(events).to_have_text(
            ["Too hot · warning, fires now, fired once in this range"], timeout=40_000
        )
