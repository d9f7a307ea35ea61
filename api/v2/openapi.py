"""The OpenAPI description: of /v2 by drf-spectacular, what each call takes and answers; of the HTTP connector
in connector.py.

It stands apart from the views, which stay short. tests/api/test_api_openapi.py holds it against the API.
"""

import functools
from typing import Any

import yaml
from drf_spectacular.extensions import OpenApiAuthenticationExtension
from drf_spectacular.generators import SchemaGenerator
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import (
    OpenApiExample,
    OpenApiParameter,
    OpenApiRequest,
    OpenApiResponse,
    extend_schema,
    extend_schema_view,
)

from api.history import MAX_ROWS, ROWS
from api.v2 import (
    connector,
    contacts,
    deliveries,
    events,
    incidents,
    intakes,
    maintenance,
    openapi_examples,
    publish,
    rules,
    schemas,
    sessions,
    streams,
    views,
)
from api.v2.schemas import Schema

JSON = "application/json"
_ERRORS = {
    400: "BAD_PARAMETER names the header or field; BAD_JSON_FORMAT: the body is not the JSON expected.",
    401: "AUTH_REQUIRED: a missing or wrong token.",
    403: "A limit of the account (MAX_DEVICE_REACH, MAX_CHANNEL_REACH, QUOTA_EXCEEDED), or a name in use.",
    404: "NO_DEVICE, NO_CHANNEL, NO_EVENT or another word for what there is not.",
    408: "TOO_SLOW: the body did not come in time.",
    411: "LENGTH_REQUIRED: a body has its Content-Length.",
    413: "TOO_LARGE: send it in parts.",
    415: "UNSUPPORTED_ENCODING: the body is compressed in a way that Accept-Encoding does not name.",
    422: "IDEMPOTENCY_KEY_REUSED: the key came with another body before.",
    429: "TOO_MANY_REQUESTS: wait as long as Retry-After says.",
    503: "TRY_AGAIN or BROKER_UNAVAILABLE: a server behind the API is away.",
}
_ALWAYS = (401, 429, 503)
_OF_A_BODY = (400, 408, 411, 413, 415)
_BODY_OPTIONAL = {"device_create", "channel_create", "event_create"}
_MAX = schemas.MAX_INTEGER


class TokenScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]
    target_class = "api.auth.TokenAuthentication"
    name = ["apiToken", "bearer"]

    def get_security_requirement(self, auto_schema: Any) -> list[dict[str, list[Any]]]:
        return [{name: []} for name in self.name]  # either of them

    def get_security_definition(self, auto_schema: Any) -> list[Schema]:
        return [
            {"type": "apiKey", "in": "header", "name": "X-APITOKEN", "description": "the API token"},
            {"type": "http", "scheme": "bearer", "description": "the same API token"},
        ]


def header(name: str, schema: Schema, description: str, **options: Any) -> OpenApiParameter:
    return OpenApiParameter(name, schema, OpenApiParameter.HEADER, description=description, **options)


def example(name: str, value: Any) -> list[OpenApiExample]:
    return [OpenApiExample(name, value)]


def in_path(name: str, schema: Schema, sample: Any) -> OpenApiParameter:
    examples = [OpenApiExample("sample", sample)]
    return OpenApiParameter(name, schema, OpenApiParameter.PATH, required=True, examples=examples)


_STAMPS = [
    header("RateLimit", schemas.STRING, 'how many requests are left: `"rest";r=19;t=1`', response=True),
    header("RateLimit-Policy", schemas.STRING, '`"rest";q=20;w=1`: 20 in a second', response=True),
    header("Retry-After", {"type": "string", "pattern": "^[0-9]+$"}, "seconds", response=[429, 503]),
]


