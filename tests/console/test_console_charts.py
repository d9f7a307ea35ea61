"""Charts in a real browser, under the console's content security policy."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from chart_page import Json, Site, serve
from playwright.sync_api import Browser, ConsoleMessage, Page, expect
from stack import wait_until

pytestmark = pytest.mark.e2e

START = 1_792_600_000_000
HOUR = 3_600_000
COLOURED = """() => {
    const canvas = document.querySelector("canvas");
    const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
    let found = 0;
    for (let at = 0; at < data.length; at += 4) {
        const [red, green, blue, alpha] = data.slice(at, at + 4);
        if (alpha > 100 && Math.max(red, green, blue) - Math.min(red, green, blue) > 80) found += 1;
    }
    return found;
}"""  # pixels that are neither axis nor text
Show = Callable[..., Page]


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    with serve() as site:
        yield site


@pytest.fixture
def show(site: Site, browser: Browser) -> Iterator[Show]:
    """Opens a page with a chart of this JSON; whatever the browser complains about fails the test."""
    context = browser.new_context(viewport={"width": 1000, "height": 800}, color_scheme="light")
    complaints: list[str] = []

    def opened(answer: Json | tuple[int, Json], **places: Any) -> Page:
        site.show(answer, **places)
        page = context.new_page()
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("console", lambda message: complaints.append(message.text) if is_wrong(message) else None)
        page.goto(site.url)
        return page

    yield opened
    context.close()
    assert complaints == []


def is_wrong(message: ConsoleMessage) -> bool:
    """An answer that is an error is what some tests are about."""
    return message.type == "error" and "Failed to load resource" not in message.text


def series(*values: float | None, tag: str | None = None, **changes: Any) -> Json:
    return {
        "key": "temp",
        "tag": tag,
        "label": "Temperature",
        "unit": "°C",
        "t": [START + number * HOUR for number in range(len(values))],
        "v": list(values),
    } | changes


def chart(*all_series: Json, hours: int = 10, left_out: int = 0) -> Json:
    points = sum(len(each["t"]) for each in all_series)
    end = START + hours * HOUR
    return {"start": START, "end": end, "reduced": False, "points": points, "left_out": left_out} | {
        "series": list(all_series)
    }


def humid(*values: float) -> Json:
    return series(*values, key="humid", label="Humidity", unit="%")


def labels(page: Page) -> list[str]:
    expect(page.locator("canvas").first).to_be_visible()
    return [canvas.get_attribute("aria-label") or "" for canvas in page.locator("canvas").all()]


def drag(page: Page, first: float, last: float) -> None:
    """Over the first chart, from one part of its width to another."""
    box = page.locator(".u-over").first.bounding_box()
    assert box
    page.mouse.move(box["x"] + box["width"] * first, box["y"] + 50)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * last, box["y"] + 60, steps=5)
    page.mouse.up()


def tell(page: Page, channels: list[int] | None, times: int = 1) -> None:
    """As live.js does when something has been stored."""
    page.evaluate(
        """([channels, times]) => {
            const event = () => new CustomEvent("live:update", { detail: { channels } });
            for (let n = 0; n < times; n += 1) document.dispatchEvent(event());
        }""",
        [channels, times],
    )


def colours(page: Page) -> set[str]:
    """Of opaque pixels that are no shade of grey, coarsely."""
    found: list[str] = page.evaluate("""() => {
        const canvas = document.querySelector("canvas"), seen = new Set();
        const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
        for (let i = 0; i < data.length; i += 4) {
            const [red, , blue, opacity] = data.slice(i, i + 4);
            if (opacity === 255 && Math.abs(red - blue) > 60) seen.add(data.slice(i, i + 3).join());
        }
        return [...seen];
    }""")
    return set(found)


def test_one_chart_for_each_unit(show: Show, site: Site) -> None:
    page = show(chart(series(20, 25, 22), humid(50, 40), series(5, 6, tag="cellar"), left_out=2))
    expect(page.locator(".chart h2")).to_have_text(["Temperature (°C)", "Humidity (%)"])
    names = page.locator(".chart-legend button")
    expect(names).to_have_text(["Temperature22", "Temperature · cellar6", "Humidity40"])
    expect(page.locator(".charts-message")).to_have_text("2 more series are not shown.")
    assert site.asked == [
        {"range": "24h", "pixels": str(page.locator(".chart").first.evaluate("e => e.clientWidth + 2"))}
    ]


def test_the_picture_has_a_description(show: Show) -> None:
    page = show(chart(series(20, None, 25, 22.5)), zone="Europe/Berlin")
    assert labels(page) == [
        "Temperature (°C) 21 Oct 2026, 18:26:40 GMT+2 to 22 Oct 2026, 04:26:40 GMT+2."
        " Temperature: 20 to 25, latest 22.5"
    ]


def test_the_cursor_shows_the_time_in_the_users_zone_and_moves_in_all_charts(show: Show) -> None:
    page = show(chart(series(*range(11)), humid(*range(11))), zone="Asia/Tokyo")
    box = page.locator(".u-over").first.bounding_box()
    assert box
    page.mouse.move(box["x"] + box["width"] * 0.5, box["y"] + 50)
    expect(page.locator(".charts-time")).to_have_text("22 Oct 2026, 06:26:40 GMT+9")
    expect(page.locator(".chart-reading")).to_have_text(["5", "5"])
    page.mouse.move(0, 0)
    expect(page.locator(".charts-time")).to_contain_text("Drag")
    expect(page.locator(".chart-reading")).to_have_text(["10", "10"])


def test_dragging_zooms_in_and_a_double_click_goes_back(show: Show, site: Site) -> None:
    page = show(chart(series(*range(11))))
    labels(page)
    page.evaluate("document.addEventListener('chart:range', e => (window.ranges ??= []).push(e.detail))")
    expect(page.get_by_role("button", name="Zoom out")).to_be_hidden()
    drag(page, 0.25, 0.75)
    back = page.get_by_role("button", name="Zoom out")
    expect(back).to_be_visible()
    drag(page, 0.4, 0.6)
    # wait_for_function would look again by eval, which the page's policy forbids.
    wait_until(lambda: page.evaluate("window.ranges.length === 2"))
    page.locator(".u-over").first.dblclick()
    wait_until(lambda: page.evaluate("window.ranges.length === 3"))
    back.focus()
    page.keyboard.press("Enter")
    expect(back).to_be_hidden()
    inner, innermost, again, whole = page.evaluate("window.ranges")
    assert inner["start"] == pytest.approx(START + 2.5 * HOUR, abs=HOUR / 20)
    assert inner["end"] == pytest.approx(START + 7.5 * HOUR, abs=HOUR / 20)
    assert inner["start"] < innermost["start"] < innermost["end"] < inner["end"]
    assert (again, whole) == (inner, {"start": START, "end": START + 10 * HOUR})
    first, zoomed, *_, last = site.asked
    assert first == last == {"range": "24h", "pixels": first["pixels"]}
    assert zoomed["start"].startswith("2026-10-21T18:5")
    assert zoomed["end"].startswith("2026-10-21T23:5")


def test_a_series_is_switched_off_by_the_keyboard(show: Show) -> None:
    page = show(chart(series(1, 2, 3)))
    labels(page)
    button = page.get_by_role("button", name="Temperature")
    drawn = colours(page)
    assert drawn
    button.focus()
    page.keyboard.press("Space")
    expect(button).to_have_attribute("aria-pressed", "false")
    page.wait_for_timeout(50)
    assert not colours(page)
    page.keyboard.press("Space")
    expect(button).to_have_attribute("aria-pressed", "true")
    page.wait_for_timeout(50)
    assert colours(page) == drawn


def test_a_pause_is_not_bridged(show: Show) -> None:
    """The line of one series breaks although another has numbers meanwhile; a number alone is a dot."""
    page = show(chart(series(5, 5, None, 5, 5)))
    columns = page.evaluate("""async () => {
        const { columns, alone } = await import("/static/console/chart-data.js");
        const shown = columns([{ t: [0, 10, 15, 30], v: [1, 2, null, 3] }, { t: [5, 12, 20], v: [1, 2, 3] }]);
        const text = (value) => value === undefined ? "-" : String(value);
        const texts = shown.map((column) => Array.from(column, text).join(" "));
        return [...texts, alone(shown[1]), alone([1, undefined, null, 2])];
    }""")
    assert columns == ["0 5 10 12 15 20 30", "1 - 2 null null null 3", "- 1 - 2 - 3 -", [6], [0, 3]]
    labels(page)
    filled = page.evaluate("""() => {
        const canvas = document.querySelector("canvas"), over = document.querySelector(".u-over");
        const [ratio, left] = [canvas.width / canvas.clientWidth, parseFloat(over.style.left)];
        const at = (part) => {
            const x = Math.round((left + over.clientWidth * part) * ratio);
            const { data } = canvas.getContext("2d").getImageData(x, 0, 1, canvas.height);
            return data.some((value, i) => i % 4 === 0 && data[i + 3] && Math.abs(value - data[i + 2]) > 60);
        };
        return [at(0.05), at(0.15), at(0.25), at(0.35)];
    }""")
    assert filled == [True, False, False, True]


def test_c1_a_live_chart_shows_what_a_new_page_would_show(show: Show, site: Site) -> None:
    """Of whatever channel it is told, if it may be its own; the window is the answer's."""
    page = show(chart(series(1, 2, 3), humid(4)), live=True)
    labels(page)
    for value, channels in ((30, [7]), (31.5, [3, 7]), (32, None)):
        site.answer = chart(series(2, 3, value), humid(70), hours=11)
        tell(page, channels)
        expect(page.locator(".chart-reading")).to_have_text([str(value), "70"])
    temperature, _ = labels(page)
    assert "21 Oct 2026, 16:26:40 GMT+0 to 22 Oct 2026, 03:26:40 GMT+0" in temperature
    assert "2 to 32, latest 32" in temperature


