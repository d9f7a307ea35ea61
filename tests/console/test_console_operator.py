"""The operator's admin: accounts are changed by actions, data is looked at, the health page never fails."""

from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from django.core import mail
from django.core.cache import cache
from django.test import Client
from django.utils import timezone
from django_otp.plugins.otp_totp.models import TOTPDevice
from pytest_django import Settings
from sign_ins import is_in, sign_in
from stack import Stack
from support import PASSWORD, Account

from console.operator import health
from thingscale.accounts.actions import begin_second_factor
from thingscale.accounts.limits import NAMES
from thingscale.accounts.models import Session, Token, User
from thingscale.background import heartbeat
from thingscale.devices.models import RejectedMessage
from thingscale.events.actions import create_event
from thingscale.events.models import Delivery, Observation
from thingscale.processes import change_notifications
from thingscale.streams.models import Channel, Journal

pytestmark = pytest.mark.usefixtures("quick_passwords")
USERS = "/admin/accounts/user/"


@pytest.fixture
def operator(account: Account, signed_in: Any) -> Client:
    User.objects.filter(pk=account.user.pk).update(is_staff=True, is_superuser=True)
    client: Client = signed_in(account)
    return client


def change(client: Client, user: User, **changes: Any) -> Any:
    user.refresh_from_db()
    names = ("email", "kind", "user_alias", "organization", "email1", "email2", "locale")
    limits = sorted(NAMES)
    data = {name: getattr(user, name) for name in (*names, *limits)}
    rights = {name: "on" for name in ("is_active", "is_staff") if getattr(user, name)}
    data = {key: value for key, value in (data | rights | changes).items() if value is not None}
    return client.post(f"{USERS}{user.pk}/change/", data)


PAGES = ["", "health/", "accounts/user/", "devices/device/", "streams/channel/", "events/event/"]


@pytest.mark.parametrize("page", PAGES)
def test_only_operators_get_in(account: Account, signed_in: Any, page: str) -> None:
    chain = Client().get(f"/admin/{page}", follow=True).redirect_chain
    assert chain[-1][0] == f"/signin/?next=/admin/{page}"
    answer = signed_in(account).get(f"/admin/{page}", follow=True)
    assert answer.status_code == 404
    assert "/admin/" not in signed_in(account).get("/").text


def test_the_admin_has_no_sign_in_of_its_own(db: None) -> None:
    answer = Client().get("/admin/login/?next=/admin/health/")
    assert answer.headers["Location"] == "/signin/?next=/admin/health/"


def test_signing_in_leads_on_to_the_admin(operator: Client) -> None:
    client = Client()
    page = client.get("/admin/", follow=True)
    data = {"username": "owner@example.com", "password": PASSWORD, "next": page.context["next"]}
    answer = client.post("/signin/", data, follow=True)
    assert answer.redirect_chain == [("/admin/", 302)]
    assert "Health of the platform" in answer.text
    assert client.get("/admin/login/").headers["Location"] == "/admin/"


def test_there_is_a_look_at_the_data(operator: Client, outsider: Account) -> None:
    device, channel = outsider.device("dev-7"), outsider.channel(0)
    event = create_event(outsider.user, {"description": "Too warm"})
    rejected = RejectedMessage.objects.create(
        user=outsider.user,
        device_id="x",
        source="json",
        reason="BAD_JSON_FORMAT",
        payload=b"secret",
        size=6,
        received_at=timezone.now(),
    )
    shown = {
        f"devices/device/{device.pk}/": "dev-7",
        f"streams/channel/{channel.pk}/": outsider.user_id,
        f"events/event/{event.pk}/": "Too warm",
        f"devices/rejectedmessage/{rejected.pk}/": "BAD_JSON_FORMAT",
    }
    for path, text in shown.items():
        page = "/admin/" + path.rsplit("/", 2)[0] + "/"
        assert text in operator.get(page).text
        assert text in (detail := operator.get(f"/admin/{path}change/").text)
        assert "secret" not in detail
        assert operator.get(f"{page}add/").status_code == 403
        assert operator.post(f"/admin/{path}delete/", {"post": "yes"}).status_code == 403
    assert "dev-7" in operator.get("/admin/devices/device/?q=outsider&enabled__exact=1").text
    assert operator.get("/admin/otp_totp/totpdevice/").status_code == 404
    assert Channel.objects.filter(pk=channel.pk).exists()