def call(  # noqa: PLR0913 (what there is to say of a call)
    summary: str,
    answer: Schema,
    *,
    sample: Any,
    takes: list[OpenApiParameter] | None = None,
    body: Schema | None = None,
    bodies: dict[str, Any] | None = None,
    status: int = 200,
    errors: tuple[int, ...] = (),
    others: dict[Any, Any] | None = None,
) -> Any:
    """`sample` is an answer, `bodies` are requests that work. Of a list, drf-spectacular makes the array."""
    answers: dict[Any, Any] = {
        (status, JSON): OpenApiResponse(answer, "Done.", example("answer", sample)),
        **(others or {}),
        **{
            (code, JSON): OpenApiResponse(schemas.ref("Error"), _ERRORS[code])
            for code in sorted({*errors, *_ALWAYS, *(() if body is None else _OF_A_BODY)})
        },
    }
    request = None
    if body is not None:
        samples = [OpenApiExample(name, value) for name, value in (bodies or {}).items()]
        request = {JSON: OpenApiRequest(body, examples=samples)}
    return extend_schema(
        summary=summary,
        parameters=[*_STAMPS, *(takes or [])],
        request=request,
        responses=answers,
    )


_DEVICE_ID = in_path("device_id", schemas.TAG | {"minLength": 1}, "sensor-1")
_NEW_DEVICE_ID = in_path("device_id", schemas.TAG | {"minLength": 1}, "sensor-2")
_NUMBER: Schema = {"type": "integer", "minimum": 0, "maximum": _MAX}
_CHANNEL = in_path("number", _NUMBER, 0)
_NEW_CHANNEL = in_path("number", _NUMBER, 7)
_EVENT = in_path("number", _NUMBER, 1)
_TAGNAME = header("X-TAGNAME", schemas.TAG | {"pattern": f"^({schemas.TAG['pattern'][1:-1]})?$"}, "one tag")

_DATE = (
    r"([0-9]{4}-((0[13578]|1[02])-(0[1-9]|[12][0-9]|3[01])|(0[469]|11)-(0[1-9]|[12][0-9]|30)"
    r"|02-(0[1-9]|1[0-9]|2[0-8])))"
)
_CLOCK = r"([01][0-9]|2[0-3]):[0-5][0-9](:[0-5][0-9])?"
_LOCAL = f"{_DATE.replace('[0-9]{4}', '[12][0-9]{3}')}[ T]{_CLOCK}(Z|[+-]0[0-9]:?[0-5][0-9])?"

_READING = [
    header(
        "X-ENDTIME",
        {"type": "string", "pattern": f"^([lL][aA][sS][tT]|{_LOCAL})$"},
        "end of the range in local time, or `last`; any option may be a query parameter: `?endtime=`",
        examples=[OpenApiExample("newest", "last"), OpenApiExample("range", "2099-12-31 23:59")],
    ),
    header("X-STARTTIME", {"type": "string", "pattern": f"^({_LOCAL})?$"}, "start of the range"),
    _TAGNAME,
    header("X-PAGELIMIT", {"type": "integer", "minimum": 1, "maximum": 10_000}, "rows with `last`"),
    header("X-PAGESORT", schemas.ref("SortOrder"), "by time"),
    header("X-AGGREGATE", schemas.ref("AggregateFunction"), "the last three only with X-INTERVAL"),
    header("X-INTERVAL", schemas.ref("Interval"), "aggregates in buckets of the calendar"),
    header("X-DEVICEID", schemas.STRING, "only datapoints of that device"),
    header("X-WITHDEVICE", schemas.ref("Switch"), "true: `device_id` in each row"),
    header("X-FORMAT", schemas.ref("Format"), "goes before Accept: `?format=csv`"),
    header("X-SPREADSHEET", schemas.ref("Switch"), "true: CSV with formulas marked, and a BOM"),
    header("X-SEP", schemas.ref("Separator"), "what parts the cells of CSV"),
    header("If-None-Match", schemas.STRING, "an ETag of the newest datapoints: 304 if it is still theirs"),
    header("ETag", schemas.STRING, "with `last` and up to 1000 rows", response=[200, 304]),
]
_TEXTS = {
    (200, "text/csv"): OpenApiTypes.STR,
    (200, "application/x-ndjson"): OpenApiTypes.STR,
    304: OpenApiResponse(None, "Nothing new."),
}

