"""The HTTP connector's answers (docs/contract.md), from both adapters alike."""

import json
from collections.abc import Iterator
from datetime import timedelta

import pytest
from connecting import OLDEST, V1, V2, Connection, Reply, raw, view
from django.test import override_settings
from django.utils import timezone
from feeding import held_values, reasons, values
from pytest_django import Settings
from support import Account

from thingscale.devices.models import Device, RejectedMessage
from thingscale.provisioning.actions import configure_device
from thingscale.streams.models import Submitted

LONG = "x" * 65


@pytest.fixture(scope="module", params=[raw, view])
def http(request: pytest.FixtureRequest, django_db_setup: None) -> Iterator[Connection]:
    """Started once for all tests: it knows nothing that outlives an account."""
    with override_settings(HTTP_RATE=0), request.param() as adapter:
        yield adapter


def post(
    http: Connection,
    account: Account,
    path: str = V2,
    body: bytes = b"1",
    device: str | bytes = "d1",
    **more: str,
) -> Reply:
    headers: dict[str, str | bytes] = {"X-DEVICETOKEN": account.device_token, "X-DEVICEID": device}
    return http.send(
        "POST", path, headers | {name.replace("_", "-"): text for name, text in more.items()}, body
    )


@pytest.mark.parametrize("path", [V2, V2.rstrip("/")])
def test_v2_is_stored_when_it_is_answered(http: Connection, account: Account, path: str) -> None:
    account.device("d1")
    assert post(http, account, path, b'{"temp": 23.40}').short == (200, "OK")
    assert account.stored() == [('{"temp": 23.40}', None)]


@pytest.mark.parametrize("path", [V1, V1.rstrip("/"), OLDEST, OLDEST.rstrip("/")])
def test_v1_is_url_encoded(http: Connection, account: Account, path: str) -> None:
    account.device("d1")
    assert post(http, account, path, b"v=23.40&v2=a%2Bb+c&x=1\r\n", X_TAGNAME="not in v1").short == (
        200,
        "OK",
    )
    assert account.stored() == [('{"value": 23.40, "value2": "a+b c"}', None)]


@pytest.mark.parametrize(
    "content_type",
    ["application/json", "application/x-www-form-urlencoded", "multipart/form-data", "text/plain", ""],
)
@pytest.mark.parametrize(("path", "body"), [(V2, b'{"value": 1}'), (V1, b"v=1")], ids=["v2", "v1"])
def test_the_body_is_read_by_the_path_whatever_its_label(
    http: Connection, account: Account, path: str, body: bytes, content_type: str
) -> None:
    account.device("d1")
    assert post(http, account, path, body, Content_Type=content_type).short == (200, "OK")
    assert values(account) == ['{"value": 1}']


def test_device_ids_and_tags_are_utf_8(http: Connection, account: Account) -> None:
    account.device("温度計 1.a")
    assert post(http, account, device="温度計 1.a", X_TAGNAME="Küche 2").short == (200, "OK")
    assert account.stored() == [("1", "Küche 2")]


def test_an_empty_tag_is_none(http: Connection, account: Account) -> None:
    account.device("d1")
    assert post(http, account, X_TAGNAME="").short == (200, "OK")
    assert account.stored() == [("1", None)]


def test_a_new_device_is_found_and_then_disabled(http: Connection, account: Account) -> None:
    assert post(http, account, body=b"1").short == (201, "NEW_DEVICE_FOUND")
    assert post(http, account, body=b"2").short == (403, "DEVICE_DISABLED")
    device = Device.objects.get(user=account.user)
    assert held_values(device) == [1, 2]
    configure_device(device, {"enabled": True})
    assert post(http, account, body=b"3").short == (403, "NO_MAPPED_CH")
    configure_device(device, {"mapped_channel": account.channel()})
    assert post(http, account, body=b"4").short == (200, "OK")
    assert values(account) == ["1", "2", "3", "4"]


def test_disabled_is_said_before_unmapped(http: Connection, account: Account) -> None:
    configure_device(account.device("d1", None), {"enabled": False})
    assert post(http, account).short == (403, "DEVICE_DISABLED")
    assert reasons(account) == ["DEVICE_DISABLED"]


def test_an_account_that_is_full(http: Connection, account: Account) -> None:
    account.user.max_devices = 0
    account.user.save()
    assert post(http, account).short == (403, "MAX_DEVICE_REACH")


@pytest.mark.parametrize(
    ("path", "body"),
    [
        *((V2, body) for body in (b"", b"{", b"[1]", b"a\tb", b"1e+309", rb'"\u0000"', b"\0", b"[" * 1000)),
        (V2, '"ä"'.encode("latin-1")),
        *((V1, body) for body in (b"", b"12", b"x=1", b"v=%00", b"v=%E4", b'{"value": 1}')),
    ],
)
def test_a_payload_that_can_not_be_read(http: Connection, account: Account, path: str, body: bytes) -> None:
    account.device("d1")
    assert post(http, account, path, body).short == (400, "BAD_JSON_FORMAT")
    row = RejectedMessage.objects.get(user=account.user)
    assert (bytes(row.payload), row.device_id, row.size) == (body[:256], "d1", len(body))
    assert values(account) == []


