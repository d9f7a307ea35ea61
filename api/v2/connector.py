"""The HTTP connector in the OpenAPI description: the calls of devices, with the device token.

ingest/connectors/http.py has its rules; tests/api/test_api_openapi.py holds the paths against it.
"""

from typing import Any

from api.v2 import schemas
from api.v2.schemas import Schema
from thingscale.lib.reasons import ANSWERS, Reason

SECURITY: dict[str, Schema] = {
    "deviceToken": {
        "type": "apiKey",
        "in": "header",
        "name": "X-DEVICETOKEN",
        "description": "the device token of the account, the same for all its devices",
    }
}
_OTHERS = {  # than the reasons
    200: "Stored.",
    408: "REQUEST_TIMEOUT: the body did not come in time.",
    411: "LENGTH_REQUIRED: send Content-Length.",
    415: "UNSUPPORTED_ENCODING: the body is compressed in a way that Accept-Encoding does not name.",
    503: "TRY_AGAIN: nothing was stored; wait as long as Retry-After says.",
}
_CODES = {200: "OK", 201: Reason.NEW_DEVICE_FOUND.value}
_HELD = {
    "X-Held": {
        "schema": schemas.STRING,
        "description": "1: it is kept for the device, and need not come again",
    }
}
_WAIT = {"Retry-After": {"schema": {"type": "string", "pattern": "^[0-9]+$"}, "description": "seconds"}}
_HEADERS: dict[int, Schema] = {201: _HELD, 403: _HELD, 429: _WAIT, 503: _WAIT}
_DEVICE_ID: Schema = {
    "in": "header",
    "name": "X-DEVICEID",
    "schema": {"type": "string", "pattern": f"^{schemas.NAME}$"},
    "required": True,
    "description": "chosen by the device; its first message makes it known",
}
_TAGNAME: Schema = {"in": "header", "name": "X-TAGNAME", "schema": schemas.TAG}
_IDEMPOTENCY_KEY: Schema = {
    "in": "header",
    "name": "Idempotency-Key",
    "schema": {"type": "string", "maxLength": 255},
    "description": "what is sent again under the same key is stored once",
}


def _described() -> dict[int, str]:
    """By status: the others, and each reason with its sentence, as people get it in the console."""
    found = dict(_OTHERS)
    for reason, said in ANSWERS.items():
        if not said.code:  # one with another code is answered as that one
            text = f"{reason.value}{', held (see X-Held)' if said.held else ''}: {said.sentence}"
            found[said.http] = f"{found[said.http]} {text}" if said.http in found else text
    return dict(sorted(found.items()))


def _answer(status: int, description: str) -> Schema:
    """Text comes first: it is what a client gets that does not ask for JSON."""
    text = schemas.STRING | ({"const": _CODES[status]} if status in _CODES else {})
    as_json = schemas.ref("DeviceAnswer" if status < 300 else "DeviceError")
    return {
        "description": description,
        **({"headers": _HEADERS[status]} if status in _HEADERS else {}),
        "content": {"text/plain": {"schema": text}, "application/json": {"schema": as_json}},
    }


def _call(  # noqa: PLR0913 (what there is to say of a call)
    name: str,
    summary: str,
    *,
    content_type: str,
    body: str,
    examples: dict[str, Any],
    takes: tuple[Schema, ...] = (),
    deprecated: bool = False,
) -> Schema:
    content = {
        "schema": schemas.ref(body),
        "examples": {title: {"value": value} for title, value in examples.items()},
    }
    operation = {
        "operationId": name,
        "summary": summary,
        "parameters": [_DEVICE_ID, *takes, _IDEMPOTENCY_KEY],
        "tags": ["connector"],
        "requestBody": {"content": {content_type: content}, "required": True},
        **({"deprecated": True} if deprecated else {}),
        "security": [{scheme: []} for scheme in SECURITY],
        "responses": {str(status): _answer(status, text) for status, text in _described().items()},
    }
    return {"post": operation}


_FORM: dict[str, Any] = {
    "content_type": "application/x-www-form-urlencoded",
    "body": "DeviceForm",
    "examples": {"One": {"v": "21.5"}, "Two": {"v": "21.5", "v2": "48"}},
}
PATHS: dict[str, Schema] = {
    "/post_v2/": _call(
        "connector_post_v2",
        "From a device: a value, or an array of datapoints, all or nothing",
        content_type="application/json",
        body="DeviceMessage",
        examples={
            "Object": {"temp": 21.5},
            "Number": 12.5,
            "Several": [{"value": 1}, {"value": 2, "tag": "roof", "at": "2026-01-31 13:45:30"}],
        },
        takes=(_TAGNAME,),
    ),
    "/post_v1/": _call("connector_post_v1", "From an older device: up to four values", **_FORM),
    "/post/": _call("connector_post", "The oldest name of /post_v1/", deprecated=True, **_FORM),
}
