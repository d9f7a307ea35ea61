"""Brokers ask the real web server who a client is and what it may do, each in its own form."""

from collections.abc import Callable, Iterator
from typing import Any

import orjson
import pytest
from broker_requests import (
    ENVIRONMENT,
    FORMS,
    PASSWORD,
    SECRET,
    WORKER,
    Asking,
    Emqx,
    Mosquitto,
    RabbitMq,
    VerneMq,
    VerneMq5,
    credentials,
)
from django.core.checks import run_checks
from private_place import private_place
from pytest_django import Settings
from raw_http import ask, request
from stack import Stack, wait_until
from support import Account

from thingscale.accounts.actions import close_account, revoke_rotated_tokens, rotate_token
from thingscale.accounts.models import Token
from thingscale.lib import env

pytestmark = pytest.mark.e2e
DEVICE = Token.Kind.DEVICE
every_form = pytest.mark.parametrize("form", FORMS, ids=lambda form: form.__name__)


@pytest.fixture(scope="module")
def _site(django_db_setup: None) -> Iterator[Stack]:
    site = Stack(**ENVIRONMENT)
    yield site
    site.stop()


@pytest.fixture
def site(_site: Stack, transactional_db: None) -> Stack:
    _site.ensure("web")
    return _site


@pytest.fixture
def broker(site: Stack, form: Callable[[Stack], Asking]) -> Asking:
    return form(site)


@every_form
def test_who_may_sign_in(broker: Asking, account: Account, outsider: Account) -> None:
    user, token = credentials(account)
    assert broker.signs_in(user, token)
    wrong = [
        (user, outsider.device_token),
        (outsider.user_id, token),
        (user, account.api_token),
        (user, token.lower()),
        (user, ""),
        ("", token),
        ("", ""),
        (user, "0" * 32),
        (user, "é\0'; --"),
        ("U999999", "0" * 32),
        (user, PASSWORD),
        (token, token),
    ]
    assert [pair for pair in wrong if broker.signs_in(*pair)] == []


@every_form
def test_who_may_use_which_topic(broker: Asking, account: Account, outsider: Account) -> None:
    """Below the own token, and nowhere else: neither below another account's, nor by a wildcard."""
    user, token = credentials(account)
    other = outsider.device_token
    for topic in (f"{token}/json/d1", f"{token}/d1", f"{token}/anything/at/all", f"{token}/json/d1/a tag/é"):
        assert broker.publishes(user, topic), topic
        assert broker.subscribes(user, topic), topic
    for topic in (
        f"{token}/#",
        f"{token}/+/subscribe",
        f"$share/g/{token}/#",
        f"$share/a b/{token}/d1/subscribe",
    ):
        assert broker.subscribes(user, topic), topic
    forbidden = [f"{other}/json/d1", "json/d1", f"{'0' * 32}/json/d1", token, f"{token}/", f"/{token}/d1"]
    forbidden += ["$SYS/broker/uptime", f"{token.lower()}/d1", f"{account.api_token}/json/d1", f"x{token}/d1"]
    forbidden += [f"$delayed/5/{token}/json/d1", f"$queue/{token}/d1"]
    assert [topic for topic in forbidden if broker.publishes(user, topic)] == []
    assert not broker.publishes(user, f"{token}/events/1")  # only the platform does
    assert broker.subscribes(user, f"{token}/events/1")
    forbidden += [
        "#",
        "+/#",
        "+/json/+",
        f"$share/g/{other}/#",
        "$share/g/+/json/#",
        "$share/g/#",
        f"{other}/#",
    ]
    forbidden += [f"$share/{token}/d1", f"$share//{token}/d1", f"$share/+/{token}/d1", f"+{token}/d1"]
    assert [topic for topic in forbidden if broker.subscribes(user, topic)] == []
    assert not broker.publishes(user, f"$share/g/{token}/d1")
    assert not broker.publishes("", f"{token}/json/d1")
    assert not broker.subscribes("", f"{token}/json/d1")


