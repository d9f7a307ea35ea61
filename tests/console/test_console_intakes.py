"""Intakes in the console: made for a program, set up once, watched, tried and changed."""

import json
import re
from collections.abc import Callable
from typing import Any

import pytest
from arrived import store
from django.db import connection
from django.test import Client
from django.utils import timezone
from intake_history import intake_history
from playwright.sync_api import Browser, expect
from pytest_django import Settings
from stack import Stack
from support import Account
from visiting import visit

from console.programs import OTHER, for_topic
from thingscale.accounts.models import User
from thingscale.devices.models import Device, RejectedMessage
from thingscale.intakes.actions import create_intake
from thingscale.intakes.formats.readings import Reading
from thingscale.intakes.messages import Note, note_messages
from thingscale.intakes.models import Intake, IntakeMessage
from thingscale.intakes.presets import presets
from thingscale.provisioning.actions import configure_device

SignIn = Callable[[Account], Client]
TASMOTA = {"name": "Plugs", "format": "mapped", "preset": "tasmota", "topic": "tasmota/#"}
SENSOR = {"try-topic": "tasmota/cellar/tele/SENSOR", "try-body": '{"t": 1}', "try-form": "text"}


@pytest.fixture
def client(account: Account, signed_in: SignIn) -> Client:
    return signed_in(account)


@pytest.fixture
def plugs(account: Account) -> Intake:
    return create_intake(account.user, TASMOTA)[0]


def page(client: Client, path: str, posted: dict[str, Any] | None = None) -> str:
    response = client.get(path) if posted is None else client.post(path, posted, follow=True)
    assert response.status_code == 200, response.status_code
    return response.content.decode()


def note(intake: Intake, outcome: str, body: bytes = b"{}", **more: Any) -> None:
    written = Note.of(
        intake.id,
        timezone.now(),
        "tasmota/cellar/tele/SENSOR",
        {},
        body,
        more.pop("readings", []),
        outcome,
        **more,
    )
    with connection.cursor() as cursor:
        note_messages(cursor, [written])


def test_without_one_the_page_says_what_they_are_for(client: Client) -> None:
    assert "You have no intake yet" in page(client, "/intakes/")


@pytest.mark.parametrize("program", ["tasmota", "prometheus", "opentelemetry", "telegraf-influxdb", "other"])
def test_the_key_is_shown_once(client: Client, account: Account, program: str) -> None:
    first = page(client, "/intakes/new/", {"program": program})
    keys = set(re.findall(r"/in/([a-z2-7]{26})", first))
    assert len(keys) == 1
    intake = Intake.objects.with_key(keys.pop()).get()
    assert intake.user == account.user
    assert not re.search(r"/in/[a-z2-7]{26}", page(client, "/intakes/1/"))
    assert "/in/KEY" in page(client, "/intakes/1/")
    assert intake.key_hint in page(client, "/intakes/")

    again = page(client, "/intakes/1/key/", {})
    (new,) = set(re.findall(r"/in/([a-z2-7]{26})", again))
    assert Intake.objects.with_key(new).get() == intake


def test_every_program_can_be_chosen(client: Client) -> None:
    new = page(client, "/intakes/new/")
    for name in presets():
        assert f'value="{name}"' in new
        page(client, "/intakes/new/", {"program": name})
    assert Intake.objects.count() == len(presets())
    assert "Choose" in page(client, "/intakes/new/", {}) or "required" in page(client, "/intakes/new/", {})
    assert "valid choice" in page(client, "/intakes/new/", {"program": "nothing"})


def test_what_is_pasted_has_the_words_filled_in(client: Client, account: Account) -> None:
    made = page(client, "/intakes/new/", {"program": "tasmota"})
    assert f"MqttUser {account.user_id}; MqttPassword {account.device_token}" in made
    assert "USER_ID" not in made


def test_a_topic_of_the_inspector_chooses_the_program(client: Client) -> None:
    assert re.search(
        r'value="zigbee2mqtt"[^>]* checked', page(client, "/intakes/new/?topic=zigbee2mqtt/lamp")
    )
    other = page(client, "/intakes/new/?topic=odd/lamp")
    assert re.search(r'value="other"[^>]* checked', other)
    assert ">\nodd/lamp</textarea>" in other
    assert "lamp</textarea>" not in page(
        client, "/intakes/new/?topic=zigbee2mqtt/lamp"
    )  # it takes the others, too
    page(client, "/intakes/new/", {"program": "other", "topics": "odd/+\r\n odd \r\n"})
    assert Intake.objects.get().topics == ["odd/+", "odd"]
    assert "topics:" not in page(client, "/intakes/new/", {"program": "prometheus", "topics": "odd/+"})
    assert "Must be a topic" in page(client, "/intakes/new/", {"program": "other", "topics": "a\na/#/b"})
    assert "Must be a topic" in page(client, "/intakes/new/", {"program": "other", "topics": "a/#/b"})


