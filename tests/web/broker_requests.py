"""What brokers send, as their documentation has it, to the real web server."""

from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

import orjson
from raw_http import Answer, ask, request
from stack import Stack
from support import Account

SECRET = "a-secret-of-the-site"
WORKER, PASSWORD = "thingscale", "worker/pass word"
ENVIRONMENT = {
    "THINGSCALE_INGEST": "broker",
    "THINGSCALE_BROKER_AUTH_SECRET": SECRET,
    "MQTT_URL": f"mqtt://{WORKER}:worker%2Fpass%20word@127.0.0.1:1",  # nobody is there
}


@dataclass
class Asking:
    """One broker. `allows` says whether it lets the client go on, as that broker reads an answer."""

    stack: Stack
    secret: str = SECRET
    last: Answer = field(init=False)

    def post(
        self, path: str, headers: dict[str, str], body: bytes, content_type: str = "application/json"
    ) -> Answer:
        headers = {"Content-Type": content_type} | headers
        self.last = ask(self.stack.http, request("POST", path, headers, body))
        return self.last

    def form(self, path: str, headers: dict[str, str], fields: dict[str, Any]) -> Answer:
        return self.post(path, headers, urlencode(fields).encode(), "application/x-www-form-urlencoded")

    def signs_in(self, username: str, password: str, client_id: str = "c1") -> bool:
        raise NotImplementedError

    def publishes(self, username: str, topic: str, client_id: str = "c1") -> bool:
        raise NotImplementedError

    def subscribes(self, username: str, topic: str, client_id: str = "c1") -> bool:
        raise NotImplementedError


class Emqx(Asking):
    """With `body` as docs/broker-mode.md has it; the secret is in a header."""

    as_form = False

    def _ask(self, question: str, fields: dict[str, Any]) -> dict[str, Any]:
        headers = {"Authorization": f"Bearer {self.secret}"}
        path = f"/broker/auth/emqx/{question}"
        if self.as_form:
            answer = self.form(path, headers, fields)
        else:
            answer = self.post(path, headers, orjson.dumps(fields))
        assert answer.status == 200  # else it would be ignored
        assert answer.header("Content-Type") == b"application/json"
        found: dict[str, Any] = orjson.loads(answer.body)
        return found

    def signs_in(self, username: str, password: str, client_id: str = "c1") -> bool:
        fields = {"clientid": client_id, "username": username, "password": password}
        found = self._ask("authenticate", fields)
        assert found.get("is_superuser", False) is (found["result"] == "allow" and username == WORKER)
        return bool(found["result"] == "allow")

    def _authorize(self, username: str, client_id: str, action: str, topic: str) -> bool:
        fields = {"clientid": client_id, "username": username, "action": action, "topic": topic}
        return bool(self._ask("authorize", fields)["result"] == "allow")

    def publishes(self, username: str, topic: str, client_id: str = "c1") -> bool:
        return self._authorize(username, client_id, "publish", topic)

    def subscribes(self, username: str, topic: str, client_id: str = "c1") -> bool:
        return self._authorize(username, client_id, "subscribe", topic)


class EmqxForm(Emqx):
    as_form = True


class Mosquitto(Asking):
    """mosquitto-go-auth: `params_mode` json, `response_mode` status."""

    as_form = False
    response = "status"

    def _ask(self, question: str, fields: dict[str, Any]) -> bool:
        option = "?response=text" if self.response == "text" else ""
        path = f"/broker/auth/mosquitto/{self.secret}/{question}{option}"
        if self.as_form:
            answer = self.form(path, {}, fields)
        else:
            answer = self.post(path, {"User-Agent": "mosquitto-3.0.0"}, orjson.dumps(fields))
        if not 200 <= answer.status < 300:
            return False
        if self.response == "text":
            return answer.body == b"ok"
        return self.response == "status" or bool(orjson.loads(answer.body)["ok"])

    def signs_in(self, username: str, password: str, client_id: str = "c1") -> bool:
        return self._ask("user", {"username": username, "password": password, "clientid": client_id})

    def is_superuser(self, username: str) -> bool:
        return self._ask("superuser", {"username": username})

    def check(self, username: str, topic: str, acc: int, client_id: str = "c1") -> bool:
        return self._ask("acl", {"username": username, "clientid": client_id, "topic": topic, "acc": acc})

    def publishes(self, username: str, topic: str, client_id: str = "c1") -> bool:
        return self.check(username, topic, 2, client_id)

    def subscribes(self, username: str, topic: str, client_id: str = "c1") -> bool:
        return self.check(username, topic, 4, client_id)


class MosquittoJson(Mosquitto):
    response = "json"


class MosquittoForm(Mosquitto):
    as_form = True
    response = "text"


