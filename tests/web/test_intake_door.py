"""Intakes against the real web server, and against one that knows WSGI only: what comes by POST is stored
when it is answered, or refused whole."""

import gzip
import json
import struct
import urllib.error
import urllib.request
from base64 import b64encode
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import cramjam
import pytest
from stack import WSGI, Stack, wait_until
from support import Account

from thingscale.devices.models import Device, RejectedMessage
from thingscale.intakes.actions import create_intake, delete_intake, enable_intake, renew_key, update_intake
from thingscale.intakes.formats.protobuf import written
from thingscale.intakes.models import Intake, IntakeMessage
from thingscale.lib.clock import now_us
from thingscale.provisioning.actions import configure_device

pytestmark = pytest.mark.e2e

MAPPING = {
    "rules": [
        {
            "device": "{body.id}",
            "readings": [{"tag": "{body.kind}", "value": "{body.value}", "time": "{body.at}"}],
        }
    ]
}
METRICS = (
    b'{"resourceMetrics": [{"scopeMetrics": [{"metrics":'
    b' [{"name": "load", "gauge": {"dataPoints": [{"asDouble": 4.5}]}}]}]}]}'
)
# A series with the label __name__ only, and one sample
REMOTE_WRITE = bytes(
    cramjam.snappy.compress_raw(
        written(
            1,
            written(1, written(1, b"__name__") + written(2, b"load"))
            + written(2, b"\x09" + struct.pack("<d", 4.5) + written(2, now_us() // 1000)),
        )
    )
)


class Answer(NamedTuple):
    status: int
    body: bytes
    headers: dict[str, str]

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Door:
    def __init__(self, url: str) -> None:
        self.url = url

    def post(
        self, path: str, body: bytes | str | dict[str, Any] = b"", method: str = "POST", **headers: str
    ) -> Answer:
        data = (
            body
            if isinstance(body, bytes)
            else (body if isinstance(body, str) else json.dumps(body)).encode()
        )
        named = {name.replace("_", "-"): text for name, text in headers.items()}
        request = urllib.request.Request(self.url + path, data, named, method=method)
        try:
            with urllib.request.urlopen(request, timeout=60) as response:
                return Answer(response.status, response.read(), dict(response.headers))
        except urllib.error.HTTPError as error:
            return Answer(error.code, error.read(), dict(error.headers))


@pytest.fixture(scope="module")
def _wsgi(django_db_setup: None) -> Iterator[Stack]:
    stack = Stack()
    stack.web = WSGI
    yield stack
    stack.stop()


@pytest.fixture(params=["web", "wsgi"])
def door(request: pytest.FixtureRequest, stack: Callable[..., Stack]) -> Door:
    if request.param == "web":
        return Door(stack("web").url(""))
    wsgi: Stack = request.getfixturevalue("_wsgi")
    wsgi.ensure("web")
    return Door(wsgi.url(""))


def intake(account: Account, mapping: Any = MAPPING) -> tuple[Intake, str]:
    return create_intake(account.user, {"name": "Ours", "format": "mapped", "mapping": mapping})


def second() -> int:
    return now_us() // 1_000_000


def test_what_is_answered_is_stored_and_sent_again_it_is_there_once(door: Door, account: Account) -> None:
    account.device("d1")
    _, key = intake(account)
    body = {"id": "d1", "kind": "roof", "value": 21.5, "at": second()}
    for _ in range(2):
        assert door.post(f"/in/{key}", body).status == 200
        assert account.stored() == [("21.5", "roof")]
    assert (
        door.post(
            f"/in/{key}/", gzip.compress(json.dumps(body | {"value": 22}).encode()), Content_Encoding="gzip"
        ).status
        == 200
    )
    assert account.stored() == [("21.5", "roof"), ("22", "roof")]


def test_a_new_device_is_held_until_it_is_mapped(door: Door, account: Account) -> None:
    _, key = intake(account)
    body = {"id": "new", "kind": "roof", "value": 21.5, "at": second()}
    assert door.post(f"/in/{key}", body).status == 200
    configure_device(Device.objects.get(), {"enabled": True, "mapped_channel": account.channel()})
    assert account.stored() == [("21.5", "roof")]


def test_what_can_not_be_read_is_refused_whole_and_listed(door: Door, account: Account) -> None:
    account.device("d1")
    _, key = intake(account)
    answer = door.post(f"/in/{key}", b"no JSON")
    assert (answer.status, answer.json["error"]) == (400, "BAD_JSON_FORMAT")
    assert "WWW-Authenticate" not in answer.headers
    wait_until(RejectedMessage.objects.exists, what="the rejected message")
    row = RejectedMessage.objects.get()
    assert (row.source, row.reason, bytes(row.payload)) == ("intake 1", "BAD_JSON_FORMAT", b"no JSON")
    assert account.stored() == []


def test_the_last_messages_are_noted_without_secrets(door: Door, account: Account) -> None:
    account.device("d1")
    made, key = intake(account)
    door.post(
        f"/in/{key}", {"id": "d1", "kind": "a", "value": 1}, Authorization="Bearer secret", X_Kind="hall"
    )
    door.post(f"/in/{key}", b"no JSON")
    wait_until(lambda: IntakeMessage.objects.count() == 2, what="both messages")
    good, bad = IntakeMessage.objects.filter(intake=made).order_by("id")
    assert (good.outcome, good.readings[0]["value"], good.source) == ("stored", "1", "POST /in/.../")
    assert good.headers["x-kind"] == "hall"
    assert "authorization" not in good.headers
    assert (bad.outcome, bad.reason, bytes(bad.body)) == ("rejected", "BAD_JSON_FORMAT", b"no JSON")


def test_what_is_not_stored_counts_more_than_what_is(stack: Callable[..., Stack], account: Account) -> None:
    """Also before it is known which it is."""
    running = stack("web").another(THINGSCALE_INTAKE_RATE="100")  # 750 at once
    running.ensure("web")
    try:
        _, key = create_intake(account.user, {"name": "i", "format": "influx"})
        account.device("d1")
        post = Door(running.url("")).post
        for _ in range(40):  # 21 each for a moment
            assert post(f"/in/{key}/write", "m,host=d1 v=1").status == 204
        many = "\n".join(f"m,host=new-{number} v=1" for number in range(40))
        assert post(f"/in/{key}/write", many).status == 204
        assert post(f"/in/{key}/write", "m,host=d1 v=1").status == 503
    finally:
        running.stop()


def test_a_name_behind_the_key_is_decoded_once(door: Door, account: Account) -> None:
    _, key = create_intake(account.user, {"name": "i", "format": "influx"})
    for name in ("50%2541", "a%2Fb", "%E2%82%AC"):
        assert door.post(f"/in/{key}/{name}", "m v=1").status == 204
    assert set(Device.objects.values_list("device_id", flat=True)) == {"50%2541", "a%2Fb", "\u20ac"}


def test_a_change_of_an_intake_counts_at_once(door: Door, account: Account) -> None:
    account.device("d1")
    made, key = intake(account)
    body = {"id": "d1", "kind": "a", "value": 1}
    assert door.post(f"/in/{key}", body).status == 200
    enable_intake(made, False)
    wait_until(lambda: door.post(f"/in/{key}", body).status == 401, 5, "the intake to be closed")
    enable_intake(made, True)
    wait_until(lambda: door.post(f"/in/{key}", body).status == 200, 10, "the intake to be open")
    new = renew_key(made)
    wait_until(lambda: door.post(f"/in/{key}", body).status == 401, 5, "the old key to end")
    assert door.post(f"/in/{new}", body).status == 200
    mapping = {"rules": [{"device": "d1", "readings": [{"value": "{body.other}"}]}]}
    update_intake(made, {"mapping": mapping})
    wait_until(lambda: door.post(f"/in/{new}", {"other": "x"}).status == 200, 5, "the new mapping")
    delete_intake(made)
    wait_until(lambda: door.post(f"/in/{new}", body).status == 401, 5, "the intake to be gone")


@pytest.mark.parametrize("key", ["", "x", "a" * 26, "A" * 32, "a" * 5000, "%00"])
def test_a_key_that_nobody_has(door: Door, account: Account, key: str) -> None:
    answer = door.post(f"/in/{key}", {"id": "d1", "value": 1})
    assert answer.status in {401, 414}
    assert not Device.objects.exists()


def test_an_outsider_reaches_nothing_of_others(door: Door, account: Account, outsider: Account) -> None:
    """The same names in two accounts are two devices; a token is no key, and a key no token."""
    account.device("d1")
    outsider.device("d1")
    _, key = intake(outsider)
    assert door.post(f"/in/{key}", {"id": "d1", "kind": "a", "value": 1}).status == 200
    assert account.stored() == []
    assert outsider.stored() == [("1", "a")]
    assert door.post(f"/in/{account.device_token}", {"id": "d1", "value": 1}).status == 401
    assert door.post("/post_v2/", b"1", X_DEVICETOKEN=key, X_DEVICEID="d1").status == 401


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "HEAD"])
def test_it_takes_post_only(door: Door, account: Account, method: str) -> None:
    _, key = intake(account)
    answer = door.post(f"/in/{key}", b"{}", method)
    assert (answer.status, answer.headers["Allow"]) == (405, "POST")