extend_schema_view(
    list=call("All devices", schemas.ref("Device"), sample=openapi_examples.DEVICE),
    retrieve=call(
        "One device, in an array",
        schemas.array(schemas.ref("Device")),
        sample=[openapi_examples.DEVICE],
        takes=[_DEVICE_ID],
        errors=(404,),
    ),
    create=call(
        "Make a device: enabled, unmapped",
        schemas.ref("Done"),
        sample=openapi_examples.DONE,
        takes=[_NEW_DEVICE_ID],
        body=schemas.ref("DeviceFields"),
        bodies={"mapped": {"description": "roof", "mapped_ch": 0}},
        status=201,
        errors=(403, 404),
    ),
    update=call(
        "Change a device",
        schemas.ref("Done"),
        sample=openapi_examples.DONE,
        takes=[_DEVICE_ID],
        body=schemas.ref("DeviceFields"),
        bodies={"map": {"enabled": True, "mapped_ch": 0}, "unmap": {"mapped_ch": None}},
        errors=(404,),
    ),
    destroy=call(
        "Delete a device; its datapoints stay",
        schemas.ref("Done"),
        sample=openapi_examples.DONE,
        takes=[_DEVICE_ID],
        errors=(400, 404),
    ),
)(views.DeviceViewSet)

_WITHTAG = header("X-WITHTAG", schemas.ref("Switch"), "true: a row for each tag, with `tag`")
extend_schema_view(
    list=call(
        "All channels",
        schemas.ref("Channel"),
        sample=openapi_examples.CHANNEL,
        takes=[_WITHTAG],
        errors=(400,),
    ),
    retrieve=call(
        "One channel, in an array",
        schemas.array(schemas.ref("Channel")),
        sample=[openapi_examples.CHANNEL],
        takes=[_CHANNEL, _WITHTAG],
        errors=(400, 404),
    ),
    create=call(
        "Make a channel, or with X-TAGNAME a tag of one",
        schemas.ref("Done"),
        sample=openapi_examples.DONE,
        takes=[_NEW_CHANNEL, _TAGNAME],
        body=schemas.ref("ChannelFields"),
        bodies={"named": {"channel_name": "roof", "retention_days": 30}},
        status=201,
        errors=(403, 404),
    ),
    update=call(
        "Change a channel, or with X-TAGNAME the name of a tag",
        schemas.ref("Done"),
        sample=openapi_examples.DONE,
        takes=[_CHANNEL, _TAGNAME],
        body={"anyOf": [schemas.ref("ChannelFields"), schemas.ref("TagFields")]},
        bodies={
            "labels": {"streams": [{"key": "temp", "label": "Temperature", "unit": "°C"}]},
            "older names": {"value1_name": "Temperature", "value1_unit": "°C"},
        },
        errors=(404,),
    ),
    destroy=call(
        "Delete a channel, or with X-TAGNAME a tag, with its datapoints",
        schemas.ref("Done"),
        sample=openapi_examples.DONE,
        takes=[_CHANNEL, _TAGNAME],
        errors=(400, 404),
    ),
)(views.ChannelViewSet)

extend_schema_view(
    retrieve=call(
        "Read datapoints",
        schemas.ref("Stream"),
        sample=openapi_examples.STREAM,
        takes=[_CHANNEL, *_READING],
        errors=(400, 404),
        others=_TEXTS,
    ),
    create=call(
        "Store datapoints: one, or an array of up to 10,000, all or nothing",
        schemas.ref("Stored"),
        sample={"stored": 1},
        takes=[
            _CHANNEL,
            header(
                "Idempotency-Key",
                {"type": "string", "maxLength": 255},
                "what is sent again under the same key is stored once",
            ),
        ],
        body=schemas.ref("Points"),
        bodies={
            "one": {"value": 12.5, "tag": "roof"},
            "at a time": {"value": {"temp": 21.5}, "at": "2026-01-31 13:45:30"},
            "several": [{"value": 1}, {"value": "text"}, {"value": True, "tag": "sensor/door/open"}],
        },
        status=201,
        errors=(403, 404, 422),
    ),
)(streams.StreamViewSet)