@every_form
def test_the_ingest_worker_may_read_everything(broker: Asking, account: Account) -> None:
    assert broker.signs_in(WORKER, PASSWORD, "thingscale-ingest-1")
    assert not broker.signs_in(WORKER, account.device_token)
    assert not broker.signs_in(WORKER, "")
    assert not broker.signs_in(WORKER.upper(), PASSWORD)
    for topic in ("+/json/+/#", "$share/ingest-json/+/json/+/#"):
        assert broker.subscribes(WORKER, topic, "thingscale-ingest-1")
    for client_id in ("thingscale-ingest-1", "thingscale-ingest-77", "thingscale-web-0011aabb"):
        assert not broker.signs_in(*credentials(account), client_id)  # it would take over that session
    assert broker.publishes(WORKER, f"{account.device_token}/d1/subscribe", "thingscale-web-0011aabb")


@every_form
def test_a_rotation_is_followed_at_once(broker: Asking, account: Account) -> None:
    user, old = credentials(account)
    assert broker.signs_in(user, old)
    new = rotate_token(account.user, DEVICE).plain
    for token in (old, new):
        wait_until(lambda token=token: broker.signs_in(user, token), 60, "both")  # type: ignore[misc]
        assert broker.publishes(user, f"{token}/json/d1")
        assert broker.subscribes(user, f"{token}/#")
    revoke_rotated_tokens(account.user, DEVICE)
    wait_until(lambda: not broker.signs_in(user, old), 60, "the end of the old one")
    assert not broker.publishes(user, f"{old}/json/d1")
    assert not broker.subscribes(user, f"{old}/#")
    assert broker.publishes(user, f"{new}/json/d1")


@every_form
def test_a_closed_account_is_refused(broker: Asking, account: Account, outsider: Account) -> None:
    user, token = credentials(account)
    assert broker.signs_in(user, token)
    close_account(account.user)
    wait_until(lambda: not broker.signs_in(user, token), 60, "its end")
    assert not broker.publishes(user, f"{token}/json/d1")
    assert broker.signs_in(*credentials(outsider))


@every_form
def test_who_does_not_know_the_secret_is_told_nothing(
    site: Stack, account: Account, form: Callable[..., Asking]
) -> None:
    user, token = credentials(account)
    for secret in ("", "x", SECRET[:-1], f"{SECRET}x", "%00", SECRET.upper()):
        broker = form(site, secret)
        assert not broker.signs_in(user, token)
        assert not broker.publishes(user, f"{token}/json/d1")
        assert not broker.signs_in(WORKER, PASSWORD)
        assert not broker.subscribes(WORKER, "#")


PATHS = [
    "emqx/authenticate",
    f"emqx/{SECRET}/authorize",
    f"mosquitto/{SECRET}/user",
    f"rabbitmq/{SECRET}/topic",
]
PATHS += [f"vernemq/{SECRET}/hook", "", "emqx", "hivemq/user"]


def test_without_the_setting_there_is_nothing(stack: Callable[..., Stack]) -> None:
    headers = {"Authorization": f"Bearer {SECRET}", "Content-Type": "application/json"}
    for path in PATHS:
        answer = ask(stack("web").http, request("POST", f"/broker/auth/{path}", headers, b"{}"))
        assert answer.status == 404
        assert answer.header("Location") is None


def test_in_the_gateway_s_mode_the_setting_changes_nothing(transactional_db: None) -> None:
    site = Stack(THINGSCALE_BROKER_AUTH_SECRET=SECRET)
    site.ensure("web")
    try:
        answer = ask(site.http, request("POST", f"/broker/auth/mosquitto/{SECRET}/user", {}, b"{}"))
    finally:
        site.stop()
    assert answer.status == 404


@pytest.mark.parametrize("path", ["emqx/authenticate", f"rabbitmq/{SECRET}/user", f"mosquitto/{SECRET}/acl"])
def test_a_password_in_a_url_is_refused(site: Stack, account: Account, path: str) -> None:
    query = f"username={account.user_id}&password={account.device_token}"
    headers = {"Authorization": f"Bearer {SECRET}"}
    answer = ask(site.http, request("GET", f"/broker/auth/{path}?{query}", headers))
    assert (answer.status, answer.header("Allow")) == (405, b"POST")