def test_c2_an_empty_chart_draws_the_first_value(show: Show, site: Site) -> None:
    page = show(chart(), live=True)
    expect(page.get_by_role("status")).to_have_text("No numbers in this range.")
    site.answer = chart(series(5))
    tell(page, [7])
    expect(page.locator(".chart-reading")).to_have_text("5")
    expect(page.get_by_role("status")).to_be_empty()


def test_values_of_other_channels_ask_for_nothing(show: Show, site: Site) -> None:
    page = show(chart(series(1, 2, 3)), live=True)
    labels(page)
    tell(page, [8])
    page.wait_for_timeout(1_500)
    assert len(site.asked) == 1


def test_a_range_of_the_past_does_not_follow(show: Show, site: Site) -> None:
    page = show(chart(series(1, 2, 3)))
    labels(page)
    tell(page, [7])
    page.wait_for_timeout(1_500)
    assert len(site.asked) == 1


def test_c1_many_messages_cost_one_request_a_second(show: Show, site: Site) -> None:
    page = show(chart(series(1)), live=True)
    labels(page)
    for number in range(30):
        site.answer = chart(series(number))
        tell(page, [7], 20)
        page.wait_for_timeout(100)
    expect(page.locator(".chart-reading")).to_have_text("29")
    assert 3 <= len(site.asked) <= 6