@pytest.mark.parametrize("device", ["0", ""])
def test_a_device_id_that_is_no_id(http: Connection, account: Account, device: str) -> None:
    assert post(http, account, device=device).short == (400, "DEVICE_ID_ZERO")
    assert reasons(account) == ["DEVICE_ID_ZERO"]


def test_no_device_id_at_all(http: Connection, account: Account) -> None:
    reply = http.send("POST", V2, {"X-DEVICETOKEN": account.device_token}, b"1")
    assert reply.short == (400, "DEVICE_ID_ZERO")


@pytest.mark.parametrize("name", [LONG, "a/b", "a+b", "a#b", "caf\xe9".encode("latin-1")])
def test_impossible_device_ids_and_tags(http: Connection, account: Account, name: str | bytes) -> None:
    account.device("d1")
    assert post(http, account, device=name).short == (400, "BAD_PARAMETER")
    if name in {LONG, "a/b"}:  # as a tag these would do
        name = LONG * 2
    assert post(http, account, **{"X-TAGNAME": name}).short == (400, "BAD_PARAMETER")  # type: ignore[arg-type]
    assert reasons(account) == ["BAD_PARAMETER"] * 2
    assert values(account) == []


@pytest.mark.parametrize(
    "wrong", ["missing", "empty", "unknown", "api token", "lower case", "latin-1", "long"]
)
def test_wrong_tokens(http: Connection, account: Account, wrong: str) -> None:
    account.device("d1")
    token: dict[str, str | bytes] = {
        "empty": "",
        "unknown": "0" * 32,
        "api token": account.api_token,
        "lower case": account.device_token.lower() + " ",
        "latin-1": b"\xe9" * 32,
        "long": "A" * 60_000,
    }
    headers: dict[str, str | bytes] = {"X-DEVICEID": "d1"}
    if wrong != "missing":
        headers["X-DEVICETOKEN"] = token[wrong]
    assert http.send("POST", V2, headers, b"1").short == (401, "AUTH_REQUIRED")
    assert values(account) == []


@pytest.mark.parametrize("path", [V1, V2, OLDEST])
@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "OPTIONS"])
def test_other_methods(http: Connection, account: Account, method: str, path: str) -> None:
    reply = http.send(method, path, {"X-DEVICETOKEN": account.device_token, "X-DEVICEID": "d1"}, b"")
    assert (reply.status, reply.headers["allow"]) == (405, "POST")
    assert not account.user.devices.exists()


def test_the_payload_limit(http: Connection, account: Account) -> None:
    account.device("d1")
    fits = b'"' + b"x" * (64 * 1024 - 2) + b'"'
    assert post(http, account, body=fits).short == (200, "OK")
    assert post(http, account, body=fits + b" ").short == (413, "TOO_LARGE")
    assert post(http, account, V1, b"v=" + b"1" * 500_000).short == (413, "TOO_LARGE")
    assert values(account) == [fits.decode()]
    assert reasons(account) == ["TOO_LARGE"] * 2


@pytest.mark.parametrize(
    ("accept", "content_type", "ok", "error"),
    [
        ("", "text/plain; charset=utf-8", "OK", "BAD_JSON_FORMAT"),
        ("*/*", "text/plain; charset=utf-8", "OK", "BAD_JSON_FORMAT"),
        ("application/json", "application/json", {"result": "OK"}, {"error": "BAD_JSON_FORMAT"}),
        (
            "text/html, application/json;q=0.9",
            "application/json",
            {"result": "OK"},
            {"error": "BAD_JSON_FORMAT"},
        ),
    ],
)
def test_the_form_of_an_answer(
    http: Connection, account: Account, accept: str, content_type: str, ok: object, error: object
) -> None:
    account.device("d1")
    for body, expected in ((b"1", ok), (b"{", error)):
        reply = post(http, account, body=body, Accept=accept)
        assert reply.headers["content-type"] == content_type
        assert (json.loads(reply.body) if "json" in content_type else reply.body.decode()) == expected


def test_a_new_device_is_a_result_and_no_error(http: Connection, account: Account) -> None:
    reply = post(http, account, Accept="application/json")
    assert json.loads(reply.body)["result"] == "NEW_DEVICE_FOUND"