@pytest.mark.parametrize("name", [name for name, preset in presets().items() if preset.topics])
def test_a_preset_takes_all_that_the_program_publishes(client: Client, name: str) -> None:
    page(client, "/intakes/new/", {"program": name})
    assert tuple(Intake.objects.get().topics) == presets()[name].topics
    page(client, "/intakes/1/edit/", {"name": "x", "topics": "x/#\ny/#", "mapping": ""})
    shown = page(client, "/intakes/1/")
    assert all(f">{topic}</div>" in shown for topic in ("x/#", "y/#"))
    assert "and 1 more" in page(client, "/intakes/")


@pytest.mark.parametrize(
    ("topic", "program"),
    [
        ("tele/cellar/SENSOR", "tasmota"),
        ("cellar/stat/POWER", "tasmota"),
        ("zigbee2mqtt/stat/availability", "zigbee2mqtt"),
        ("shellyplus1pm-a8032abe54dc/events/rpc", "shelly"),
        ("statestream/sensor/x/state", "home-assistant"),
        ("spBv1.0/plant/DDATA/line-1/press", "sparkplug"),
        ("tele", "tasmota"),  # which # takes, too
        ("", OTHER),
        ("x", OTHER),
        ("teleport/x", OTHER),
    ],
)
def test_who_publishes_to_a_topic(topic: str, program: str) -> None:
    assert for_topic(topic) == program


def test_each_message_stands_beside_what_it_became(client: Client, account: Account, plugs: Intake) -> None:
    cellar = account.device("cellar", 7)
    attic = Device.objects.create(user=account.user, device_id="attic", enabled=False)
    note(plugs, IntakeMessage.Outcome.STORED, readings=[Reading("cellar", "SENSOR", b'{"t": 21.50}', None)])
    note(plugs, IntakeMessage.Outcome.HELD, readings=[Reading("attic", "STATE", b"1", None)])
    note(plugs, IntakeMessage.Outcome.REJECTED, b"<b>", reason="BAD_JSON_FORMAT", detail="It is no JSON.")
    note(plugs, IntakeMessage.Outcome.NOTHING)
    shown = page(client, "/intakes/1/messages/")
    assert "<!doctype" not in shown
    assert "&quot;t&quot;: 21.50" in shown
    assert f"/devices/{cellar.pk}/" in shown
    assert "map it to a channel" in shown
    assert "&lt;b&gt;" in shown
    assert "It is no JSON." in shown
    assert "nothing is stored of it" in shown
    assert "left out" not in shown
    note(plugs, IntakeMessage.Outcome.STORED, left_out=3)
    assert "left out, with no number to store: 3" in page(client, "/intakes/1/messages/")
    shown = page(client, "/intakes/1/messages/")

    version = re.search(r'"X-Shown": "([^"]+)"', shown)
    assert version
    ask: dict[str, Any] = {"headers": {"X-Shown": version[1]}}
    assert client.get("/intakes/1/messages/", **ask).status_code == 204
    configure_device(attic, {"enabled": True, "mapped_channel": account.channel(7)})
    after = client.get("/intakes/1/messages/", **ask)
    assert "By now its device has a channel" in after.content.decode()
    assert "map it to a channel" not in page(client, "/intakes/1/")


def test_trying_stores_nothing(client: Client, plugs: Intake) -> None:
    assert "cellar" in page(client, "/intakes/1/", SENSOR).split('id="tried"')[1]
    assert "no rule fits" in page(client, "/intakes/1/", SENSOR | {"try-topic": "x"}).lower()
    assert "not whole JSON" in page(client, "/intakes/1/", SENSOR | {"try-body": "{"})
    assert "cellar" in page(client, "/intakes/1/", SENSOR | {"try-body": "7b 7d", "try-form": "hex"})
    assert "This is not hexadecimal" in page(client, "/intakes/1/", SENSOR | {"try-form": "hex"})
    assert "with a colon" in page(client, "/intakes/1/", SENSOR | {"try-headers": "x"})
    assert not Device.objects.exists()
    assert not IntakeMessage.objects.exists()


