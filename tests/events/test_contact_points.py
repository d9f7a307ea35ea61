"""Contact points: services that Apprise knows, within the limits; tests, and the secrets of webhooks."""

import subprocess
import sys
from io import StringIO
from ipaddress import ip_network
from typing import Any

import pytest
from django.core.management import call_command
from mails import MailServer
from owing import contact_point_of, event_of
from pytest_django import Settings
from receivers import answer, drip, hang, receiver
from stack import wait_until

from thingscale.accounts.models import User
from thingscale.events import actions
from thingscale.events.delivery import Deliveries
from thingscale.events.models import ContactPoint, Delivery, Event
from thingscale.events.transports import Result, contact
from thingscale.events.transports.contact import ServiceMessage
from thingscale.events.transports.services import SERVICES, contact_url_problem, masked, scheme_of
from thingscale.lib.errors import ContractError
from thingscale.lib.tokens import new

MESSAGE = ServiceMessage("Too warm", "31 > 30\n<b>&", "critical")
TAKEN = [
    "tgram://123456789:abcdefg_hijklmnop/12315544",
    "slack://T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ/#general",
    "https://hooks.slack.com/services/T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ",
    "discord://4174216298/JHMHI8qBe7bk2ZwO5U711o3dV_js",
    "https://discord.com/api/webhooks/4174216298/JHMHI8qBe7bk2ZwO5U711o3dV_js",
    "ntfy://topic",
    "ntfys://ntfy.example.com/topic",
    "pover://user@token",
    "pagerduty://A1B2@integration",
    "workflows://prod.example.com:443/workflow/signature",
    "https://prod-1.westeurope.logic.azure.com:443/workflows/643e69f/triggers/manual/paths/invoke?sig=KODuebW",
    "matrixs://user:pass@matrix.example.com/#room",
    "hassios://homeassistant.example.com/token",
    "jsons://hooks.example.com/alarm",
]
NOT_TAKEN = [
    *("dbus://", "glib://", "gnome://", "macosx://", "windows://", "syslog://", "rsyslog://127.0.0.1"),
    *("mqtt://127.0.0.1/topic", "mqtts://broker.example.com/topic", "irc://irc.example.com/#x", "blink1://"),
    *("xmpp://u:p@example.com", "smpp://u:p@example.com/1", "growl://example.com", "amqp://example.com/x"),
    *("mailto://user:pass@example.com", "aprs://u:p@x", "nostr://x", "file:///etc/passwd", "vapid://a@b.c"),
    *("fcm://project@key/device?keyfile=/etc/passwd", "https://example.com/hook", "", "slack", "slack://"),
    *("json://127.0.0.1/", "jsons://localhost/x", "xml://10.0.0.1/", "form://[::1]/", "json://0x7f000001/"),
    *("ntfy://169.254.169.254/topic", "gotify://192.168.1.1/token", "json://u:p@2130706433/", "json://[::1"),
    *("apprise://127.1/token", "hassio://[fd00::1]/token", "matrix://u:p@127.0.0.1/#x", "json://a\n/b"),
    f"json://example.com/{'x' * 2000}",
]


@pytest.mark.parametrize("url", TAKEN)
def test_addresses_that_are_taken(url: str) -> None:
    assert contact_url_problem(url) is None
    shown = masked(url)
    for secret in (
        "abcdefg",
        "TIiajk",
        "JHMHI",
        "topic",
        "token",
        "integration",
        "signature",
        "KODue",
        "pass",
    ):
        assert secret not in shown


@pytest.mark.parametrize("url", NOT_TAKEN)
def test_addresses_that_are_not(url: str) -> None:
    problem = contact_url_problem(url)
    assert problem
    assert problem.endswith(".")


def test_the_operator_can_allow_their_network(settings: Settings) -> None:
    assert "THINGSCALE_NOTIFY_NETWORKS" in (contact_url_problem("json://192.168.1.7/") or "")
    settings.NOTIFY_NETWORKS = (ip_network("192.168.1.0/24"),)
    assert contact_url_problem("json://192.168.1.7/") is None