def test_an_outsiders_token_leads_to_the_outsiders_account(
    http: Connection, account: Account, outsider: Account
) -> None:
    account.device("d1")
    assert post(http, outsider, body=b'"theirs"').short == (201, "NEW_DEVICE_FOUND")
    assert post(http, account, body=b'"ours"').short == (200, "OK")
    assert values(account) == ['"ours"']
    assert held_values(Device.objects.get(user=outsider.user)) == ["theirs"]


def test_the_same_idempotency_key_is_stored_once(http: Connection, account: Account) -> None:
    account.device("d1")
    replies = [post(http, account, body=body, Idempotency_Key="k1") for body in (b"1", b"1")]
    assert [reply.short for reply in replies] == [(200, "OK")] * 2
    assert post(http, account, body=b"2", Idempotency_Key="k2").short == (200, "OK")
    assert post(http, account, body=b"1").short == (200, "OK")
    assert values(account) == ["1", "2", "1"]


def test_an_idempotency_key_is_the_devices_own(http: Connection, account: Account, outsider: Account) -> None:
    for owner, device in ((account, "d1"), (account, "d2"), (outsider, "d1")):
        owner.device(device)
        assert post(http, owner, device=device, Idempotency_Key="1").short == (200, "OK")
    assert (len(values(account)), len(values(outsider))) == (2, 1)


REUSES: list[tuple[str, bytes, dict[str, str]]] = [
    (V2, b'{"t":3}', {}),
    (V2, b'{"t":1.0}', {}),
    (V2, b'{"t":1} ', {}),
    (V2, b'{"t":1}', {"X_TAGNAME": "roof"}),
    (V1, b"v=1", {}),
]


@pytest.mark.parametrize(("path", "body", "more"), REUSES)
def test_d1_a_key_with_another_message_is_refused_recorded_and_never_answered_200(
    http: Connection, account: Account, path: str, body: bytes, more: dict[str, str]
) -> None:
    """A counter that restarts at a reboot, and whatever else uses a key twice."""
    account.device("d1")
    assert post(http, account, body=b'{"t":1}', Idempotency_Key="1").short == (200, "OK")
    again = post(http, account, path, body, Idempotency_Key="1", **more)
    assert again.short == (422, "IDEMPOTENCY_KEY_REUSED")
    reply = post(http, account, path, body, Idempotency_Key="1", Accept="application/json", **more)
    assert reply.status == 422
    assert json.loads(reply.body)["error"] == "IDEMPOTENCY_KEY_REUSED"
    assert "key of its own" in json.loads(reply.body)["detail"]
    assert values(account) == ['{"t": 1}']
    assert reasons(account) == ["IDEMPOTENCY_KEY_REUSED"] * 2
    assert post(http, account, body=b'{"t":1}', Idempotency_Key="1").short == (200, "OK")
    assert values(account) == ['{"t": 1}'], "the first one is still known"


def test_d1_what_was_refused_has_not_used_its_key(http: Connection, account: Account) -> None:
    account.device("d1")
    assert post(http, account, body=b"{", Idempotency_Key="1").status == 400
    assert post(http, account, body=b"1", Idempotency_Key="1").short == (200, "OK")
    assert values(account) == ["1"]


def test_d1_a_key_is_forgotten_after_the_window(
    http: Connection, account: Account, settings: Settings
) -> None:
    account.device("d1")
    for body, age in ((b"1", 100), (b"2", 0), (b"2", 0)):
        assert post(http, account, body=body, Idempotency_Key="1").short == (200, "OK")
        Submitted.objects.update(arrived_at=timezone.now() - timedelta(seconds=age))
        settings.DEDUPE_SECONDS = 90
    assert values(account) == ["1", "2"]


def test_what_the_release_before_has_stored_is_recognised(http: Connection, account: Account) -> None:
    """It leaves keys in datapoints only. With another body, nothing is lost."""
    account.device("d1")
    for key in ("1", "2"):
        post(http, account, body=b'{"t":1}', Idempotency_Key=key)
    Submitted.objects.all().delete()
    assert post(http, account, body=b'{"t":1}', Idempotency_Key="1").short == (200, "OK")
    assert post(http, account, body=b'{"t":3}', Idempotency_Key="2").short == (200, "OK")
    assert values(account) == ['{"t": 1}', '{"t": 1}', '{"t": 3}']


def test_d5_a_held_message_with_an_idempotency_key_is_held_once(http: Connection, account: Account) -> None:
    """And answered in the same way, until it is stored."""
    replies = [post(http, account, Idempotency_Key="k1") for _ in range(2)]
    assert [reply.short for reply in replies] == [(201, "NEW_DEVICE_FOUND")] * 2
    assert [reply.headers["x-held"] for reply in replies] == ["1"] * 2
    device = Device.objects.get(user=account.user)
    assert held_values(device) == [1]
    assert post(http, account, body=b"2", Idempotency_Key="k1").short == (422, "IDEMPOTENCY_KEY_REUSED")
    configure_device(device, {"enabled": True, "mapped_channel": account.channel()})
    after = post(http, account, Idempotency_Key="k1")
    assert (after.short, after.headers.get("x-held")) == ((200, "OK"), None)
    assert values(account) == ["1"]