def test_a_mapping_is_edited_as_json(client: Client, plugs: Intake) -> None:
    edit = page(client, "/intakes/1/edit/")
    assert "tasmota/discovery/#" in edit
    fields = {"name": "Plugs", "topics": "tasmota/#", "rate": ""}
    own = {"rules": [{"device": "{topic[1]}-own", "value": "{body}"}]}

    tried = page(client, "/intakes/1/edit/", fields | SENSOR | {"mapping": json.dumps(own), "try": "1"})
    assert "cellar-own" in tried
    assert Intake.objects.get().mapping is None

    assert "line 1, column 2" in page(client, "/intakes/1/edit/", fields | {"mapping": "{"})
    wrong = {"rules": [{"value": "{body}"}]}
    assert "rules[0].device is missing" in page(
        client, "/intakes/1/edit/", fields | {"mapping": json.dumps(wrong)}
    )
    page(client, "/intakes/1/edit/", fields | {"mapping": json.dumps(own), "rate": "50"})
    assert (Intake.objects.get().mapping, Intake.objects.get().rate) == (own, 50)
    for text in ("", json.dumps(presets()["tasmota"].mapping)):  # as the preset has it
        page(client, "/intakes/1/edit/", fields | {"mapping": text})
        assert Intake.objects.get().mapping is None


def test_options_of_influx(client: Client, account: Account) -> None:
    intake_history(account.user)
    fields = {"name": "Servers", "device_tags": "vm, host", "precision": "ms", "rate": ""}
    page(client, "/intakes/1/edit/", fields)
    assert Intake.objects.get().options == {"device_tags": ["vm", "host"], "precision": "ms"}
    page(client, "/intakes/1/edit/", fields | {"device_tags": "", "precision": ""})
    assert Intake.objects.get().options == {}
    assert "1 to 8 names" in page(client, "/intakes/1/edit/", fields | {"device_tags": ",".join("abcdefghi")})


def test_disabling_and_deleting(client: Client, plugs: Intake) -> None:
    page(client, "/intakes/1/disable/", {})
    assert not Intake.objects.get().enabled
    page(client, "/intakes/1/enable/", {})
    assert Intake.objects.get().enabled
    assert client.get("/intakes/1/enable/").status_code == 405
    assert "What it has stored stays" in page(client, "/intakes/1/delete/")
    page(client, "/intakes/1/delete/", {})
    assert not Intake.objects.exists()


def test_an_outsider_changes_nothing(plugs: Intake, outsider: Account, signed_in: SignIn) -> None:
    before = list(Intake.objects.values())
    client = signed_in(outsider)
    for path in ("", "messages/", "edit/", "enable/", "disable/", "key/", "delete/"):
        for answer in (client.get(f"/intakes/1/{path}"), client.post(f"/intakes/1/{path}", SENSOR)):
            assert answer.status_code in {404, 405}, path
    assert "Plugs" not in page(client, "/intakes/")
    assert list(Intake.objects.values()) == before


@pytest.mark.e2e
def test_i9_messages_appear_by_themselves(
    stack: Callable[..., Stack], browser: Browser, account: Account, plugs: Intake
) -> None:
    running = stack("web")
    note(plugs, IntakeMessage.Outcome.NOTHING, b"first")
    with visit(browser, running, account) as visitor:
        shown = visitor.go("/intakes/1/")
        expect(shown.locator("#messages")).to_contain_text("first")
        note(plugs, IntakeMessage.Outcome.REJECTED, b"second", detail="It is no JSON.")
        expect(shown.locator("#messages")).to_contain_text("It is no JSON.", timeout=30_000)
        shown.locator("[name=try-topic]").fill("tasmota/loft/tele/STATE")
        visitor.press("Try")
        expect(shown.locator("#tried")).to_contain_text("loft")
        shown.locator("[name=try-body]").fill("{")
        visitor.press("Try")
        expect(shown.locator("#tried")).to_contain_text("not whole JSON")


def test_topics_without_a_token_are_switched_on(client: Client, account: Account, plugs: Intake) -> None:
    assert "Nothing comes by MQTT yet" in page(client, "/intakes/1/")
    assert "Nothing comes by MQTT yet" not in page(client, "/intakes/topics/on/", {"next": "/intakes/1/"})
    assert own_topics(account)
    assert "are off" in page(client, "/intakes/topics/off/", {"next": "https://example.com/"})
    assert not own_topics(account)
    assert client.get("/intakes/topics/on/").status_code == 405


def own_topics(account: Account) -> bool:
    return User.objects.get(pk=account.user.pk).own_topics


