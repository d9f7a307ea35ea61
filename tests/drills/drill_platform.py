"""What a platform in good health does, asked from outside."""

import contextlib
import json
import urllib.error
import urllib.request
from types import TracebackType
from typing import Any, Self

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from private_place import Place
from stack import wait_until

SECONDS = 60.0
TAG = "health"  # apart from what drills with another clock have stored


class Subscriber:
    """A durable session for a device's commands: it subscribes once, and whenever the connection breaks it
    only comes back."""

    def __init__(self, place: Place, device: str) -> None:
        self.device = device
        self.received: list[bytes] = []
        self._asked: list[int] = []
        self._topic = f"{place.token}/{device}/subscribe"
        self._port = place.stack.mqtt
        self.client = mqtt.Client(
            CallbackAPIVersion.VERSION2, "app", clean_session=False, protocol=MQTTProtocolVersion.MQTTv311
        )
        self.client.username_pw_set(place.user_id, place.token)
        self.client.reconnect_delay_set(1, 1)
        self.client.on_message = lambda _client, _data, message: self.received.append(bytes(message.payload))
        self.client.on_subscribe = lambda _client, _data, mid, _codes, _properties: self._asked.append(mid)

    def __enter__(self) -> Self:
        self.client.connect("127.0.0.1", self._port, keepalive=10)
        self.client.loop_start()
        wait_until(self.client.is_connected, SECONDS, "CONNACK")
        self.client.subscribe(self._topic, qos=1)
        wait_until(lambda: self._asked, SECONDS, "SUBACK")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.client.disconnect()
        self.client.loop_stop()
        self.client._reset_sockets()  # it leaves the pair that wakes its thread to the garbage collector


def ask(place: Place, path: str, body: bytes | None = None, **headers: str) -> tuple[int, str]:
    """Status (0: no answer) and body."""
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    request = urllib.request.Request(place.stack.url(path), body, names)
    try:
        with urllib.request.urlopen(request, timeout=SECONDS) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()
    except OSError:
        return 0, ""


def post(place: Place, device: str, value: Any) -> int:
    data = json.dumps(value).encode()
    headers = {"X_DEVICETOKEN": place.token, "X_DEVICEID": device, "X_TAGNAME": TAG}
    return ask(place, "/post_v2/", data, **headers)[0]


def newest(place: Place) -> list[Any]:
    """The last of what `post` has stored."""
    headers = {"X_APITOKEN": place.api_token, "X_ENDTIME": "last", "X_TAGNAME": TAG}
    status, text = ask(place, "/v2/stream/0", None, **headers)
    assert status == 200, text
    return [row["value"] for row in json.loads(text)["stream"]]


def publish(place: Place, device: str, payload: str) -> int:
    data = json.dumps({"payload": payload, "qos": 1}).encode()
    return ask(place, f"/v2/publish/{device}", data, X_APITOKEN=place.api_token)[0]


def check_health(place: Place, subscriber: Subscriber) -> None:
    """Ready; a message is stored and read; a command arrives; Celery activates a new device."""
    wait_until(lambda: ask(place, "/readyz")[0] == 200, SECONDS, "readyz")
    _check_stored(place)
    _check_command(place, subscriber)
    _check_celery(place)


def _check_stored(place: Place) -> None:
    wait_until(lambda: post(place, "keyed", "healthy") == 200, SECONDS, "a message to be taken")
    assert newest(place) == ["healthy"]


def _check_command(place: Place, subscriber: Subscriber) -> None:
    """Sent until it arrives: what was published while a part was away may be lost, what follows is not."""
    wait_until(subscriber.client.is_connected, SECONDS, "the subscriber to be back")
    payload = b"still there?"

    def arrived() -> bool:
        publish(place, subscriber.device, payload.decode())
        with contextlib.suppress(AssertionError):
            wait_until(lambda: payload in subscriber.received, 1)
        return payload in subscriber.received

    wait_until(arrived, SECONDS, "a command")


def _check_celery(place: Place) -> None:
    """Its first message is held; a task enables the device, and it is stored."""
    place.stack.ensure("celery")  # as its supervisor would: kombu may fail where Valkey goes before its ACK
    assert post(place, "new-device", "first contact") == 201
    wait_until(lambda: newest(place) == ["first contact"], SECONDS, "the new device to be activated")