def test_more_than_a_body_may_have(door: Door, account: Account) -> None:
    _, key = intake(account)
    bomb = gzip.compress(b" " * 50 * 2**20)
    assert door.post(f"/in/{key}", bomb, Content_Encoding="gzip").status == 413
    assert door.post(f"/in/{key}", b"x", Content_Encoding="br").status == 415


def test_a_password_is_not_for_pages_of_others(door: Door, account: Account) -> None:
    secret = b64encode(f"u:{account.device_token}".encode()).decode()
    answer = door.post("/write", b"m v=1", Authorization=f"Basic {secret}", Origin="https://evil.example")
    assert answer.status == 403
    assert "WWW-Authenticate" not in answer.headers


TELEGRAF = """cpu,cpu=cpu0,host=web-1 usage_idle=91.5,usage_user=3.25 {ns}
cpu,cpu=cpu1,host=web-1 usage_idle=81.5,usage_user=13.25 {ns}
disk,device=sda1,fstype=ext4,host=web-1,path=/ used_percent=41.5,free=1000i {ns}
mem,host=web-1 used=123i {ns}
mem,host=web-2 used=456i {ns}
"""


@pytest.mark.parametrize(
    "path",
    ["/write?db=telegraf", "/api/v2/write?org=o&bucket=b", "/in/{key}/write", "/in/{key}/api/v2/write"],
)
def test_influx_stores_a_batch_of_several_devices_once(door: Door, account: Account, path: str) -> None:
    account.device("web-1")
    account.device("web-2", channel=2)
    _, key = create_intake(account.user, {"name": "Servers", "format": "influx"})
    lines = TELEGRAF.format(ns=second() * 1_000_000_000)
    headers = {} if "{key}" in path else {"Authorization": f"Token {account.device_token}"}
    for _ in range(2):
        answer = door.post(
            path.format(key=key), gzip.compress(lines.encode()), Content_Encoding="gzip", **headers
        )
        assert (answer.status, answer.body) == (204, b"")
        assert sorted(tag or "" for _, tag in account.stored()) == [
            "cpu/cpu=cpu0",
            "cpu/cpu=cpu1",
            "disk/device=sda1/fstype=ext4/path=%2F",
            "mem",
        ]
        assert account.stored(2) == [('{"used": 456}', "mem")]
    bad = door.post(path.format(key=key), lines + "mem,host=web-1 used=\n", **headers)
    assert bad.status == 400
    assert "line 6" in bad.body.decode()
    assert len(account.stored()) == 4