def test_d5_a_held_message_says_so_and_equal_readings_are_held_each(
    http: Connection, account: Account
) -> None:
    """Never recognised by the body; a device that knows X-Held need not send again."""
    account.device("unmapped", channel=None)
    for device, status, code in (
        ("new", 201, "NEW_DEVICE_FOUND"),
        ("new", 403, "DEVICE_DISABLED"),
        ("unmapped", 403, "NO_MAPPED_CH"),
        ("unmapped", 403, "NO_MAPPED_CH"),
    ):
        reply = post(http, account, device=device, Accept="application/json")
        told = json.loads(reply.body)
        assert (reply.status, told.get("result", told.get("error"))) == (status, code)
        assert reply.headers["x-held"] == "1"
        assert "need not come again" in told["detail"]
    assert post(http, account, device="unmapped").body == b"NO_MAPPED_CH", "plain text stays a code"
    for name, count in (("new", 2), ("unmapped", 3)):
        assert held_values(Device.objects.get(user=account.user, device_id=name)) == [1] * count


def test_d5_what_is_not_held_does_not_say_so(http: Connection, account: Account) -> None:
    configure_device(account.device("off"), {"enabled": False})
    account.device("on")
    for device, expected in (("on", (200, "OK")), ("off", (403, "DEVICE_DISABLED"))):
        reply = post(http, account, device=device)
        assert (reply.short, "x-held" in reply.headers) == (expected, False)


ARRAY = b'[{"value":1,"at":"2026-01-31T13:45:30Z"},{"value":{"t":2.50},"tag":"own"},{"value":"x"}]'


def test_an_array_is_stored_whole_before_it_is_answered(http: Connection, account: Account) -> None:
    account.device("d1")
    assert post(http, account, body=ARRAY, X_TAGNAME="t").short == (200, "OK")
    assert sorted(account.stored()) == [('"x"', "t"), ("1", "t"), ('{"t": 2.50}', "own")]


def test_an_array_of_a_mebibyte(http: Connection, account: Account) -> None:
    account.device("d1")
    element = b'{"value":"%s"},' % (b"x" * 1000)
    body = b"[" + element * 1000 + b'{"value":1}'
    assert post(http, account, body=body.ljust(2**20 - 1) + b"]").short == (200, "OK")
    assert len(values(account)) == 1001
    assert post(http, account, body=body.ljust(2**20) + b"]").short == (413, "TOO_LARGE")
    assert post(http, account, body=b'"' + b"x" * 2**16 + b'"').short == (413, "TOO_LARGE")
    assert post(http, account, V1, body=b"v=" + b"x" * 2**16).short == (413, "TOO_LARGE")
    assert len(values(account)) == 1001


@pytest.mark.parametrize(
    ("body", "fault"),
    [(b"[]", "no datapoint"), (b'[{"value":1},7]', "[1]"), (b"[1,2]", "[0]"), (b"[", "not whole JSON")],
)
def test_what_else_begins_like_an_array_is_refused_and_told_what_one_looks_like(
    http: Connection, account: Account, body: bytes, fault: str
) -> None:
    account.device("d1")
    assert post(http, account, body=body).short == (400, "BAD_JSON_FORMAT")
    told = json.loads(post(http, account, body=body, Accept="application/json").body)
    assert told["error"] == "BAD_JSON_FORMAT"
    assert fault in told["detail"]
    assert '[{"value": 21.5' in told["detail"]
    assert reasons(account) == ["BAD_JSON_FORMAT"] * 2
    assert values(account) == []


def test_d1_and_d5_arrays_with_a_key(http: Connection, account: Account) -> None:
    """Held once as one message, stored whole once; another array under the key is refused."""
    replies = [post(http, account, body=ARRAY, Idempotency_Key="1") for _ in range(2)]
    assert [(reply.short, reply.headers["x-held"]) for reply in replies] == [
        ((201, "NEW_DEVICE_FOUND"), "1")
    ] * 2
    device = Device.objects.get(user=account.user)
    assert len(held_values(device)) == 1
    configure_device(device, {"enabled": True, "mapped_channel": account.channel()})
    assert post(http, account, body=ARRAY, Idempotency_Key="1").short == (200, "OK")
    other = ARRAY.replace(b"2.50", b"2.51")
    assert post(http, account, body=other, Idempotency_Key="1").status == 422
    assert len(values(account)) == 3


def test_v1_knows_no_arrays(http: Connection, account: Account) -> None:
    account.device("d1")
    assert post(http, account, V1, body=ARRAY).short == (400, "BAD_JSON_FORMAT")