def test_in_broker_mode_there_are_none(client: Client, plugs: Intake, settings: Settings) -> None:
    settings.INGEST_MODE, settings.BROKER = "broker", ("127.0.0.1", 1883, "", "")
    assert "Topics without a token" not in page(client, "/intakes/")
    for path in ("1/", "1/edit/", "new/"):
        assert "takes HTTP only" in page(client, f"/intakes/{path}")


@pytest.mark.parametrize(
    ("reason", "source", "topic"),
    [
        ("AUTH_REQUIRED", "tele/plug 1/x", ""),
        ("AUTH_REQUIRED", "tele/plug/SENSOR", "tele/plug/SENSOR"),
        ("UNKNOWN_TOPIC", "TOKEN/a/b&c/d", "a/b%26c/d"),
        ("BAD_JSON_FORMAT", "tele/plug/SENSOR", ""),
        ("AUTH_REQUIRED", "json", ""),
        ("AUTH_REQUIRED", "TOKEN/json/d1", ""),
    ],
)
def test_the_inspector_leads_to_an_intake(
    client: Client, account: Account, reason: str, source: str, topic: str
) -> None:
    RejectedMessage.objects.create(
        user=account.user, source=source, reason=reason, payload=b"{}", size=2, received_at=timezone.now()
    )
    row = page(client, "/inspector/").split("</tbody>")[0]
    assert ('?topic="' in row) is not bool(topic)
    assert f'?topic={topic.replace("/", "%2F")}"' in row
    assert ('data-cell="intake" hidden' in row) is not bool(topic)


@pytest.mark.parametrize(
    ("source", "number"),
    [
        ("intake 12", 12),
        ("intake 3: tele/plug/SENSOR", 3),
        ("intake 3 of tea", None),
        ("an intake 3", None),
        ("intake 12345678901234567890", None),
        ("tele/intake 3", None),
        ("", None),
    ],
)
def test_a_refused_payload_leads_to_its_intake(
    client: Client, account: Account, source: str, number: int | None
) -> None:
    account.device("cellar")
    store(account)
    RejectedMessage.objects.create(
        user=account.user,
        device_id="cellar",
        source=source,
        reason="BAD_JSON_FORMAT",
        payload=b"{}",
        size=2,
        received_at=timezone.now(),
    )
    row = page(client, "/inspector/").split("</tbody>")[0]
    assert row.count('data-cell="own-intake" hidden') == 1 + (number is None)  # what is stored has none
    home, device = page(client, "/"), page(client, f"/devices/{Device.objects.get().pk}/")
    for shown in (row, home, device):
        assert (f'href="/intakes/{number}/#messages"' in shown) is (number is not None)


def test_a_message_that_came_can_be_tried_again(client: Client, account: Account, plugs: Intake) -> None:
    note(plugs, IntakeMessage.Outcome.REJECTED, b'{"odd": 7}', detail="It is no JSON.")
    note(plugs, IntakeMessage.Outcome.REJECTED, b"\xff\x00")
    note(plugs, IntakeMessage.Outcome.REJECTED, b"x" * 5000)
    cut, binary, text = IntakeMessage.objects.order_by("-pk")
    shown = page(client, f"/intakes/1/?message={text.pk}")
    assert "{&quot;odd&quot;: 7}</textarea>" in shown
    assert 'value="tasmota/cellar/tele/SENSOR"' in shown
    assert f"?message={binary.pk}#try-title" in shown
    assert f"?message={cut.pk}#" not in shown  # a part of a payload tells nothing
    assert "ff 00</textarea>" in page(client, f"/intakes/1/edit/?message={binary.pk}")
    create_intake(account.user, TASMOTA)
    for path in (
        f"/intakes/2/?message={text.pk}",
        "/intakes/1/?message=x",
        "/intakes/1/?message=" + "9" * 99,
    ):
        assert "&quot;odd&quot;: 7}</textarea>" not in page(client, path)


def test_an_error_of_the_mapping_stands_there_once(client: Client, plugs: Intake) -> None:
    fields = {"name": "Plugs", "topics": "tasmota/#", "rate": "", "mapping": "{"}
    sentence = "This is no JSON: line 1, column 2"
    assert page(client, "/intakes/1/edit/", fields).count(sentence) == 1
    tried = page(client, "/intakes/1/edit/", fields | SENSOR | {"try": "1"})
    assert tried.count(sentence) == 1
    assert "see what is marked" in tried
    by_script = client.post(
        "/intakes/1/edit/", fields | SENSOR | {"try": "1"}, headers={"HX-Request": "true"}
    )
    assert sentence in by_script.text.split('id="tried"')[1]  # of which the page takes this part