BAD_BODIES = [b"", b"{", b"[]", b"null", b'{"username": 5, "password": ["x"]}', b"\xff\xfe", b"[" * 5000]
BAD_BODIES += [b'{"username": {"a": 1}}', b'{"topic": null, "acc": "x", "topics": 7}', b"x" * 600_000]


@pytest.mark.parametrize("content_type", ["application/json", "application/x-www-form-urlencoded", ""])
@pytest.mark.parametrize(
    ("name", "questions", "refused"),
    [
        ("emqx", ["authenticate", "authorize", "x", ""], (200, b'{"result":"deny"}')),
        ("mosquitto", ["user", "superuser", "acl", "x"], (403, b'{"ok":false,"error":"not allowed"}')),
        ("rabbitmq", ["user", "vhost", "resource", "topic", "x"], (200, b"deny")),
        ("vernemq", ["hook", "x"], (200, b'{"result":{"error":"not_allowed"}}')),
    ],
)
def test_what_is_not_understood_is_refused(
    site: Stack, content_type: str, name: str, questions: list[str], refused: tuple[int, bytes]
) -> None:
    """And the next question is answered."""
    for body in BAD_BODIES:
        for question in questions:
            headers = {"Content-Type": content_type, "vernemq-hook": "auth_on_subscribe"}
            path = f"/broker/auth/{name}/{SECRET}/{question}"
            answer = ask(site.http, request("POST", path, headers, body))
            assert (answer.status, answer.body) == refused, (question, body[:100])
    assert Emqx(site).signs_in(WORKER, PASSWORD)


def test_emqx_is_told_when_a_token_ends(site: Stack, account: Account) -> None:
    user, old = credentials(account)
    rotate_token(account.user, DEVICE)
    broker = Emqx(site)
    ends_at = Token.objects.get(user=account.user, kind=DEVICE, expires_at__isnull=False).expires_at
    assert ends_at
    assert broker.signs_in(user, old)
    assert abs(orjson.loads(broker.last.body)["expire_at"] - ends_at.timestamp()) <= 1


def test_mosquitto_s_kinds_of_access(site: Stack, account: Account, outsider: Account) -> None:
    broker = Mosquitto(site)
    user, topic = account.user_id, f"{account.device_token}/json/d1"
    assert [acc for acc in range(17) if broker.check(user, topic, acc)] == [1, 2, 3, 4, 8]
    assert [acc for acc in range(17) if broker.check(outsider.user_id, topic, acc)] == []
    assert [name for name in (WORKER, user, "", "root") if broker.is_superuser(name)] == [WORKER]


def test_rabbitmq_s_resources_are_those_of_the_mqtt_plugin(site: Stack, account: Account) -> None:
    """An AMQP client, or another client's queue, is refused; so is every other virtual host."""
    broker = RabbitMq(site)

    def may(kind: str, name: str, permission: str, **more: str) -> bool:
        fields = {"username": account.user_id, "vhost": "/", "client_id": "c1"} | more
        return broker.question("resource", resource=kind, name=name, permission=permission, **fields)

    for name in ("mqtt-subscription-c1qos0", "mqtt-subscription-c1qos1", "mqtt-will-c1"):
        assert may("queue", name, "configure")
        assert may("queue", name, "read")
        assert not may("queue", name, "read", client_id="c2")
        assert not may("queue", name, "read", client_id="")
        assert not may("queue", name, "read", vhost="other")
        assert not may("queue", name, "read", vhost="")
    assert not may(
        "queue", "mqtt-subscription-thingscale-ingest-1qos1", "read", client_id="thingscale-ingest-1"
    )
    for name in ("mqtt-subscription-c1qos2", "mqtt-subscription-qos0", "orders", "amq.gen-1", ""):
        assert not may("queue", name, "read")
    assert may("exchange", "amq.topic", "write")
    assert not may("exchange", "amq.topic", "configure")
    assert not may("exchange", "amq.topic", "write", vhost="other")
    for name in ("", "amq.direct", "amq.fanout", "orders"):
        assert not may("exchange", name, "write")
    assert not broker.question("vhost", username=account.user_id, vhost="other")
    topic = {"username": account.user_id, "resource": "topic", "permission": "write", "vhost": "/"}
    key = f"{account.device_token}.json.d1"
    assert broker.question("topic", **topic, name="amq.topic", routing_key=key)
    assert not broker.question("topic", **topic, name="other.topic", routing_key=key)
    assert broker.question("user", username=account.user_id, password=account.device_token)  # before 3.13


