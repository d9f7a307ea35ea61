"""The stream page: ranges, the table, files, and what another user sees."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from string import Template

import pytest
from django.test import Client
from django.utils import timezone
from pytest_django import Settings
from support import Account

from thingscale.accounts.actions import update_account
from thingscale.events.actions import create_event, update_event
from thingscale.events.models import Incident
from thingscale.lib.clock import now_us, to_us
from thingscale.lib.points import Points
from thingscale.streams import datapoint_table, queries
from thingscale.streams.actions.datapoints import store_points
from thingscale.streams.actions.tags import create_tag
from thingscale.streams.models import Tag

SignIn = Callable[[Account], Client]
MINUTE = 60_000_000
SLOWLY = "AND pg_sleep(60) IS NOT NULL AND at"


def fill(account: Account, count: int = 3, ending: int | None = None, tag: str | None = None) -> None:
    """A datapoint a minute, the values 0, 1, 2 ..., the last one at `ending`."""
    last = now_us() - MINUTE if ending is None else ending
    points = [(tag, b'{"n": %d}' % n, last - (count - 1 - n) * MINUTE) for n in range(count)]
    store_points(account.channel(7), Points.of(points))


def test_without_a_channel_the_page_says_what_to_do(account: Account, signed_in: SignIn) -> None:
    assert "Make the first channel" in signed_in(account).get("/streams/").text


def test_streams_leads_to_the_channel_written_to_last(account: Account, signed_in: SignIn) -> None:
    account.channel(0)
    fill(account)
    client = signed_in(account)
    assert client.get("/streams/").headers["Location"] == "/streams/7/"
    assert client.get("/streams/?channel=0").headers["Location"] == "/streams/0/"


def test_an_empty_channel(account: Account, signed_in: SignIn) -> None:
    account.channel(7)
    assert "Nothing has been stored in this channel yet" in signed_in(account).get("/streams/7/").text


def test_the_table_is_newest_first_and_paged(account: Account, signed_in: SignIn) -> None:
    fill(account, 120)
    client = signed_in(account)
    seen, path = [], "/streams/7/?range=24h"
    while path:
        context = client.get(path).context
        seen += [row.value for row in context["rows"]]
        cursor = context["next"]
        path = f"/streams/7/?range=24h&before={cursor}" if cursor else ""
    assert seen == [f'{{"n": {n}}}' for n in range(119, -1, -1)]


def test_data_of_last_year_is_shown_at_once(account: Account, signed_in: SignIn) -> None:
    fill(account, ending=to_us(datetime(2025, 3, 1, 12, tzinfo=UTC)))
    page = signed_in(account).get("/streams/7/")
    assert [row.value for row in page.context["rows"]] == ['{"n": 2}', '{"n": 1}', '{"n": 0}']
    assert not page.context["range"].preset


def test_a_range_is_read_in_the_zone_of_the_user(account: Account, signed_in: SignIn) -> None:
    update_account(account.user, {"locale": "Asia/Kolkata"})
    fill(account, ending=to_us(datetime(2026, 1, 1, 6, 32, tzinfo=UTC)))  # 12:02 in Kolkata
    page = signed_in(account).get("/streams/7/?start=2026-01-01T12:01&end=2026-01-01T12:02")
    assert [row.value for row in page.context["rows"]] == ['{"n": 2}', '{"n": 1}']
    assert "2026-01-01 12:02:00" in page.text


def test_earlier_and_later_move_by_the_width(account: Account, signed_in: SignIn) -> None:
    account.channel(7)
    context = signed_in(account).get("/streams/7/?start=2026-01-01T12:00:00&end=2026-01-01T13:00:00").context
    assert (
        context["earlier"] == "start=2026-01-01T11%3A00%3A00%2B00%3A00&end=2026-01-01T12%3A00%3A00%2B00%3A00"
    )
    assert context["range"].width_in_words == "1 hour"


def test_earlier_and_later_keep_the_width_over_a_clock_change(account: Account, signed_in: SignIn) -> None:
    update_account(account.user, {"locale": "Europe/Berlin"})
    account.channel(7)
    client = signed_in(account)
    path = "/streams/7/?start=2026-10-25T02:00:00%2B01:00&end=2026-10-25T03:00:00%2B01:00"
    for name in ("earlier", "earlier", "later", "later"):
        context = client.get(path).context
        assert context["range"].width == timedelta(hours=1)
        path = f"/streams/7/?{context[name]}"
    assert client.get(path).context["range"].start == datetime(2026, 10, 25, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    "query",
    [
        "before=2026-02-30T00:00:00,5",
        "before=2026-W01-1,5",
        "start=0001-01-01T00:00&end=2026-01-01T00:00",
        "start=2026-01-01T00:00&end=9999-12-31T23:59:59",
        "start=0001-01-01T00:00&end=9999-12-31T23:59:59",
    ],
)
@pytest.mark.parametrize("zone", ["Asia/Tokyo", "America/New_York"])
def test_any_query_has_an_answer(account: Account, signed_in: SignIn, query: str, zone: str) -> None:
    update_account(account.user, {"locale": zone})
    fill(account)
    client = signed_in(account)
    page = client.get(f"/streams/7/?{query}")
    assert page.status_code == 200
    for name in ("earlier", "later"):
        assert client.get(f"/streams/7/?{page.context[name]}").status_code == 200
    assert client.get(f"/streams/7/chart.json?{query}").status_code in {200, 400}
    assert client.get(f"/streams/7/data.csv?{query}").status_code == 200


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("start=yesterday", "must look like"),
        ("start=2026-01-02T00:00&end=2026-01-01T00:00", "The end must come after the start"),
    ],
)
def test_a_range_that_is_none(account: Account, signed_in: SignIn, query: str, said: str) -> None:
    account.channel(7)
    assert said in signed_in(account).get(f"/streams/7/?{query}").text


def test_only_a_tag(account: Account, signed_in: SignIn) -> None:
    fill(account, 2, tag="kitchen")
    fill(account, 3)
    client = signed_in(account)
    assert len(client.get("/streams/7/?tag=kitchen").context["rows"]) == 2
    assert client.get("/streams/7/?tag=cellar").status_code == 404


def test_one_of_many_tags(account: Account, signed_in: SignIn) -> None:
    fill(account, 2, tag="z")
    channel = account.channel(7)
    Tag.objects.bulk_create(Tag(channel=channel, name=f"t{n}") for n in range(300))
    page = signed_in(account).get("/streams/7/?tag=z")
    assert len(page.context["rows"]) == 2
    assert page.text.count('<option value="t') == 200
    assert '<input id="tag" name="tag" list="tags" value="z"' in page.text
    assert signed_in(account).get("/streams/7/?tag=%00").status_code == 404


def test_what_takes_too_long_is_said_on_the_page(
    account: Account, signed_in: SignIn, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(account)
    settings.READ_SECONDS = 1
    monkeypatch.setattr(datapoint_table, "_TABLE", datapoint_table._TABLE.replace("AND at", SLOWLY))
    page = signed_in(account).get("/streams/7/?range=1h")
    assert page.status_code == 200
    assert "Reading it took longer than" in page.text
    assert 'name="start"' in page.text


def test_files_hold_the_range(account: Account, signed_in: SignIn) -> None:
    fill(account)
    client = signed_in(account)
    csv = client.get("/streams/7/data.csv?range=1h")
    assert csv.headers["Content-Disposition"] == 'attachment; filename="channel-7.csv"'
    assert [line.split(",")[5] for line in csv.getvalue().decode().split("\r\n")[:-1]] == ["n", "0", "1", "2"]
    lines = client.get("/streams/7/data.ndjson?range=1h").getvalue().decode().splitlines()
    assert len(lines) == 3


@pytest.mark.parametrize("form", ["csv", "ndjson"])
def test_a_file_that_takes_too_long_or_has_too_many_rows(
    account: Account, signed_in: SignIn, settings: Settings, monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    fill(account)
    path, client = f"/streams/7/data.{form}?range=1h", signed_in(account)
    settings.STREAM_MAX_ROWS = 2
    answer = client.get(path)
    assert answer.status_code == 400
    assert "more than 2 rows" in answer.text
    assert "/streams/7/?range=1h" in answer.text
    settings.STREAM_MAX_ROWS, settings.READ_SECONDS = 3, 1
    slow = Template(queries._PAGE_ROWS.template.replace("AND at", SLOWLY))
    monkeypatch.setattr(queries, "_PAGE_ROWS", slow)
    answer = client.get(path)
    assert answer.status_code == 400
    assert "Reading it took longer than 1 second:" in answer.text


def test_the_chart_has_the_points(account: Account, signed_in: SignIn) -> None:
    fill(account)
    series = signed_in(account).get("/streams/7/chart.json?range=1h&pixels=500").json()["series"]
    assert [each["key"] for each in series] == ["n"]
    assert [v for v in series[0]["v"] if v is not None] == [0, 1, 2]


@pytest.mark.parametrize("path", ["", "chart.json", "data.csv", "data.ndjson"])
def test_an_outsider_finds_nothing(account: Account, outsider: Account, signed_in: SignIn, path: str) -> None:
    fill(account)
    assert signed_in(outsider).get(f"/streams/7/{path}").status_code == 404


def test_a_tag_of_another_channel_is_not_found(account: Account, signed_in: SignIn) -> None:
    create_tag(account.channel(8), "kitchen")
    account.channel(7)
    assert signed_in(account).get("/streams/7/?tag=kitchen").status_code == 404


@pytest.mark.parametrize(
    ("query", "follows"),
    [
        ("?range=1h", True),
        ("", True),
        ("?start=2026-01-01T00:00", True),
        ("?start=2026-01-01T00:00&end=2026-01-02T00:00", False),
    ],
)
def test_c1_a_range_without_an_end_follows_what_comes(
    account: Account, signed_in: SignIn, query: str, follows: bool
) -> None:
    """Also where there is nothing yet, or nothing of this year."""
    account.channel(7)
    fill(account, ending=to_us(datetime(2025, 3, 1, 12, tzinfo=UTC)))
    page = signed_in(account).get(f"/streams/7/{query}")
    assert (" data-live>" in page.text) is follows


def test_c1_a_chart_that_has_not_changed_is_not_made_again(account: Account, signed_in: SignIn) -> None:
    fill(account)
    client = signed_in(account)
    path = "/streams/7/chart.json?range=365d&pixels=100"
    version = client.get(path).headers["ETag"]
    for known in (version, f"W/{version}"):
        assert client.get(path, headers={"If-None-Match": known}).status_code == 304
    fill(account, 1)
    changed = client.get(path, headers={"If-None-Match": version})
    assert changed.status_code == 200
    assert changed.headers["ETag"] != version


@pytest.mark.parametrize(
    "query", ["start=junk", "end=2026-13-01", "range=junk", "start=2026-01-02&end=2026-01-01"]
)
def test_r6_a_file_of_another_range_is_not_handed_out(
    account: Account, signed_in: SignIn, query: str
) -> None:
    account.channel(7)
    for form in ("csv", "ndjson"):
        answer = signed_in(account).get(f"/streams/7/data.{form}?{query}", headers={"Accept": "text/html"})
        assert (answer.status_code, "No such range" in answer.text) == (400, True)
        answer = signed_in(account).get(f"/streams/7/data.{form}?{query}", headers={"Accept": "text/csv"})
        assert (answer.status_code, answer.json()["error"]) == (400, "BAD_PARAMETER")


def test_a_chart_has_thresholds_and_incidents(account: Account, signed_in: SignIn) -> None:
    """A chart on the page is not true any more once an event changes or fires."""
    fill(account)
    fields = {"source": "n", "operator": ">", "threshold": "30", "description": "Many"}
    event = create_event(account.user, fields | {"mapped_channel_id": account.channel(7).pk})
    client = signed_in(account)
    chart = client.get("/streams/7/chart.json")
    (shown,) = chart.json()["marks"]["events"]
    assert (shown["name"], shown["url"], shown["lines"]) == ("Many", f"/alerts/events/{event.number}/", [30])
    version = chart.headers["ETag"]
    assert client.get("/streams/7/chart.json", headers={"If-None-Match": version}).status_code == 304
    now = timezone.now()
    Incident.objects.create(
        user=account.user, event=event, number=1, title="Many", severity="info", started_at=now
    )
    chart = client.get("/streams/7/chart.json", headers={"If-None-Match": version})
    (incident,) = chart.json()["marks"]["incidents"]
    assert (incident["event"], incident["tag"], incident["severity"], incident["end"]) == (
        0,
        "",
        "info",
        None,
    )
    update_event(event, {"threshold": "31"})
    version = chart.headers["ETag"]
    chart = client.get("/streams/7/chart.json", headers={"If-None-Match": version})
    assert chart.json()["marks"]["events"][0]["lines"] == [31]