def test_an_account_is_made_with_both_tokens(operator: Client) -> None:
    data = {
        "email": "new@example.com",
        "password": PASSWORD,
        "locale": "UTC",
        "kind": "servwatch",
        "is_staff": "on",
    }
    assert "too short" in operator.post(f"{USERS}add/", data | {"password": "x"}).text
    assert "already" in operator.post(f"{USERS}add/", data | {"email": "OWNER@example.com"}).text
    assert operator.post(f"{USERS}add/", data).status_code == 302
    user = User.objects.get(email="new@example.com")
    assert (user.is_staff, user.is_superuser) == (True, True)
    assert user.kind == "servwatch"
    assert [(rule.pattern, rule.channel) for rule in user.activation_rules.all()] == [("*", None)]
    assert Token.objects.filter(user=user).count() == 2
    assert Client().login(username="new@example.com", password=PASSWORD)


def test_accounts_are_found(operator: Client, outsider: Account) -> None:
    for text in (outsider.user_id, outsider.user_id.lower(), "outsider@"):
        assert "outsider@example.com" in operator.get(USERS, {"q": text}).text
    assert "outsider@example.com" not in operator.get(USERS, {"q": "nobody"}).text


def test_limits_are_changed(operator: Client, outsider: Account) -> None:
    assert change(operator, outsider.user, rest_rate=3, max_devices=5).status_code == 302
    user = User.objects.get(pk=outsider.user.pk)
    assert (user.rest_rate, user.max_devices, user.is_active) == (3, 5, True)
    assert "already" in change(operator, outsider.user, email="owner@example.com").text


def test_an_account_becomes_one_of_servwatch(operator: Client, outsider: Account) -> None:
    assert change(operator, outsider.user, kind="servwatch").status_code == 302
    user = User.objects.get(pk=outsider.user.pk)
    assert (user.kind, user.rest_rate) == ("servwatch", 3)
    assert user.activation_rules.count() == 1


