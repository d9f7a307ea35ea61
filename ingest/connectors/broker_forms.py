"""The requests in which brokers ask who a client is and what it may do, and the answers they understand.

Whatever goes wrong, the answer has to be one on which the broker refuses. Most do so on any status but 200,
and remember no such answer; for EMQX that means to ask somebody else, and may mean to allow it if there is
nobody.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol
from urllib.parse import parse_qsl

import orjson

from ingest.connectors.broker_rules import Action, BrokerRules, Verdict, is_our_client_id, is_ours

MAX_FIELDS = 100
MAX_TOPICS = 1_000  # of one SUBSCRIBE
REMEMBERED_SECONDS = 30  # by VerneMQ, which would ask again for each message
RABBITMQ_EXCHANGE = "amq.topic"  # where its MQTT plugin publishes, unless told of another


class BadForm(Exception):
    """A request that is none of these."""


class BrokerAnswer(NamedTuple):
    status: int
    body: bytes
    content_type: str = "application/json"
    remembered: bool = False


class Question(NamedTuple):
    question: str  # the path's last level
    hook: str  # header `vernemq-hook`
    options: Mapping[str, str]  # of the URL, which the operator has written
    fields: Mapping[str, Any]

    def text(self, name: str) -> str:
        """Empty if it is not there. Raises BadForm."""
        value = self.fields.get(name)
        if value is not None and not isinstance(value, str):
            raise BadForm
        return value or ""


class Form(Protocol):
    refusal: BrokerAnswer
    away: BrokerAnswer

    async def answer(self, asked: Question, rules: BrokerRules) -> BrokerAnswer:
        """Raises BadForm."""


def read_fields(content_type: str, body: bytes) -> dict[str, Any]:
    """Raises BadForm."""
    try:
        if "json" in content_type.lower():
            fields = orjson.loads(body)
        else:
            pairs = parse_qsl(
                body.decode(), keep_blank_values=True, errors="strict", max_num_fields=MAX_FIELDS
            )
            fields = dict(pairs)
    except ValueError:  # of either, and of what is no UTF-8
        raise BadForm from None
    if not isinstance(fields, dict):
        raise BadForm
    return fields


def _json(document: object, status: int = 200, *, remembered: bool = False) -> BrokerAnswer:
    return BrokerAnswer(status, orjson.dumps(document), remembered=remembered)


def _text(text: str, status: int = 200) -> BrokerAnswer:
    return BrokerAnswer(status, text.encode(), "text/plain; charset=utf-8")


class Emqx:
    """5.0 and later: HTTP authenticator and HTTP authorizer."""

    refusal = away = _json({"result": "deny"})
    _allowed = _json({"result": "allow"})
    _actions = {"publish": Action.PUBLISH, "subscribe": Action.SUBSCRIBE}

    async def answer(self, asked: Question, rules: BrokerRules) -> BrokerAnswer:
        username = asked.text("username")
        match asked.question:
            case "authenticate":
                found = await rules.sign_in(username, asked.text("password"), asked.text("clientid"))
                if found.verdict is not Verdict.ALLOW:
                    return self.refusal
                document: dict[str, object] = {"result": "allow", "is_superuser": found.superuser}
                if found.ends_at is not None:
                    document["expire_at"] = int(found.ends_at) + 1
                return _json(document)
            case "authorize":
                action = self._actions.get(asked.text("action"))
                if action is None:
                    raise BadForm
                verdict = await rules.use(username, action, asked.text("topic"))
                return self._allowed if verdict is Verdict.ALLOW else self.refusal
        raise BadForm


class Mosquitto:
    """mosquitto-go-auth's HTTP backend. It may look at the status, at JSON or, with `?response=text` in the
    URL, at the word `ok`."""

    refusal = _json({"ok": False, "error": "not allowed"}, 403)
    away = _json({"ok": False, "error": "the database is away"}, 503)
    _allowed = _json({"ok": True, "error": ""})
    _allowed_text = _text("ok")
    _actions = {
        "1": Action.SUBSCRIBE,  # to be sent a message
        "2": Action.PUBLISH,
        "3": Action.PUBLISH,
        "4": Action.SUBSCRIBE,
        "8": Action.SUBSCRIBE,  # to end a subscription
    }

    async def answer(self, asked: Question, rules: BrokerRules) -> BrokerAnswer:
        username = asked.text("username")
        match asked.question:
            case "user":
                found = await rules.sign_in(username, asked.text("password"), asked.text("clientid"))
                verdict = found.verdict
            case "superuser":
                verdict = Verdict.ALLOW if is_ours(username) else Verdict.DENY
            case "acl":
                action = self._actions.get(str(asked.fields.get("acc")))
                if action is None:
                    raise BadForm
                verdict = await rules.use(username, action, asked.text("topic"))
            case _:
                raise BadForm
        if verdict is Verdict.ALLOW:
            return self._allowed_text if asked.options.get("response") == "text" else self._allowed
        return self.away if verdict is Verdict.AWAY else self.refusal


class RabbitMq:
    """rabbitmq_auth_backend_http, for clients of the MQTT plugin: they use one exchange, and queues that are
    named after their client id. `?vhost=` in the URL names theirs, if it is not `/`."""

    refusal = _text("deny")
    away = _text("the database is away", 503)
    _allowed = _text("allow")

    async def answer(self, asked: Question, rules: BrokerRules) -> BrokerAnswer:
        username = asked.text("username")
        theirs = asked.options.get("vhost") or "/"
        optional = asked.question == "user" and "vhost" not in asked.fields
        if not optional and asked.text("vhost") != theirs:
            return self.refusal
        name, permission = asked.text("name"), asked.text("permission")
        match asked.question:
            case "user":
                found = await rules.sign_in(username, asked.text("password"), asked.text("client_id"))
                verdict = found.verdict
            case "vhost":  # who has signed in may be in theirs
                verdict = Verdict.ALLOW
            case "resource" if asked.text("resource") == "exchange":
                allowed = name == RABBITMQ_EXCHANGE and permission in {"read", "write"}
                verdict = Verdict.ALLOW if allowed else Verdict.DENY
            case "resource" if asked.text("resource") == "queue":
                client_id = asked.text("client_id")
                own = {f"mqtt-subscription-{client_id}qos{qos}" for qos in (0, 1)} | {
                    f"mqtt-will-{client_id}"
                }
                own_client_id = is_ours(username) or not is_our_client_id(client_id)
                verdict = Verdict.ALLOW if client_id and own_client_id and name in own else Verdict.DENY
            case "topic" if name == RABBITMQ_EXCHANGE and permission in {"read", "write"}:
                action = Action.PUBLISH if permission == "write" else Action.SUBSCRIBE
                topic = asked.text("routing_key").replace("*", "+").replace(".", "/")
                verdict = await rules.use(username, action, topic)
            case "resource" | "topic":
                verdict = Verdict.DENY
            case _:
                raise BadForm
        if verdict is Verdict.ALLOW:
            return self._allowed
        return self.away if verdict is Verdict.AWAY else self.refusal


class VerneMq:
    """vmq_webhooks; the hook is named by a header, and all have one URL. A client's id gets its user's in
    front, so that no account can take over another's sessions."""

    refusal = _json({"result": {"error": "not_allowed"}})
    away = _json({"result": {"error": "database_away"}}, 503)
    _allowed = _json({"result": "ok"})
    _allowed_for_a_while = _allowed._replace(remembered=True)

    async def answer(self, asked: Question, rules: BrokerRules) -> BrokerAnswer:
        if asked.question != "hook":
            raise BadForm
        username = asked.text("username")
        match asked.hook:
            case "auth_on_register" | "auth_on_register_m5":
                client_id = asked.text("client_id")
                found = await rules.sign_in(username, asked.text("password"), client_id)
                if found.verdict is Verdict.ALLOW:  # which is never remembered: a token may be revoked
                    own = {"client_id": f"{username}-{client_id}", "mountpoint": asked.text("mountpoint")}
                    return self._allowed if found.superuser else _json({"result": "ok", "modifiers": own})
                return self.away if found.verdict is Verdict.AWAY else self.refusal
            case "auth_on_publish" | "auth_on_publish_m5":
                verdict = await rules.use(username, Action.PUBLISH, asked.text("topic"))
                if verdict is Verdict.ALLOW:
                    return self._allowed_for_a_while
                return self.away if verdict is Verdict.AWAY else self.refusal
            case "auth_on_subscribe" | "auth_on_subscribe_m5":
                return await self._subscribe(asked, rules, username)
        raise BadForm

    async def _subscribe(self, asked: Question, rules: BrokerRules, username: str) -> BrokerAnswer:
        """If some of the topics are refused, all are named, with a reason code in place of their QoS."""
        wanted = asked.fields.get("topics")
        if not isinstance(wanted, list) or not 0 < len(wanted) <= MAX_TOPICS:
            raise BadForm
        version_5 = asked.hook.endswith("_m5")
        answered: list[dict[str, Any]] = []
        verdicts: set[Verdict] = set()
        for each in wanted:
            if not isinstance(each, dict) or not isinstance(each.get("topic"), str):
                raise BadForm
            verdict = await rules.use(username, Action.SUBSCRIBE, each["topic"])
            if verdict is Verdict.AWAY:
                return self.away
            verdicts.add(verdict)
            refused = {"topic": each["topic"], "qos": 135 if version_5 else 128}
            answered.append(each if verdict is Verdict.ALLOW else refused)
        if Verdict.DENY not in verdicts:
            return self._allowed_for_a_while
        if Verdict.ALLOW not in verdicts:
            return self.refusal
        more = {"modifiers": {"topics": answered}} if version_5 else {"topics": answered}
        return _json({"result": "ok"} | more)


FORMS: dict[str, Form] = {
    "emqx": Emqx(),
    "mosquitto": Mosquitto(),
    "rabbitmq": RabbitMq(),
    "vernemq": VerneMq(),
}