@pytest.mark.parametrize(("form", "code"), [(VerneMq, 128), (VerneMq5, 135)])
def test_vernemq_is_told_which_topics_of_several_are_refused(
    site: Stack, account: Account, outsider: Account, form: type[VerneMq], code: int
) -> None:
    broker = form(site)
    own, other = f"{account.device_token}/#", f"{outsider.device_token}/#"
    answer = broker.subscribe(account.user_id, own, other)
    found: dict[str, Any] = orjson.loads(answer.body)
    rows = found["modifiers"]["topics"] if broker.version_5 else found["topics"]
    assert found["result"] == "ok"
    assert [(row["topic"], row["qos"]) for row in rows] == [(own, 1), (other, code)]
    assert answer.header("Cache-Control") == b"no-store"
    if broker.version_5:
        assert rows[0]["retain_handling"] == "send_retain"
    assert orjson.loads(broker.subscribe(account.user_id, other, other).body) == {
        "result": {"error": "not_allowed"}
    }
    assert orjson.loads(broker.subscribe(account.user_id, own, own).body) == {"result": "ok"}


@pytest.mark.parametrize("form", [VerneMq, VerneMq5])
def test_vernemq_gives_each_account_client_ids_of_its_own(
    site: Stack, account: Account, outsider: Account, form: type[VerneMq]
) -> None:
    broker = form(site)
    for each in (account, outsider):
        assert broker.signs_in(*credentials(each), "c1")
        modifiers = orjson.loads(broker.last.body)["modifiers"]
        assert modifiers == {"client_id": f"{each.user_id}-c1", "mountpoint": ""}
    assert broker.signs_in(WORKER, PASSWORD, "thingscale-ingest-1")
    assert "modifiers" not in orjson.loads(broker.last.body)


def test_vernemq_may_ask_about_many_topics_at_once(site: Stack, account: Account) -> None:
    broker = VerneMq(site)
    many = [f"{account.device_token}/d{number}/subscribe" for number in range(1000)]
    assert orjson.loads(broker.subscribe(account.user_id, *many).body) == {"result": "ok"}
    assert orjson.loads(broker.subscribe(account.user_id, *many, many[0]).body)["result"] != "ok"


def test_client_ids_may_have_to_begin_with_their_account(account: Account) -> None:
    """Otherwise who takes another account's client id takes its session over, as in every broker."""
    site = Stack(**ENVIRONMENT, THINGSCALE_BROKER_OWN_CLIENT_IDS="1")
    site.ensure("web")
    try:
        for form in FORMS:
            broker = form(site)
            user, token = credentials(account)
            assert broker.signs_in(user, token, f"{user}-d1")
            for client_id in ("d1", "", f"{user}x", user, "U999999-d1", f"x{user}-"):
                assert not broker.signs_in(user, token, client_id), (form, client_id)
            assert broker.signs_in(WORKER, PASSWORD, "thingscale-ingest-1")
    finally:
        site.stop()


def test_anonymous_clients_publish_where_they_are_allowed(account: Account) -> None:
    site = Stack(**ENVIRONMENT, THINGSCALE_ALLOW_ANONYMOUS="1")
    site.ensure("web")
    try:
        for form in FORMS:
            broker = form(site)
            assert broker.signs_in("", "")
            assert not broker.signs_in("", account.device_token)
            assert broker.publishes("", f"{account.device_token}/d1")
            assert not broker.publishes("", f"{'0' * 32}/d1")
            assert not broker.subscribes("", f"{account.device_token}/#")
    finally:
        site.stop()