def test_what_is_listed_is_apprise_s() -> None:
    """And asks for nothing that the guard refuses: in a process of its own, since it takes memory."""
    code = """
import importlib, inspect, re
from thingscale.events.transports.services import SERVICES
import apprise
modules = r"socket|subprocess|smtplib|paho|ctypes|asyncio|\\.+utils\\.socket"
wrong = re.compile(rf"^\\s*(?:import|from) ({modules})", re.M)
for scheme, service in SERVICES.items():
    module = importlib.import_module(f"apprise.plugins.{service.module}")
    plugin = getattr(module, service.plugin)
    schemes = set()
    for each in (plugin.protocol, plugin.secure_protocol):
        schemes |= {each} if isinstance(each, str) else set(each or ())
    assert scheme in schemes, (scheme, schemes)
    assert not wrong.search(inspect.getsource(inspect.getmodule(plugin))), scheme
    hosts = any("{host}" in template for template in plugin.templates)
    assert hosts == service.own_host, scheme
print(len(SERVICES))
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=False,
        env={"DJANGO_SETTINGS_MODULE": "thingscale.settings", "PATH": "/usr/bin:/bin"},
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) == len(SERVICES) > 100


@pytest.mark.parametrize("scheme", ["json", "xml", "form", "gotify", "ntfy", "matrix"])
def test_none_leads_inside(scheme: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also those whose address was allowed when it was entered."""
    monkeypatch.setattr(contact, "contact_url_problem", lambda url: None)
    with receiver() as there:
        outcome = contact.send(f"{scheme}://u:p@127.0.0.1:{there.port}/token", MESSAGE)
    assert outcome.result is Result.FAILED
    assert "THINGSCALE_NOTIFY_NETWORKS" in outcome.answer
    assert not there.requests


def test_ntfy(here: None) -> None:
    with receiver(answer(b'HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{"id": 1}')) as there:
        outcome = contact.send(f"ntfy://127.0.0.1:{there.port}/cellar", MESSAGE)
    assert outcome.result is Result.SENT
    (request,) = there.requests
    assert request.json["topic"] == "cellar"
    assert request.json["title"] == "Too warm"
    assert request.json["message"].splitlines() == ["31 > 30", "<b>&"]


def test_what_services_answer(here: None) -> None:
    def outcome_of(line: str) -> Any:
        with receiver(answer(f"HTTP/1.1 {line}\r\nContent-Length: 2\r\n\r\nno".encode())) as there:
            return contact.send(f"json://127.0.0.1:{there.port}/", MESSAGE)

    assert outcome_of("200 OK").result is Result.SENT
    assert outcome_of("500 Oh") == (Result.RETRY, "500 no", None)
    assert outcome_of("429 Many\r\nRetry-After: 7") == (Result.RETRY, "429 no", 7.0)
    assert outcome_of("404 None") == (Result.FAILED, "404 no", None)
    assert "redirect" in outcome_of("302 Found\r\nLocation: http://127.0.0.1:1/").answer


def test_a_redirect_of_a_service_is_not_followed(here: None) -> None:
    with receiver() as inside:
        to = f"HTTP/1.1 307 Moved\r\nLocation: {inside.url}\r\nContent-Length: 0\r\n\r\n"
        with receiver(answer(to.encode())) as there:
            url = f"json://127.0.0.1:{there.port}/?redirect=yes"
            assert contact.send(url, MESSAGE).result is Result.FAILED
    assert not inside.requests


@pytest.mark.parametrize("respond", [hang, drip])
def test_a_service_that_is_slow(here: None, respond: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contact, "SECONDS", 1.0)
    with receiver(respond) as there:
        outcome = contact.send(f"json://127.0.0.1:{there.port}/", MESSAGE)
    assert outcome == (Result.RETRY, "There was no answer in time.", None)


def test_an_address_that_names_a_file(here: None, tmp_path: Any) -> None:
    (tmp_path / "secret").write_text('{"type": "message", "secret": "of the operator"}')
    with receiver() as there:
        url = f"workflow://127.0.0.1:{there.port}/workflow/signature?template={tmp_path}/secret"
        contact.send(url, MESSAGE)
        assert not [request for request in there.requests if b"of the operator" in request.body]


def test_an_address_that_lacks_something(here: None) -> None:
    for url in ("slack://x", "tgram://nonsense", "pover://x", "https://hooks.slack.com/services/x"):
        outcome = contact.send(url, MESSAGE)
        assert outcome == (Result.FAILED, contact.WRONG, None)


def test_of_several_receivers_in_one_address_none_waits(here: None) -> None:
    with receiver() as there:
        targets = "/".join(f"topic{number}" for number in range(5))
        assert contact.send(f"ntfy://127.0.0.1:{there.port}/{targets}", MESSAGE).result is Result.SENT
    assert len(there.requests) == 5


def test_they_are_made_changed_and_deleted(user: User, other_user: User) -> None:
    point = actions.create_contact_point(user, " Phone ", "ntfys://ntfy.sh/secret-topic")
    assert (point.name, point.url, point.enabled) == ("Phone", "ntfys://ntfy.sh/secret-topic", True)
    assert b"secret-topic" not in bytes(point.ciphertext)
    assert not ContactPoint.objects.for_account(other_user).exists()
    actions.create_contact_point(other_user, "Phone", "ntfys://ntfy.sh/t")
    for name, url in (
        *(("Phone", "ntfys://ntfy.sh/t"), ("", "ntfys://ntfy.sh/t"), ("x" * 101, "ntfys://ntfy.sh/t")),
        *(("Other", "syslog://"), ("Other", "json://127.0.0.1/")),
    ):
        with pytest.raises(ContractError):
            actions.create_contact_point(user, name, url)
    actions.update_contact_point(point, {"name": "Mobile", "enabled": False})
    actions.update_contact_point(point, {"name": "Mobile", "url": "ntfys://ntfy.sh/other"})
    point.refresh_from_db()
    assert (point.name, point.url, point.enabled) == ("Mobile", "ntfys://ntfy.sh/other", False)
    with pytest.raises(ContractError):
        actions.update_contact_point(point, {"url": "https://192.168.0.1/"})
    actions.delete_contact_point(point)
    assert not ContactPoint.objects.for_account(user).exists()