class RabbitMq(Asking):
    """4.x: what its MQTT plugin asks, one after the other, as a client goes on."""

    vhost = "/"
    option = ""

    def question(self, question: str, **fields: str) -> bool:
        path = f"/broker/auth/rabbitmq/{self.secret}/{question}{self.option}"
        answer = self.form(path, {}, fields)
        return answer.status in {200, 201} and answer.body == b"allow"

    def _resource(self, username: str, client_id: str, kind: str, name: str, permission: str) -> bool:
        named = {"resource": kind, "name": name, "permission": permission}
        more = {"tags": "", "client_id": client_id}
        return self.question("resource", username=username, vhost=self.vhost, **named, **more)

    def _topic(self, username: str, client_id: str, topic: str, permission: str) -> bool:
        key = topic.replace("/", ".").replace("+", "*")
        variables = {"username": username, "vhost": self.vhost, "client_id": client_id}
        return self.question(
            "topic",
            username=username,
            vhost=self.vhost,
            resource="topic",
            name="amq.topic",
            permission=permission,
            tags="",
            routing_key=key,
            **{f"variable_map.{name}": value for name, value in variables.items()},
        )

    def signs_in(self, username: str, password: str, client_id: str = "c1") -> bool:
        who = {"username": username, "vhost": self.vhost, "client_id": client_id, "password": password}
        where = {"username": username, "vhost": self.vhost, "ip": "127.0.0.1", "tags": ""}
        return self.question("user", **who) and self.question("vhost", **where, client_id=client_id)

    def publishes(self, username: str, topic: str, client_id: str = "c1") -> bool:
        exchange = self._resource(username, client_id, "exchange", "amq.topic", "write")
        return exchange and self._topic(username, client_id, topic, "write")

    def subscribes(self, username: str, topic: str, client_id: str = "c1") -> bool:
        queue = f"mqtt-subscription-{client_id}qos1"
        for permission in ("configure", "write", "read"):
            if not self._resource(username, client_id, "queue", queue, permission):
                return False
        exchange = self._resource(username, client_id, "exchange", "amq.topic", "read")
        return exchange and self._topic(username, client_id, topic, "read")


class RabbitMqVhost(RabbitMq):
    vhost = "site iot"
    option = "?vhost=site%20iot"


class VerneMq(Asking):
    version_5 = False

    def hook(self, name: str, **fields: Any) -> Answer:
        full = f"{name}_m5" if self.version_5 else name
        more: dict[str, Any] = {"mountpoint": ""}
        if self.version_5:
            more["properties"] = {"session_expiry_interval": 60}
        path = f"/broker/auth/vernemq/{self.secret}/hook"
        return self.post(path, {"vernemq-hook": full}, orjson.dumps(more | fields))

    def _allows(self, answer: Answer) -> bool:
        if answer.status != 200:
            return False
        result = orjson.loads(answer.body)["result"]
        assert result in ("ok", {"error": "not_allowed"}), result
        return bool(result == "ok")

    def signs_in(self, username: str, password: str, client_id: str = "c1") -> bool:
        answer = self.hook(
            "auth_on_register",
            peer_addr="127.0.0.1",
            peer_port=52100,
            client_id=client_id,
            username=username or None,
            password=password or None,
            **{"clean_start" if self.version_5 else "clean_session": True},
        )
        assert answer.header("Cache-Control") == b"no-store"
        return self._allows(answer)

    def publishes(self, username: str, topic: str, client_id: str = "c1") -> bool:
        answer = self.hook(
            "auth_on_publish",
            client_id=client_id,
            username=username or None,
            qos=1,
            topic=topic,
            payload="MjEuNQ==",
            retain=False,
        )
        allowed = self._allows(answer)
        assert answer.header("Cache-Control") == (b"max-age=30" if allowed else b"no-store")
        return allowed

    def subscribe(self, username: str, *wanted: str) -> Answer:
        options = (
            {"no_local": False, "rap": False, "retain_handling": "send_retain"} if self.version_5 else {}
        )
        rows = [{"topic": topic, "qos": 1} | options for topic in wanted]
        return self.hook("auth_on_subscribe", client_id="c1", username=username or None, topics=rows)

    def subscribes(self, username: str, topic: str, client_id: str = "c1") -> bool:
        return self._allows(self.subscribe(username, topic))


class VerneMq5(VerneMq):
    version_5 = True


FORMS: list[type[Asking]] = [
    *(Emqx, EmqxForm, Mosquitto, MosquittoJson, MosquittoForm, RabbitMq, RabbitMqVhost, VerneMq, VerneMq5)
]


def credentials(account: Account) -> tuple[str, str]:
    return account.user_id, account.device_token