extend_schema_view(
    list=call("All events", schemas.ref("Event"), sample=openapi_examples.EVENT),
    retrieve=call(
        "One event, in an array",
        schemas.array(schemas.ref("Event")),
        sample=[openapi_examples.EVENT],
        takes=[_EVENT],
        errors=(404,),
    ),
    create=call(
        "Make an event",
        schemas.ref("EventCreated"),
        sample={"event_id": 1},
        body=schemas.ref("EventFields"),
        bodies={"threshold": openapi_examples.EVENT_BODY, "silence": openapi_examples.SILENCE},
        status=201,
    ),
    update=call(
        "Change an event",
        schemas.ref("Done"),
        sample=openapi_examples.DONE,
        takes=[_EVENT],
        body=schemas.ref("EventFields"),
        bodies={"off": {"enabled": False}, "ours": {"repeat": "crossing", "for": 60, "severity": "critical"}},
        errors=(404,),
    ),
    destroy=call(
        "Delete an event",
        schemas.ref("Done"),
        sample=openapi_examples.DONE,
        takes=[_EVENT],
        errors=(400, 404),
    ),
)(events.EventViewSet)
extend_schema_view(
    create=call(
        "Send a test to each receiver of an event",
        schemas.ref("Tested"),
        sample=openapi_examples.TESTED,
        takes=[_EVENT],
        status=201,
        errors=(400, 404),
    ),
)(events.EventTestViewSet)
extend_schema_view(
    retrieve=call(
        "The secret that signs the webhooks of an event (X-Signature)",
        schemas.ref("Secret"),
        sample={"secret": "kXn0nY2cU0V1m5sW2gqjH8b2j5m0w5m4T5G0m0bqX1A"},
        takes=[_EVENT],
        errors=(404,),
    ),
    create=call(
        "Make a new secret: the old one signs nothing from now on",
        schemas.ref("Secret"),
        sample={"secret": "kXn0nY2cU0V1m5sW2gqjH8b2j5m0w5m4T5G0m0bqX1A"},
        takes=[_EVENT],
        status=201,
        errors=(404,),
    ),
)(events.EventSecretViewSet)

_CONTACT = in_path("number", _NUMBER, 1)
extend_schema_view(
    list=call("All contacts", schemas.ref("Contact"), sample=openapi_examples.CONTACT),
    retrieve=call(
        "One contact, in an array",
        schemas.array(schemas.ref("Contact")),
        sample=[openapi_examples.CONTACT],
        takes=[_CONTACT],
        errors=(404,),
    ),
    create=call(
        "Make a contact: the address of Slack, Telegram, ntfy or another service",
        schemas.ref("ContactCreated"),
        sample={"contact_id": 2},
        body=schemas.ref("ContactFields"),
        bodies={"ntfy": openapi_examples.CONTACT_BODY},
        status=201,
    ),
    update=call(
        "Change a contact",
        schemas.ref("Done"),
        sample=openapi_examples.DONE,
        takes=[_CONTACT],
        body=schemas.ref("ContactFields"),
        bodies={"off": {"enabled": False}, "address": {"url": "ntfys://night-shift-8a40"}},
        errors=(404,),
    ),
    destroy=call(
        "Delete a contact",
        schemas.ref("Done"),
        sample=openapi_examples.DONE,
        takes=[_CONTACT],
        errors=(400, 404),
    ),
)(contacts.ContactViewSet)
extend_schema_view(
    create=call(
        "Send a test to a contact",
        schemas.ref("Tested"),
        sample=openapi_examples.TESTED,
        takes=[_CONTACT],
        status=201,
        errors=(400, 404),
    ),
)(contacts.ContactTestViewSet)

_INCIDENT = in_path("number", _NUMBER, 1)
_MAINTENANCE = in_path("number", _NUMBER, 1)
_HISTORY = [
    header("X-STARTTIME", {"type": "string", "pattern": f"^({_LOCAL})?$"}, "only what began then or later"),
    header("X-ENDTIME", {"type": "string", "pattern": f"^({_LOCAL})?$"}, "only what began until then"),
    header("X-EVENTID", _NUMBER, "only those of that event"),
    header(
        "X-PAGELIMIT",
        {"type": "integer", "minimum": 1, "maximum": MAX_ROWS},
        f"rows; default: {ROWS}",
    ),
]
extend_schema_view(
    list=call(
        "Incidents, the newest first",
        schemas.ref("Incident"),
        sample=openapi_examples.INCIDENT,
        takes=[
            *_HISTORY,
            header("X-DEVICEID", schemas.STRING, "only those of that device"),
            header("X-STATE", schemas.ref("IncidentStateOption"), "only those in that state"),
            header("X-BEFORE", _NUMBER, "the next page: the last incident_id of the one before"),
        ],
        errors=(400, 404),
    ),
    retrieve=call(
        "One incident, in an array",
        schemas.array(schemas.ref("Incident")),
        sample=[openapi_examples.INCIDENT],
        takes=[_INCIDENT],
        errors=(404,),
    ),
    update=call(
        "Acknowledge an incident",
        schemas.ref("Done"),
        sample=openapi_examples.DONE,
        takes=[_INCIDENT],
        body=schemas.ref("IncidentFields"),
        bodies={"acknowledge": {"acknowledged": True}},
        errors=(404,),
    ),
)(incidents.IncidentViewSet)