def test_an_account_has_fifty_at_most(user: User, other_user: User, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(actions, "MAX_CONTACT_POINTS", 2)
    for name in ("A", "B"):
        actions.create_contact_point(user, name, "ntfys://ntfy.sh/t")
    with pytest.raises(ContractError, match="delete one"):
        actions.create_contact_point(user, "C", "ntfys://ntfy.sh/t")
    actions.create_contact_point(other_user, "C", "ntfys://ntfy.sh/t")


@pytest.mark.django_db(transaction=True)
def test_a_test_message_to_a_contact_point(user: User, deliveries: Deliveries) -> None:
    with receiver() as there:
        point = contact_point_of(user, f"json://127.0.0.1:{there.port}/")
        (owed,) = actions.send_test(point, user)
        wait_until(lambda: Delivery.objects.get().status == Delivery.Status.SENT)
    assert owed.about == Delivery.About.TEST
    (request,) = there.requests
    assert request.json["title"] == "Test: Phone"
    assert request.json["message"].startswith("This is a test")


@pytest.mark.django_db(transaction=True)
def test_a_test_of_an_event_goes_to_each_of_its_receivers(
    user: User, deliveries: Deliveries, mail_server: MailServer
) -> None:
    user.email2 = "c@example.com"
    user.save()
    with receiver() as there, receiver() as service:
        point = contact_point_of(user, f"json://127.0.0.1:{service.port}/")
        by_mail, by_http = (
            event_of(user, threshold="30", source="temp"),
            event_of(user, there.url, threshold="30"),
        )
        by_mail.contact_points.add(point)
        assert len(actions.send_test(by_mail, user)) == 3
        assert len(actions.send_test(by_http, user)) == 1
        wait_until(lambda: Delivery.objects.filter(status=Delivery.Status.SENT).count() == 4)
    assert sorted(mail["To"] for mail in mail_server.mails) == ["a@example.com", "c@example.com"]
    assert mail_server.mails[0]["Subject"] == "Test: Too warm"
    (request,) = there.requests
    assert request.json["test"] is True
    assert request.json["event_id"] == by_http.number
    assert request.json["current"] == 30
    assert len(service.requests) == 1


@pytest.mark.django_db(transaction=True)
def test_a_test_does_not_wait_behind_a_receiver_that_failed(user: User, deliveries: Deliveries) -> None:
    with receiver(answer(b"HTTP/1.1 429 X\r\nRetry-After: 3000\r\nContent-Length: 0\r\n\r\n")) as there:
        event = event_of(user, there.url)
        actions.send_test(event, user)
        wait_until(lambda: Delivery.objects.get().tries == 1)
        there.respond = answer(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        actions.send_test(event, user)
        wait_until(lambda: Delivery.objects.filter(status=Delivery.Status.SENT).count() == 1, 5)


def test_tests_are_counted(user: User) -> None:
    point = contact_point_of(user, "ntfys://ntfy.sh/t")
    for _ in range(actions.TESTS_A_MINUTE):
        actions.send_test(point, user)
    with pytest.raises(ContractError) as raised:
        actions.send_test(point, user)
    assert raised.value.code == "TOO_MANY_REQUESTS"
    with pytest.raises(ContractError, match="no receiver"):
        actions.send_test(Event.objects.create(user=user, number=1, notify_type="none"), user)


def test_secrets_of_webhooks(user: User) -> None:
    event = event_of(user, "https://example.com/")
    secret = actions.ensure_secret(event)
    assert actions.ensure_secret(event) == secret
    assert len(secret) >= 32
    other = actions.rotate_secret(event)
    assert other != secret
    assert actions.ensure_secret(event) == other


def test_another_secret_key(user: User, settings: Settings) -> None:
    point, event = contact_point_of(user, "ntfys://ntfy.sh/t"), event_of(user, "https://example.com/")
    event_of(user)  # without a secret
    secret = actions.ensure_secret(event)
    settings.SECRET_KEY, settings.SECRET_KEY_FALLBACKS = new() * 2, [settings.SECRET_KEY]
    call_command("reencrypt", stdout=StringIO())
    settings.SECRET_KEY_FALLBACKS = []
    point.refresh_from_db()
    assert point.url == "ntfys://ntfy.sh/t"
    assert actions.ensure_secret(event) == secret


def test_schemes() -> None:
    assert scheme_of("NTFYS://ntfy.sh/t") == "ntfys"
    assert scheme_of("https://example.com") == ""