def test_c1_without_any_message_it_asks_now_and_then(show: Show, site: Site) -> None:
    """No socket, a lost message, a deletion: nothing is said of these."""
    page = show(chart(series(1)), live=True)
    labels(page)
    site.answer = chart(series(2))
    expect(page.locator(".chart-reading")).to_have_text("2", timeout=15_000)


def test_a_live_chart_stays_while_the_server_is_away_and_says_so(show: Show, site: Site) -> None:
    page = show(chart(series(1, 2, 3)), live=True)
    labels(page)
    page.route("**/chart.json*", lambda route: route.fulfill(status=502, body="<html>"))
    tell(page, [7])
    expect(page.get_by_role("status")).to_contain_text("Not up to date since")
    expect(page.locator(".chart-reading")).to_have_text("3")
    page.unroute("**/chart.json*")
    site.answer = chart(series(4))
    page.get_by_role("button", name="Try again").click()
    expect(page.locator(".chart-reading")).to_have_text("4")
    expect(page.get_by_role("status")).to_be_empty()


def test_c14_the_session_is_over(show: Show, site: Site) -> None:
    page = show(chart(series(1, 2, 3)), live=True)
    labels(page)
    site.answer = (401, {"error": "SIGNED_OUT"})
    tell(page, [7])
    expect(page.get_by_role("status")).to_contain_text("You are signed out.")
    expect(page.get_by_role("link", name="Sign in")).to_have_attribute("href", "/signin/?next=%2F")


def test_a_series_that_is_switched_off_stays_off(show: Show, site: Site) -> None:
    page = show(chart(series(1, 2, 3), humid(4)), live=True)
    labels(page)
    page.get_by_role("button", name="Temperature").click()
    site.answer = chart(series(1, 2, 3, 5), humid(4), series(8, tag="cellar"))
    tell(page, [7])
    buttons = page.locator(".chart-legend button")
    expect(buttons).to_have_text(["Temperature5", "Temperature · cellar8", "Humidity4"])
    pressed = [button.get_attribute("aria-pressed") for button in buttons.all()]
    assert pressed == ["false", "true", "true"]