def test_deactivation_is_told_and_ends_sessions(
    operator: Client, outsider: Account, signed_in: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[Any] = []
    monkeypatch.setattr(change_notifications, "announce", lambda *change: told.append(change))
    there = signed_in(outsider)
    change(operator, outsider.user, is_active=None)
    assert told == [("tokens", outsider.user.pk)]
    assert not is_in(there)
    assert not Session.objects.filter(user=outsider.user).exists()
    assert Token.objects.find("device", outsider.device_token) is None
    change(operator, outsider.user, is_active="on")
    assert Token.objects.find("device", outsider.device_token)


def test_rights_come_together(operator: Client, outsider: Account) -> None:
    change(operator, outsider.user, is_staff="on")
    assert User.objects.get(pk=outsider.user.pk).is_superuser
    change(operator, outsider.user, is_staff=None)
    assert not User.objects.get(pk=outsider.user.pk).is_superuser


def test_nobody_locks_himself_out(operator: Client, account: Account) -> None:
    change(operator, account.user, is_active=None, is_staff=None)
    user = User.objects.get(pk=account.user.pk)
    assert (user.is_active, user.is_staff) == (True, True)
    assert operator.post(f"{USERS}{user.pk}/delete/", {"post": "yes"}).status_code == 403


def test_a_new_password_ends_sessions(operator: Client, outsider: Account, signed_in: Any) -> None:
    there, new = signed_in(outsider), "a horse that is new"
    page = f"{USERS}{outsider.user.pk}/password/"
    assert "pbkdf2" not in operator.get(f"{USERS}{outsider.user.pk}/change/").text
    assert operator.post(page, {"password1": new, "password2": "other"}).status_code == 200
    assert operator.post(page, {"password1": new, "password2": new}).status_code == 302
    assert not is_in(there)
    sign_in(there, new, "outsider@example.com")
    assert is_in(there)


def test_deleting_closes(operator: Client, outsider: Account) -> None:
    page = f"{USERS}{outsider.user.pk}/delete/"
    assert "with all devices" in operator.get(page).text
    operator.post(page, {"post": "yes"})
    user = User.objects.get(pk=outsider.user.pk)
    assert user.closed_at
    assert not user.is_active
    change(operator, user, is_active="on")
    assert not User.objects.get(pk=user.pk).is_active


def test_two_factor_is_turned_off_for_who_lost_it(
    operator: Client, outsider: Account, signed_in: Any
) -> None:
    there = signed_in(outsider)
    begin_second_factor(outsider.user)
    for action in ("turn_off_two_factor", "sign_out"):
        operator.post(USERS, {"action": action, "_selected_action": [outsider.user.pk]})
    assert not TOTPDevice.objects.exists()
    assert not is_in(there)
    assert is_in(operator)


@pytest.fixture
def no_gateway(_stack: Stack) -> None:
    """Of tests before."""
    _stack.stop()


@pytest.mark.usefixtures("no_gateway")
def test_the_health_page(operator: Client) -> None:
    heartbeat.beat()
    page = operator.get("/admin/health/").text
    for part in health.LOOKS:
        assert f"<h2>{part}</h2>" in page
    assert "No heartbeat" not in page
    assert "No gateway runs" in page
    cache.set(heartbeat.KEY, timezone.now() - timedelta(minutes=4))
    assert "No heartbeat" in operator.get("/admin/health/").text


def test_notifications_that_nobody_sends(operator: Client, account: Account) -> None:
    page = operator.get("/admin/health/").text
    assert "<dt>Notifications that wait</dt><dd>0</dd>" in page
    assert "Notifications wait:" not in page
    late = timezone.now() - timedelta(minutes=3)
    Delivery.objects.create(
        user=account.user, transport="email", about="firing", receiver="a@b.example", body={}, due_at=late
    )
    page = operator.get("/admin/health/").text
    assert "<dt>Notifications that wait</dt><dd>1</dd>" in page
    assert "3 min" in page
    assert "Notifications wait: no Celery worker runs" in page
    Observation.objects.create(event=1, what=1, at=late, stored_at=late)
    assert "Matches wait: no Celery worker runs" in operator.get("/admin/health/").text


def test_the_last_batch(operator: Client) -> None:
    """Rows of the journal go after a week, so that none does not mean never."""
    assert "none of the last week" in operator.get("/admin/health/").text
    at = timezone.now() - timedelta(hours=3)
    Journal.objects.create(writer=uuid4(), batch=1, at=at)
    page = operator.get("/admin/health/").text
    assert at.isoformat() in page
    assert "none of the last week" not in page


def test_a_part_that_is_away_is_shown_as_such(
    operator: Client, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.REDIS_URL = "unix:///nonexistent/valkey.sock"
    page = operator.get("/admin/health/").text
    assert page.count("No answer: ConnectionError.") == 2
    assert "PostgreSQL" in page
    monkeypatch.setattr(health, "_SIZE", "SELECT pg_sleep(60)")
    monkeypatch.setattr(health, "DATABASE_LIMIT", "50ms")
    page = operator.get("/admin/health/").text
    assert "No answer: OperationalError." in page
    assert "MQTT clients connected" in page


def test_a_test_mail(operator: Client, settings: Settings, tmp_path: Path) -> None:
    assert "was handed in" in operator.post("/admin/health/", follow=True).text
    assert mail.outbox[0].to == ["owner@example.com"]
    settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
    settings.EMAIL_HOST, settings.EMAIL_PORT = "127.0.0.1", 1
    assert "was not taken: ConnectionRefusedError" in operator.post("/admin/health/", follow=True).text
