"""Pages of channels: lists, forms, what another user sees."""

import json
import re
from collections.abc import Callable
from typing import Any

import pytest
from django.test import Client
from support import Account

from thingscale.lib.clock import now_us
from thingscale.lib.plurals import counted
from thingscale.lib.points import Points
from thingscale.streams.actions.datapoints import store_points
from thingscale.streams.models import Channel, Tag

SignIn = Callable[[Account], Client]
FORMSET = {"streams-TOTAL_FORMS": "2", "streams-INITIAL_FORMS": "0"}


def as_sent(page: Any) -> dict[str, Any]:
    """What a browser sends of the page, unchanged."""
    formset = page.context["streams"]
    forms = [page.context["form"], formset.management_form, *formset.forms]
    fields = [form[name] for form in forms for name in form.fields]
    return {field.html_name: field.value() or "" for field in fields}


def fill(account: Account, tag: str | None = None) -> Channel:
    channel = account.channel(7)
    store_points(channel, Points.of([(tag, b'{"temp": 21.5, "data": {"humid": 40}}', 1_700_000_000_000_000)]))
    return channel


def test_an_empty_list_says_what_to_do(account: Account, signed_in: SignIn) -> None:
    assert "Make the first channel" in signed_in(account).get("/channels/").text


def test_the_list_shows_totals_and_finds_by_name_and_number(account: Account, signed_in: SignIn) -> None:
    fill(account)
    Channel.objects.filter(number=7).update(name="Cold store")
    client = signed_in(account)
    assert "Cold store" in client.get("/channels/?q=cold").text
    assert "Cold store" in client.get("/channels/?q=7").text
    assert "No channel matches" in client.get("/channels/?q=roof").text
    assert "No channel matches" in client.get("/channels/?q=%00").text


def test_the_list_has_pages(account: Account, signed_in: SignIn) -> None:
    Channel.objects.bulk_create(Channel(user=account.user, number=number) for number in range(120))
    client = signed_in(account)
    seen: list[int] = []
    cursor: str | None = ""
    while cursor is not None:
        page = client.get("/channels/", {"page": cursor}).context["page"]
        seen += [channel.number for channel in page.rows]
        cursor = page.next
    assert seen == list(range(120))


def test_a_new_channel(account: Account, signed_in: SignIn) -> None:
    answer = signed_in(account).post("/channels/new/", {"number": "3", "name": "Roof"}, follow=True)
    assert answer.redirect_chain == [("/channels/3/", 302)]
    assert Channel.objects.for_account(account.user).get(number=3).name == "Roof"


def test_a_taken_number_keeps_what_was_typed(account: Account, signed_in: SignIn) -> None:
    account.channel(3)
    text = signed_in(account).post("/channels/new/", {"number": "3", "name": "Roof"}).text
    assert "There is a channel 3 already" in text
    assert 'value="Roof"' in text


def test_labels_and_units(account: Account, signed_in: SignIn) -> None:
    channel = fill(account)
    client = signed_in(account)
    page = client.get("/channels/7/").text
    assert 'value="data:humid"' in page  # seen in the data, offered to be labelled
    row = {"streams-0-key": "temp", "streams-0-label": "Temperature", "streams-0-unit": "°C"}
    client.post("/channels/7/", FORMSET | row | {"name": "Lab", "retention_days": "30", "shorter": "on"})
    channel.refresh_from_db()
    assert channel.streams == [{"key": "temp", "label": "Temperature", "unit": "°C"}]
    assert (channel.name, channel.retention_days) == ("Lab", 30)


def test_a_key_twice_is_refused(account: Account, signed_in: SignIn) -> None:
    fill(account)
    rows = {f"streams-{n}-{name}": "temp" for n in (0, 1) for name in ("key", "label")}
    answer = signed_in(account).post("/channels/7/", FORMSET | rows)
    assert "This key is there twice" in answer.text


def test_as_many_labels_as_a_channel_has(account: Account, signed_in: SignIn) -> None:
    channel = fill(account)
    labels = [{"key": f"k{n}", "label": f"K{n}", "unit": ""} for n in range(1000)]
    Channel.objects.filter(pk=channel.pk).update(streams=labels)
    client = signed_in(account)
    sent = as_sent(client.get("/channels/7/"))
    assert client.post("/channels/7/", sent | {"streams-999-label": "Last"}).status_code == 302
    channel.refresh_from_db()
    assert [stream["label"] for stream in channel.streams][-2:] == ["K998", "Last"]


@pytest.mark.parametrize("key", ["a" * 201, "a\nb"])
def test_keys_that_no_form_carries_are_left_out(account: Account, signed_in: SignIn, key: str) -> None:
    channel = account.channel(7)
    value = json.dumps({key: 1, "temp": 2}).encode()
    store_points(channel, Points.of([(None, value, 1_700_000_000_000_000)]))
    client = signed_in(account)
    sent = as_sent(client.get("/channels/7/"))
    assert sent["streams-0-key"] == "temp"
    assert client.post("/channels/7/", sent | {"name": "Lab"}).status_code == 302