def test_what_one_device_can_not_have_is_named_and_the_rest_is_stored(door: Door, account: Account) -> None:
    configure_device(account.device("web-1"), {"enabled": False})
    account.device("web-2")
    lines = TELEGRAF.format(ns=second() * 1_000_000_000)
    answer = door.post("/write", lines, Authorization=f"Token {account.device_token}")
    assert answer.status == 400
    assert "web-1" in answer.json["error"]
    assert account.stored() == [('{"used": 456}', "mem")]


@pytest.mark.parametrize("path", ["write", "api/v2/write", ""])
def test_a_device_is_named_behind_the_key(door: Door, account: Account, path: str) -> None:
    account.device("meter 1")
    _, key = create_intake(account.user, {"name": "Meters", "format": "influx"})
    url = f"/in/{key}/meter%201/{path}"
    assert door.post(url, f"power v=1 {second()}000000000").status == 204
    assert account.stored() == [('{"v": 1}', "power")]
    assert door.post(url, f"power,host=other v=2 {second()}000000000").status == 204
    assert Device.objects.filter(device_id="other").exists()
    wait_until(lambda: IntakeMessage.objects.count() == 2, what="both notes")
    assert {note.source for note in IntakeMessage.objects.all()} == {
        f"POST /in/.../{'/'.join(filter(None, ('meter 1', path)))}"
    }


def test_what_stands_behind_the_key_is_the_topic_of_a_mapping(door: Door, account: Account) -> None:
    account.device("home")
    mapping = {"rules": [{"topic": "+/+", "device": "{topic[0]}", "tag": "{topic[1]}", "value": "{body}"}]}
    _, key = intake(account, mapping)
    for tag in ("write", "ping", "query"):
        assert door.post(f"/in/{key}/home/{tag}", b'{"v":1}').status == 200
    assert sorted(tag or "" for _, tag in account.stored()) == ["ping", "query", "write"]