def test_r11_what_is_on_or_off_is_drawn_in_steps(show: Show) -> None:
    page = show(chart(series(0, 1, 1, 0)))
    labels(page)
    found = page.evaluate("""async () => {
        const { isSwitch } = await import("/static/console/chart-data.js");
        return [[0, null, 1], [1, 1], [0, 2], [null], [0.5]].map((v) => isSwitch({ v }));
    }""")
    assert found == [True, True, False, False, False]
    box = page.locator(".u-over").bounding_box()
    assert box
    # Half-way between the first two: on the lower step, where a slope would be in the middle.
    low, middle = page.evaluate("""() => {
        const canvas = document.querySelector("canvas"), over = document.querySelector(".u-over");
        const ratio = canvas.width / canvas.clientWidth;
        const x = Math.round((parseFloat(over.style.left) + over.clientWidth * 0.05) * ratio);
        const coloured = (part) => {
            const y = Math.round((parseFloat(over.style.top) + over.clientHeight * part) * ratio);
            const { data } = canvas.getContext("2d").getImageData(x - 1, y - 4 * ratio, 3, 8 * ratio);
            return data.some((value, i) => i % 4 === 0 && data[i + 3] && Math.abs(value - data[i + 2]) > 60);
        };
        const { scales } = document.querySelector(".charts").chart.plots[0].uplot;
        const part = (value) => 1 - (value - scales.y.min) / (scales.y.max - scales.y.min);
        return [coloured(part(0)), coloured(part(0.5))];
    }""")
    assert (low, middle) == (True, False)


def test_the_colours_follow_the_theme(show: Show) -> None:
    page = show(chart(series(1, 2, 3)))
    labels(page)
    light = colours(page)
    page.evaluate("document.documentElement.dataset.theme = 'dark'")
    page.wait_for_timeout(100)
    dark = colours(page)
    page.evaluate("delete document.documentElement.dataset.theme")
    page.emulate_media(color_scheme="dark")
    page.wait_for_timeout(100)
    assert light != dark == colours(page)


def test_it_fits_a_narrow_screen(show: Show) -> None:
    page = show(chart(series(1, 2e30, 3, label="A label that goes on and on " * 5), humid(4)))
    labels(page)
    page.set_viewport_size({"width": 360, "height": 700})
    wait_until(lambda: page.evaluate("document.querySelector('canvas').clientWidth < 330"))
    assert page.evaluate("document.documentElement.scrollWidth") <= 360


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (chart(), "No numbers in this range."),
        ((400, {"error": "RANGE_TOO_LARGE", "detail": "Ask for less."}), "No chart: Ask for less."),
        ((404, {}), "No chart: This channel or tag is not there any more."),
    ],
)
def test_what_is_said_instead_of_a_chart(show: Show, site: Site, answer: Any, message: str) -> None:
    page = show(answer)
    expect(page.get_by_role("status")).to_contain_text(message)
    if isinstance(answer, tuple):
        site.answer = chart(series(1))
        page.get_by_role("button", name="Try again").click()
        labels(page)
        expect(page.get_by_role("status")).to_be_empty()


def test_the_server_is_away(show: Show, site: Site) -> None:
    page = show(chart(series(1, 2, 3)))
    labels(page)
    page.route("**/chart.json*", lambda route: route.fulfill(status=502, body="<html>"))
    drag(page, 0.2, 0.8)
    expect(page.get_by_role("status")).to_contain_text("the server answered with status 502.")


@pytest.mark.parametrize(
    ("step", "marks", "expected"),
    [
        (HOUR, [0, 1, 7, 8], ["16:26\n21 Oct", "17:26", "23:26", "00:26\n22 Oct"]),
        (24 * HOUR, [0, 24], ["21 Oct\n2026", "22 Oct"]),
        (30 * 24 * HOUR, [0, 24 * 90], ["Oct\n2026", "Jan\n2027"]),
        (366 * 24 * HOUR, [0], ["2026"]),
        (1000, [0], ["16:26:40\n21 Oct"]),
        (1, [0, 0.5 / HOUR], ["40.000\n16:26", "40.000"]),
    ],
)
def test_the_marks_of_the_time_axis(show: Show, step: int, marks: list[float], expected: list[str]) -> None:
    page = show(chart())
    found = page.evaluate(
        "async ([step, marks]) => (await import('/static/console/chart-time.js')).ticks(marks, step, 'UTC')",
        [step, [int(START + hours * HOUR) for hours in marks]],
    )
    assert found == expected


@pytest.mark.parametrize("hours", [[5], [5, 5.01], [0], [10]])
def test_few_points_are_dots(show: Show, hours: list[float]) -> None:
    """A second of a range of hours is a line of no length."""
    times = [START + round(hour * HOUR) for hour in hours]
    page = show(chart(series(*[20.0 + n for n in range(len(times))], t=times)))
    page.locator("canvas").wait_for()
    page.wait_for_timeout(200)
    assert page.evaluate(COLOURED) > 30


def test_many_points_are_a_line_only(show: Show) -> None:
    shows = """async () => {
        const { few } = await import("/static/console/chart-data.js");
        return [few([]), few(Array(59).fill(1)), few([...Array(59).fill(1), null]), few(Array(60).fill(0))];
    }"""
    assert show(chart(series(1, 2))).evaluate(shows) == [True, True, True, False]
