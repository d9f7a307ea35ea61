"""A page's socket on the real processes: what it hears, and who gets none."""

import json
import time
import urllib.request
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import paho.mqtt.publish as mqtt
import pytest
from listening import code_of_end, hear, open_socket, page, sign_in
from stack import Stack
from support import Account
from websockets.exceptions import InvalidStatus

from thingscale.accounts.models import Session
from thingscale.live.consumers import MAX_SOCKETS, SIGNED_OUT, TOO_MANY

pytestmark = pytest.mark.e2e
Start = Callable[..., Stack]


def publish(stack: Stack, account: Account, topic: str, payload: str) -> None:
    """With QoS 1: returns once it is committed."""
    mqtt.single(
        f"{account.device_token}/{topic}",
        payload,
        qos=1,
        hostname="127.0.0.1",
        port=stack.mqtt,
        auth={"username": account.user_id, "password": account.device_token},
    )


def post(stack: Stack, path: str, body: str, **headers: str) -> int:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    request = urllib.request.Request(stack.url(path), body.encode(), named, method="POST")
    with urllib.request.urlopen(request, timeout=60) as answer:
        status: int = answer.status
        return status


def line(update: Any) -> dict[str, Any]:
    """The one message of an update."""
    assert update["type"] == "update"
    assert update["dropped"] == 0
    (found,) = update["messages"]
    return {name: found[name] for name in ("device", "tag", "kind", "status", "reason", "channel", "value")}


def test_what_devices_send_reaches_the_open_page(stack: Start, account: Account) -> None:
    running = stack()
    account.device("d1", 4)
    with page(running, account) as socket:
        publish(running, account, "json/d1/room", '{"temp": 23.40}')
        update = hear(socket)
        assert update["counts"] == {"stored": 1, "held": 0, "rejected": 0, "duplicate": 0}
        assert (update["channels"], update["devices"]) == ([4], ["d1"])
        stored = {"device": "d1", "kind": "json", "status": "stored", "reason": None, "channel": 4}
        assert line(update) == stored | {"tag": "room", "value": '{"temp": 23.40}'}
        post(running, "/post_v2/", "12", X_DEVICETOKEN=account.device_token, X_DEVICEID="d1")
        assert line(hear(socket)) == stored | {"tag": None, "value": "12"}
        post(running, "/v2/stream/4", '{"value": 13}', X_APITOKEN=account.api_token)
        assert line(hear(socket)) == stored | {"device": None, "kind": "rest", "tag": None, "value": "13"}


def test_held_and_rejected_messages_come_with_their_reason(stack: Start, account: Account) -> None:
    running = stack()
    with page(running, account) as socket:
        publish(running, account, "json/new", "1")
        held = line(hear(socket))
        assert (held["status"], held["reason"], held["channel"]) == ("held", "NEW_DEVICE_FOUND", None)
        publish(running, account, "json/new", "{oops")
        rejected = line(hear(socket))
        assert (rejected["status"], rejected["reason"]) == ("rejected", "BAD_JSON_FORMAT")
        assert rejected["value"] == "{oops"


def test_no_update_has_a_token_in_it(stack: Start, account: Account) -> None:
    running = stack()
    with page(running, account) as socket:
        for topic in ("json/new", "json/new/a/b/c", "json", "state/new"):
            publish(running, account, topic, "v=1")
        heard = b""
        while b"a/b/c" not in heard and heard.count(b'"at"') < 4:
            heard += json.dumps(hear(socket)).encode()
        assert account.device_token.encode() not in heard
        assert account.api_token.encode() not in heard


def test_another_user_hears_nothing(stack: Start, account: Account, outsider: Account) -> None:
    running = stack()
    account.device("d1")
    with page(running, account) as own, page(running, outsider) as other:
        publish(running, account, "json/d1", "1")
        assert line(hear(own))["value"] == "1"
        with pytest.raises(TimeoutError):
            hear(other, 1)


def test_nobody_listens_without_a_session(stack: Start, account: Account) -> None:
    for session in ("", "x" * 32):
        with open_socket(stack("web"), session) as socket:
            assert code_of_end(socket) == SIGNED_OUT


@pytest.mark.parametrize("origin", ["http://evil.example", "http://127.0.0.1:1", "null", ""])
def test_pages_of_other_sites_are_refused(stack: Start, account: Account, origin: str) -> None:
    with pytest.raises(InvalidStatus) as refused, open_socket(stack("web"), sign_in(account), origin):
        pass
    assert refused.value.response.status_code == 403


def test_other_paths_are_refused(stack: Start, account: Account) -> None:
    from websockets.sync.client import connect

    with pytest.raises(InvalidStatus), connect(f"ws://127.0.0.1:{stack('web').http}/ws/other/"):
        pass


def test_an_ended_session_loses_its_socket(stack: Start, account: Account, outsider: Account) -> None:
    running = stack("web")
    with page(running, account) as ended, page(running, outsider) as inactive:
        Session.objects.filter(session_key__in=list(_keys(account))).delete()
        outsider.user.is_active = False
        outsider.user.save()
        assert code_of_end(ended) == SIGNED_OUT
        assert code_of_end(inactive) == SIGNED_OUT


def _keys(account: Account) -> list[str]:
    pk = str(account.user.pk)
    return [s.session_key for s in Session.objects.all() if s.get_decoded()["_auth_user_id"] == pk]


def test_a_user_has_only_so_many_sockets(stack: Start, account: Account) -> None:
    running = stack("web")
    key = sign_in(account)
    with ExitStack() as others:
        with open_socket(running, key) as first:
            sockets = [others.enter_context(open_socket(running, key)) for _ in range(MAX_SOCKETS - 1)]
            assert [hear(socket) for socket in (first, *sockets)] == [{"type": "ready"}] * MAX_SOCKETS
            with open_socket(running, key) as one_more:
                assert code_of_end(one_more) == TOO_MANY
        time.sleep(0.2)
        with open_socket(running, key) as instead:
            assert hear(instead) == {"type": "ready"}