def test_deleting_needs_the_number_typed(account: Account, signed_in: SignIn) -> None:
    fill(account)
    client = signed_in(account)
    assert "with 1 datapoint," in client.get("/channels/7/delete/").text
    assert "exactly as it stands here" in client.post("/channels/7/delete/", {"typed": "8"}).text
    client.post("/channels/7/delete/", {"typed": "7"})
    assert not Channel.objects.for_account(account.user).exists()


def test_a_tag_is_renamed_and_deleted(account: Account, signed_in: SignIn) -> None:
    channel = fill(account, "kitchen")
    tag = Tag.objects.get(channel=channel)
    client = signed_in(account)
    assert "no + #" in client.post(f"/channels/7/tags/{tag.pk}/", {"name": "a//b"}).text
    client.post(f"/channels/7/tags/{tag.pk}/", {"name": "cellar"})
    assert "cellar" in client.get("/channels/7/").text
    client.post(f"/channels/7/tags/{tag.pk}/delete/", {"typed": "cellar"})
    assert "No tag yet" in client.get("/channels/7/").text


def test_many_tags_are_shown_in_pages_and_found(account: Account, signed_in: SignIn) -> None:
    channel = fill(account, "t0000")
    Tag.objects.bulk_create(Tag(channel=channel, name=f"t{n:04}") for n in range(1, 250))
    client = signed_in(account)
    seen: list[str] = []
    sizes: list[int] = []
    cursor: str | None = ""
    while cursor is not None:
        context = client.get("/channels/7/", {"tags": cursor}).context
        seen += [row["tag"].name for row in context["tags"]]
        sizes.append(len(context["tags"]))
        cursor = context["page"].next
    assert sizes == [100, 100, 50]
    assert seen == [f"t{n:04}" for n in range(250)]
    found = client.get("/channels/7/?tag=t0000")
    assert [(row["tag"].name, row["latest"]["count"]) for row in found.context["tags"]] == [("t0000", 1)]
    assert "No tag has" in client.get("/channels/7/?tag=roof%00").text
    assert client.get("/channels/7/?tags=nonsense").status_code == 200


@pytest.mark.parametrize("path", ["", "delete/", "tags/{tag}/", "tags/{tag}/delete/"])
def test_an_outsider_finds_nothing(account: Account, outsider: Account, signed_in: SignIn, path: str) -> None:
    tag = Tag.objects.get_or_create(channel=fill(account, "kitchen"), name="kitchen")[0]
    client = signed_in(outsider)
    assert client.get(f"/channels/7/{path.format(tag=tag.pk)}").status_code == 404
    assert client.post(f"/channels/7/{path.format(tag=tag.pk)}", {"typed": "7"}).status_code == 404
    assert "Cold store" not in client.get("/channels/").text


def test_who_is_not_signed_in_is_asked_to(account: Account) -> None:
    assert Client().get("/channels/").headers["Location"] == "/signin/?next=/channels/"


def test_c14_a_shorter_retention_is_asked_for_twice(account: Account, signed_in: SignIn) -> None:
    """None at all is the longest; a longer one, or none, deletes nothing and needs no question."""
    channel = account.channel(7)
    client = signed_in(account)
    streams = {"streams-TOTAL_FORMS": "0", "streams-INITIAL_FORMS": "0"}

    def save(days: str, **more: str) -> int | None:
        client.post("/channels/7/", {"name": "x", "retention_days": days} | streams | more)
        channel.refresh_from_db()
        return channel.retention_days

    asked = client.post("/channels/7/", {"name": "x", "retention_days": "1"} | streams)
    assert "older than 1 day are deleted" in asked.text
    assert 'name="shorter"' in asked.text
    assert save("30") is None
    assert save("30", shorter="on") == 30
    assert save("30") == 30
    assert save("7") == 30
    assert save("400") == 400
    assert save("") is None


def test_c7_channels_and_charts_lead_to_each_other(account: Account, signed_in: SignIn) -> None:
    account.channel(7)
    client = signed_in(account)
    for path in ("/channels/", "/channels/7/"):
        assert 'href="/streams/7/"' in client.get(path).text
    assert 'href="/channels/7/"' in client.get("/streams/7/").text


def test_d10_data_of_tomorrow_is_not_just_now(account: Account, signed_in: SignIn) -> None:
    channel = account.channel(7)
    client = signed_in(account)
    store_points(channel, Points.of([(None, b"1", now_us() + 23 * 3_600_000_000 + 60_000_000)]))
    assert re.search(r"in 23 h</time>, by now none", client.get("/streams/7/").text)
    store_points(channel, Points.of([(None, b"1", now_us() - 180_000_000)]))
    for path in ("/channels/", "/channels/7/", "/streams/7/"):
        assert re.search(r"in 23 h</time>, by now <time[^>]*>3 min ago", client.get(path).text), path


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0 datapoints"), (1, "1 datapoint"), (2000, "2,000 datapoints")]
)
def test_c14_one_is_singular(count: int, text: str) -> None:
    assert counted(count, "datapoint") == text
