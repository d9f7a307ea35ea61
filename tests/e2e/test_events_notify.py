"""A client of the original makes an event, devices send, and receivers get what the contract says. Only the
public doors are used, and real receivers: a web server and a mail server."""

import json
import logging
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from email import policy
from email.parser import BytesParser
from typing import Any

import pytest
from aiosmtpd.controller import Controller
from mails import MailServer
from mqtt_clients import Device
from receivers import Receiver, Request, receiver
from stack import Stack, free_port, wait_until
from support import Account, make_account

from thingscale.events.transports.http import signature

log = logging.getLogger(__name__)
pytestmark = pytest.mark.e2e

STATUS = "value1 was consistent with the threshold. Current:13 = Threshold:13"


class World:
    """The platform, an account, and what its receivers get."""

    def __init__(self, stack: Stack, account: Account, hook: Receiver, mails: MailServer) -> None:
        self.stack, self.account, self.hook, self.mails = stack, account, hook, mails

    def rest(self, method: str, path: str, body: Any = None) -> Any:
        headers = {"X-APITOKEN": self.account.api_token}
        return self._call(
            method, f"/v2/{path}", json.dumps(body).encode() if body is not None else b"", headers
        )

    def post(self, path: str, body: bytes, device_id: str) -> None:
        headers = {"X-DEVICETOKEN": self.account.device_token, "X-DEVICEID": device_id}
        self._call("POST", path, body, headers)

    def _call(self, method: str, path: str, body: bytes, headers: dict[str, str]) -> Any:
        data = body if method != "GET" else None
        request = urllib.request.Request(self.stack.url(path), data, headers, method=method)
        with urllib.request.urlopen(request, timeout=60) as response:
            text = response.read().decode()
            return json.loads(text) if text.startswith(("{", "[")) else text

    def hooks(self, count: int) -> list[Request]:
        wait_until(lambda: len(self.hook.requests) >= count, what=f"webhook {count}")
        assert len(self.hook.requests) == count
        return self.hook.requests


@pytest.fixture
def world(transactional_db: None) -> Iterator[World]:
    mails = MailServer()
    server = Controller(mails, hostname="127.0.0.1", port=free_port())
    server.start()
    stack = Stack(
        THINGSCALE_NOTIFY_NETWORKS="127.0.0.0/8",
        THINGSCALE_EMAIL_URL=f"smtp://127.0.0.1:{server.port}",
        THINGSCALE_METRICS_PORT=str(free_port()),
    )
    try:
        account = make_account("owner@example.com")
        stack.ensure("web", "ingest", "celery")
        with receiver() as hook:
            yield World(stack, account, hook, mails)
    finally:
        stack.stop()
        server.stop()


def test_each_door_notifies_as_the_contract_says(world: World) -> None:
    world.rest("POST", "channel/1", {"channel_name": "hall"})
    world.rest("POST", "device/d1", {"mapped_ch": 1})
    event = {
        "mapped_ch": 1,
        "description": "thirteen",
        "source": "value1",
        "operator": "=",
        "threshold": "13",
        "notify_type": "http",
        "post_url": world.hook.url,
    }
    assert world.rest("POST", "event", event) == {"event_id": 1}
    with Device(world.stack, world.account) as device:
        assert device.publish("d1", b"v=13&v2=7") == 0
        assert device.publish("d1", b"v=12") == 0
        world.hooks(1)
        assert (
            device.publish("json/d1/roof", b'[{"value": 13}, {"value": 12}, {"value": {"value": 13}}]') == 0
        )
        world.hooks(3)
    world.post("/post_v1/", b"v=13", "d1")
    world.hooks(4)
    world.post("/post_v2/", b"13", "d1")
    world.hooks(5)
    assert world.rest("POST", "stream/1", [{"value": 12}, {"value": {"value1": 13}}]) == {"stored": 2}
    world.hooks(6)
    world.post("/post_v2/", b"13", "d2")  # held, until its device is mapped
    world.rest("PUT", "device/d2", {"enabled": True, "mapped_ch": 1})
    requests = world.hooks(7)
    bodies = [request.json for request in requests]
    assert bodies[0] == {
        "event_id": 1,
        "description": "thirteen",
        "mapped_ch": 1,
        "channel_name": "hall",
        "source": "value1",
        "status": STATUS,
        "current": 13,
        "threshold": "13",
        "tag": None,
        "device_id": "d1",
        "at": bodies[0]["at"],
        "delivery_id": requests[0].headers["x-delivery-id"],
        "state": "firing",
        "severity": "warning",
        "incident": bodies[0]["incident"],
    }
    assert {body["status"] for body in bodies} == {STATUS}
    assert [(body["device_id"], body["tag"]) for body in bodies] == [
        ("d1", None),
        ("d1", "roof"),
        ("d1", "roof"),
        ("d1", None),
        ("d1", None),
        (None, None),
        ("d2", None),
    ]
    assert len({body["delivery_id"] for body in bodies}) == 7
    secret = world.rest("GET", "event/1/secret")["secret"]
    assert {request.headers["x-signature"] == signature(request.body, secret) for request in requests} == {
        True
    }
    assert {row["state"] for row in world.rest("GET", "delivery")} == {"sent"}
    assert world.rest("GET", "event/1")[0]["state"] == "firing"
    first = world.rest("GET", "incident")[0]
    assert (first["state"], first["title"]) == ("open", "thirteen")


def test_mail_goes_to_both_addresses(world: World) -> None:
    world.rest("PUT", "user", {"email1": "one@example.com", "email2": "two@example.com"})
    world.rest("POST", "channel/1")
    world.rest("POST", "device/d1", {"mapped_ch": 1})
    event = {"mapped_ch": 1, "source": "temp", "operator": ">", "threshold": "30", "notify_type": "email"}
    world.rest("POST", "event", event | {"description": "Too warm"})
    world.post("/post_v2/", b'{"temp": 31.5}', "d1")
    wait_until(lambda: len(world.mails.mails) == 2, what="both mails")
    assert {mail["To"] for mail in world.mails.mails} == {"one@example.com", "two@example.com"}
    for mail in world.mails.mails:
        read = BytesParser(policy=policy.default).parsebytes(mail.as_bytes())
        text = read.get_body()
        assert text is not None
        assert "Too warm" in str(read["Subject"])
        assert "temp was consistent with the threshold. Current:31.5 > Threshold:30" in text.get_content()


def test_an_address_inside_is_refused_where_it_is_not_allowed(world: World) -> None:
    with pytest.raises(urllib.error.HTTPError) as refused:
        world.rest("POST", "event", {"notify_type": "http", "post_url": "http://169.254.169.254/latest/"})
    assert refused.value.code == 400
    assert "THINGSCALE_NOTIFY_NETWORKS" in refused.value.read().decode()


def test_a_webhook_comes_soon(world: World) -> None:
    """From the PUBACK. How soon, under load: benchmarks/notify_latency.py."""
    world.rest("POST", "channel/1")
    world.rest("POST", "device/d1", {"mapped_ch": 1})
    event = {"mapped_ch": 1, "source": "value", "operator": ">", "threshold": "0", "notify_type": "http"}
    world.rest("POST", "event", event | {"post_url": world.hook.url})
    waited = []
    with Device(world.stack, world.account) as device:
        for number in range(1, 21):
            device.publish("json/d1", b"%d" % number)
            acknowledged = time.monotonic()
            waited.append(world.hooks(number)[-1].at - acknowledged)
    waited.sort()
    log.info("From PUBACK to webhook: median %.3f s, at most %.3f s", waited[10], waited[-1])
    assert waited[10] < 1