def test_what_no_device_can_be_called_is_encoded_once(door: Door, account: Account) -> None:
    account.device("a%2Fb")
    account.device("a%252Fb", channel=2)
    _, key = create_intake(account.user, {"name": "Meters", "format": "influx"})
    for path in ("a/b", "a%2Fb/write", "a%252Fb"):
        assert door.post(f"/in/{key}/{path}", "power v=1").status == 204
    assert account.stored() == [('{"v": 1}', "power")] * 2
    assert account.stored(2) == [('{"v": 1}', "power")]


@pytest.mark.parametrize(
    ("format_", "path"),
    [("otlp", "v1/metrics"), ("otlp", ""), ("prometheus", "api/v1/write"), ("prometheus", "")],
)
def test_metrics_of_a_device_behind_the_key(door: Door, account: Account, format_: str, path: str) -> None:
    account.device("a%2Fb")
    _, key = create_intake(account.user, {"name": "Metrics", "format": format_})
    body, headers = METRICS, {"Content_Type": "application/json"}
    if format_ == "prometheus":
        body, headers = REMOTE_WRITE, {"Content_Type": "application/x-protobuf", "Content_Encoding": "snappy"}
    assert door.post(f"/in/{key}/a/b/{path}", body, **headers).status in {200, 204}
    assert account.stored() == [("4.5", "load")]
    if format_ == "otlp":
        nan = body.replace(b"4.5", b'"NaN"')
        assert door.post(f"/in/{key}/a/b/{path}", nan, **headers).status == 200
        wait_until(IntakeMessage.objects.filter(left_out=1, count=0).exists, what="the note")
    bad = door.post(f"/in/{key}/a/b/{path}", body, **headers | {"Content_Type": "text/plain"})
    assert bad.status == 415


def test_influx_clients_find_what_they_look_for(door: Door, account: Account) -> None:
    answer = door.post("/ping", b"", "GET")
    assert (answer.status, "Content-Type" in answer.headers) == (204, False)
    _, key = create_intake(account.user, {"name": "Meters", "format": "influx"})
    for base in (f"/in/{key}", f"/in/{key}/d1"):
        assert door.post(f"{base}/ping", b"", "HEAD").status == 204
        assert door.post(f"{base}/health", b"", "GET").json["status"] == "pass"
        assert door.post(f"{base}/query", b"q=CREATE+DATABASE+x").json == {"results": [{"statement_id": 0}]}
    assert door.post("/health", b"", "GET").json["status"] == "pass"
    assert door.post("/query", b"q=CREATE+DATABASE+%22telegraf%22").json == {"results": [{"statement_id": 0}]}
    assert door.post("/write", b"m v=1").status == 401
    assert door.post("/api/v2/write", b"m v=1", Authorization="Token nobody").json["code"] == "unauthorized"


def test_an_api_token_is_no_device_token(door: Door, account: Account, outsider: Account) -> None:
    account.device("d1")
    for token in (account.api_token, "x", ""):
        answer = door.post("/write", b"m,host=d1 v=1", Authorization=f"Token {token}")
        assert answer.status == 401
    assert door.post("/write", b"m,host=d1 v=1", Authorization=f"Token {outsider.device_token}").status == 204
    assert account.stored() == []


def test_an_intake_of_another_format_says_so(door: Door, account: Account) -> None:
    _, key = intake(account)
    assert door.post(f"/in/{key}/write", b"m v=1").status == 404
    _, influx = create_intake(account.user, {"name": "Servers", "format": "influx"})
    for path in ("api/put", "d1/api/v1/write", "d1/v1/metrics"):
        assert door.post(f"/in/{influx}/{path}", b"m v=1").status == 404
    assert door.post(f"/in/{key}/v1/metrics", b"{}", Content_Type="application/json").status == 404


def test_no_key_is_nobodys_also_with_a_token(door: Door, account: Account) -> None:
    answer = door.post("/in/", {"id": "d1", "value": 1}, X_DEVICETOKEN=account.device_token)
    assert (answer.status, answer.json["error"]) == (401, "AUTH_REQUIRED")
    assert door.post("/in//write", b"m v=1", X_DEVICETOKEN=account.device_token).status == 401


def test_what_came_compressed_is_listed_as_it_reads(door: Door, account: Account) -> None:
    made, key = intake(account)
    assert door.post(f"/in/{key}", gzip.compress(b"no JSON"), Content_Encoding="gzip").status == 400
    wait_until(RejectedMessage.objects.exists, what="the rejected message")
    assert bytes(RejectedMessage.objects.get().payload) == b"no JSON"
    wait_until(IntakeMessage.objects.exists, what="the note")
    assert bytes(IntakeMessage.objects.get(intake=made).body) == b"no JSON"