def test_while_the_database_is_away_nobody_new_is_let_in(django_db_setup: None) -> None:
    """Nor who was known, as soon as the process has lost the connection on which it hears of changes; but the
    ingest worker needs no database. Nothing of it is remembered, and nobody's token is in the log."""
    with private_place("d1") as place:
        site = Stack(DATABASE_URL=place.servers.postgres.url, **ENVIRONMENT)
        site.ensure("web")
        try:
            brokers = [form(site) for form in FORMS]
            assert all(broker.signs_in(place.user_id, place.token) for broker in brokers)
            place.servers.postgres.stop()
            wait_until(lambda: "Lost the connection" in site.log("web"), 60, "the process to notice")
            for broker in brokers:
                assert not broker.signs_in(place.user_id, place.token)
                if not isinstance(broker, Emqx):
                    assert broker.last.status == 503
                assert broker.last.header("Cache-Control") == b"no-store"
                assert not broker.publishes(place.user_id, f"{place.token}/json/d1")
                assert not broker.subscribes(place.user_id, f"{place.token}/#")
                assert broker.signs_in(WORKER, PASSWORD)
                assert broker.subscribes(WORKER, "+/json/+/#", "thingscale-ingest-1")
            place.servers.postgres.start()
            for broker in brokers:
                wait_until(lambda broker=broker: broker.signs_in(place.user_id, place.token), 60, "it again")  # type: ignore[misc]
                assert broker.publishes(place.user_id, f"{place.token}/json/d1")
            assert place.token not in site.log("web")
            assert PASSWORD not in site.log("web")
            assert SECRET not in site.log("web")
        finally:
            site.stop()


WRONG = [
    ({"INGEST_MODE": "gateway"}, "thingscale.W005"),
    ({"BROKER": ("b", 1, None, None)}, "thingscale.W006"),
    ({"BROKER5": ("b", 1, "thingscale", None)}, "thingscale.W006"),
    ({"BROKER_CLIENT_ID": "worker-1"}, "thingscale.W007"),
    ({"BROKER5": ("b", 1, "U000001", "secret")}, "thingscale.E005"),
    ({"BROKER_AUTH_SECRET": "", "BROKER": ("b", 1, "U1234567", "secret")}, "thingscale.E005"),
]
RIGHT = {"INGEST_MODE": "broker", "BROKER_AUTH_SECRET": SECRET} | dict.fromkeys(
    ("BROKER", "BROKER5"), ("b", 1, "thingscale", "secret")
)


@pytest.mark.parametrize(("wrong", "expected"), WRONG)
def test_wrong_combinations_are_said(settings: Settings, wrong: dict[str, Any], expected: str) -> None:
    ids = {"thingscale.W005", "thingscale.W006", "thingscale.W007", "thingscale.E005"}
    for name, value in RIGHT.items():
        setattr(settings, name, value)
    assert not ids & {message.id for message in run_checks()}
    for name, value in wrong.items():
        setattr(settings, name, value)
    found = [message for message in run_checks() if message.id in ids]
    assert [message.id for message in found] == [expected]
    assert SECRET not in str(found)


@pytest.mark.parametrize(
    "secret", ["short", "with a blank inside it", "a/path/in/the/middle", "ä" * 20, "%41" * 9]
)
def test_a_secret_that_fits_no_url_is_refused_at_the_start(
    monkeypatch: pytest.MonkeyPatch, secret: str
) -> None:
    monkeypatch.setenv("THINGSCALE_BROKER_AUTH_SECRET", secret)
    with pytest.raises(env.BadSetting, match=r"^THINGSCALE_BROKER_AUTH_SECRET needs") as caught:
        env.url_secret("THINGSCALE_BROKER_AUTH_SECRET")
    assert secret not in str(caught.value)