extend_schema_view(
    list=call(
        "What was sent to whom, the newest first",
        schemas.ref("Delivery"),
        sample=openapi_examples.DELIVERY,
        takes=[
            *_HISTORY,
            header("X-STATE", schemas.ref("DeliveryStateOption"), "only those in that state"),
            header("X-BEFORE", schemas.STRING, "the next page: the last delivery_id of it"),
        ],
        errors=(400, 404),
    )
)(deliveries.DeliveryViewSet)

extend_schema_view(
    list=call(
        "Maintenance windows that are not over",
        schemas.ref("Maintenance"),
        sample=openapi_examples.MAINTENANCE,
    ),
    create=call(
        "Make a maintenance window, in which nobody is notified of its devices",
        schemas.ref("MaintenanceCreated"),
        sample={"maintenance_id": 1},
        body=schemas.ref("MaintenanceFields"),
        bodies={
            "window": openapi_examples.MAINTENANCE_BODY,
            "all devices": {"starts_at": "2099-12-30", "ends_at": "2099-12-31"},
        },
        status=201,
    ),
    destroy=call(
        "End a maintenance window now",
        schemas.ref("Done"),
        sample=openapi_examples.DONE,
        takes=[_MAINTENANCE],
        errors=(400, 404),
    ),
)(maintenance.MaintenanceViewSet)

_INTAKE = in_path("number", _NUMBER, 1)
extend_schema_view(
    list=call("All intakes", schemas.ref("Intake"), sample=openapi_examples.INTAKE),
    retrieve=call(
        "One intake, in an array",
        schemas.array(schemas.ref("Intake")),
        sample=[openapi_examples.INTAKE],
        takes=[_INTAKE],
        errors=(404,),
    ),
    create=call(
        "Make an intake, a door for a program whose topics or payloads can't be changed",
        schemas.ref("IntakeCreated"),
        sample={"intake_id": 2, "key": "mfrggzdfmztwq2lknnwg23tpoa"},
        body=schemas.ref("IntakeFields"),
        bodies=openapi_examples.INTAKE_BODIES,
        status=201,
    ),
    update=call(
        "Change an intake",
        schemas.ref("Done"),
        sample=openapi_examples.DONE,
        takes=[_INTAKE],
        body=schemas.ref("IntakeFields"),
        bodies={"off": {"enabled": False}, "name": {"name": "Roof"}},
        errors=(404,),
    ),
    destroy=call(
        "Delete an intake",
        schemas.ref("Done"),
        sample=openapi_examples.DONE,
        takes=[_INTAKE],
        errors=(400, 404),
    ),
)(intakes.IntakeViewSet)
extend_schema_view(
    create=call(
        "A new key of an intake; the old one ends now",
        schemas.ref("Key"),
        sample={"key": "mfrggzdfmztwq2lknnwg23tpoa"},
        takes=[_INTAKE],
        status=201,
        errors=(400, 404),
    ),
    destroy=call(
        "Take the key away: nothing comes in by HTTP",
        schemas.ref("Done"),
        sample=openapi_examples.DONE,
        takes=[_INTAKE],
        errors=(400, 404),
    ),
)(intakes.IntakeKeyViewSet)
extend_schema_view(
    create=call(
        "What would become of a payload; nothing is stored",
        schemas.ref("IntakeTried"),
        sample=openapi_examples.INTAKE_TRIED,
        body=schemas.ref("IntakeTry"),
        bodies=openapi_examples.INTAKE_TRY_BODIES,
        errors=(404,),
    ),
)(intakes.IntakeTryViewSet)
extend_schema_view(
    list=call(
        "What came in last, the newest first, and what became of it",
        schemas.ref("IntakeMessage"),
        sample=openapi_examples.INTAKE_MESSAGE,
        takes=[_INTAKE],
        errors=(404,),
    ),
)(intakes.IntakeMessageViewSet)
_RULE = in_path("number", _NUMBER, 1)
extend_schema_view(
    list=call(
        "Activation rules, in the order in which they are tried",
        schemas.ref("Rule"),
        sample=openapi_examples.RULE,
    ),
    retrieve=call(
        "One activation rule, in an array",
        schemas.array(schemas.ref("Rule")),
        sample=[openapi_examples.RULE],
        takes=[_RULE],
        errors=(404,),
    ),
    create=call(
        "Make an activation rule, after the others or at a position",
        schemas.ref("RuleCreated"),
        sample={"rule_id": 2},
        body=schemas.ref("RuleFields"),
        bodies={
            "each its own channel": {"pattern": "roof-*", "own_channel": True},
            "one channel": {"pattern": "*", "mapped_ch": 0, "position": 0},
        },
        status=201,
        errors=(404,),
    ),
    update=call(
        "Change an activation rule",
        schemas.ref("Done"),
        sample=openapi_examples.DONE,
        takes=[_RULE],
        body=schemas.ref("RuleFields"),
        bodies={"own": {"own_channel": True}, "first": {"position": 0}},
        errors=(404,),
    ),
    destroy=call(
        "Delete an activation rule; devices stay as they are",
        schemas.ref("Done"),
        sample=openapi_examples.DONE,
        takes=[_RULE],
        errors=(400, 404),
    ),
)(rules.RuleViewSet)

