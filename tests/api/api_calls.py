"""A client of the API, what to make of its answers, and rows to read."""

import json
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from django.test import Client

from thingscale.accounts.models import Token, User
from thingscale.lib.clock import to_us
from thingscale.streams import writer
from thingscale.streams.actions.datapoints import store_rows
from thingscale.streams.models import Channel, Tag


class Caller:
    """Calls the API as one user; `X_NAME=...` becomes the header `X-NAME`."""

    def __init__(self, user: User | None, token: str | None = None, version: str = "v2") -> None:
        self.version = version
        self.user = user
        self.token = token or (Token.objects.current(user, Token.Kind.API).plain if user else "")
        self.http = Client()

    def __call__(self, method: str, path: str, body: Any = None, **headers: str) -> Any:
        sent = {name.replace("_", "-"): text for name, text in headers.items()}
        if self.token:
            sent.setdefault("X-APITOKEN", self.token)
        data = body if isinstance(body, bytes | str) else b"" if body is None else json.dumps(body).encode()
        return self.http.generic(method, f"/{self.version}/{path}", data, content_type="", headers=sent)

    def get(self, path: str, **headers: str) -> Any:
        return self("GET", path, **headers)

    def post(self, path: str, body: Any = None, **headers: str) -> Any:
        return self("POST", path, body, **headers)

    def put(self, path: str, body: Any = None, **headers: str) -> Any:
        return self("PUT", path, body, **headers)

    def delete(self, path: str, **headers: str) -> Any:
        return self("DELETE", path, **headers)


def document(response: Any) -> Any:
    """The JSON of an answer that may be streamed."""
    content = response.getvalue() if response.streaming else response.content
    return json.loads(content)


def refusal(response: Any) -> tuple[int, str]:
    """Status and code, after a look at the shape."""
    body = document(response)
    assert set(body) == {"error", "detail"}, body
    assert body["detail"].endswith("."), body
    return response.status_code, body["error"]


def at(text: str) -> datetime:
    """`2026-01-31 13:45:30` in UTC."""
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def store(channel: Channel, rows: Iterable[tuple[datetime, str] | tuple[datetime, str, str]]) -> None:
    """(time, JSON text of the value, tag or nothing)."""
    encoded = []
    for moment, value, *tag in rows:
        key = Tag.objects.get_or_create(channel=channel, name=tag[0])[0].id if tag else None
        encoded.append(writer.Row(channel.id, to_us(moment), None, key, value.encode(), None))
    if encoded:
        store_rows(encoded)