extend_schema_view(
    list=call("The account, in an array", schemas.ref("User"), sample=openapi_examples.USER),
    update=call(
        "Change the account; tokens and user_id are read-only",
        schemas.ref("Done"),
        sample=openapi_examples.DONE,
        body=schemas.ref("UserFields"),
        bodies={"zone": {"locale": "Europe/Berlin", "organization": "Example"}},
    ),
)(views.UserViewSet)

extend_schema_view(
    create=call(
        "Publish to a device, at TOKEN/DEVICE/subscribe or another topic",
        schemas.ref("Done"),
        sample=openapi_examples.DONE,
        takes=[_DEVICE_ID],
        body=schemas.ref("Publish"),
        bodies={
            "text": {"payload": "hello", "qos": 1},
            "topic": {"payload": "on", "qos": 2, "retain": True, "topic": "sensor-1/errors"},
        },
        errors=(404,),
    )
)(publish.PublishViewSet)
extend_schema_view(list=call("Connected clients", schemas.ref("Session"), sample=openapi_examples.SESSION))(
    sessions.SessionViewSet
)


@functools.cache
def document() -> dict[str, Any]:
    generator = SchemaGenerator(urlconf="api.v2.urls")  # type: ignore[no-untyped-call]
    made: dict[str, Any] = generator.get_schema(request=None, public=True)  # type: ignore[no-untyped-call]
    made["paths"] = {f"/v2{path.removesuffix('/')}": item for path, item in made["paths"].items()}
    for operation in (operation for item in made["paths"].values() for operation in item.values()):
        operation.pop("description", None)  # the view's docstring: it is for who reads the view
        if "requestBody" in operation:
            operation["requestBody"]["required"] = operation["operationId"] not in _BODY_OPTIONAL
    made["paths"] |= connector.PATHS
    made["components"]["schemas"] = schemas.COMPONENTS
    made["components"]["securitySchemes"] |= connector.SECURITY
    return made


def as_yaml() -> str:
    text: str = yaml.safe_dump(_plain(document()), allow_unicode=True, sort_keys=False, width=110)
    return text


def _plain(node: Any) -> Any:
    """Without drf-spectacular's own kinds of dict and text, and without anchors for what is there twice."""
    if isinstance(node, dict):
        return {str(key): _plain(value) for key, value in node.items()}
    if isinstance(node, list | tuple):
        return [_plain(item) for item in node]
    return str(node) if isinstance(node, str) else node
