"""JSON schemas of what /v2 takes and answers, for openapi.py. They say what the API really accepts: it is
liberal with numbers as text, for the sake of older clients."""

from typing import Any

from django.db.models import TextChoices

from thingscale.devices.fields import DESCRIPTION, FACTS
from thingscale.events.actions import MAX_CONTACT_POINTS
from thingscale.events.models import Condition, Delivery, Event, Incident
from thingscale.events.overview import MUTED
from thingscale.events.validation import MAX_WINDOW, YEAR
from thingscale.intakes.models import Intake, IntakeMessage
from thingscale.intakes.validation import MAX_TOPICS
from thingscale.lib.names import MAX_TOPIC
from thingscale.streams.time_buckets import FUNCTIONS, INTERVALS

Schema = dict[str, Any]

MAX_INTEGER = 2**31 - 1
_TIME = "2015-02-06T08:26:29+0900"
NAME = r"[^/+#\u0000-\u001f\u007f-\u009f]{1,64}"
_YES = [True, "true", "True", "TRUE", "t", "T", "yes", "Yes", "YES", "y", "Y", "on", "On", "ON", "1", 1]
_NO = [False, "false", "False", "FALSE", "f", "F", "no", "No", "NO", "n", "N", "off", "Off", "OFF", "0", 0]


def text(longest: int) -> Schema:
    return {"type": ["string", "number"], "maxLength": longest, "pattern": "^[^\\u0000]*$"}


def whole(low: int, high: int, *, null: bool = False) -> Schema:
    kinds: list[Schema] = [{"type": "integer", "minimum": low, "maximum": high}]
    kinds.append({"type": "string", "pattern": f"^[{low}-9][0-9]{{0,3}}$"})
    return {"anyOf": [*kinds, {"type": "null"}] if null else kinds}


def fields(required: tuple[str, ...] = (), /, **properties: Schema) -> Schema:
    return {
        "type": "object",
        "properties": properties,
        **({"required": list(required)} if required else {}),
    }


def choices(of: type[TextChoices], **more: str) -> Schema:
    return enumeration("string", **{each.name: each.value for each in of}, **more)


def exactly(**properties: Schema) -> Schema:
    return fields(tuple(properties), **properties) | {"additionalProperties": False}


def array(items: Schema) -> Schema:
    return {"type": "array", "items": items}


def ref(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


def enumeration(kind: str, **members: str | int) -> Schema:
    """To be a component, so that it has a name; generators of clients name the members as we do."""
    return {"type": kind, "enum": list(members.values()), "x-enum-varnames": list(members)}


def option(**members: str) -> Schema:
    """Of a header that reads."""
    return enumeration("string", **members, EMPTY="") | {"description": "empty: as if it was not sent"}


STRING: Schema = {"type": "string"}
BOOLEAN: Schema = {"type": "boolean"}
INTEGER: Schema = {"type": "integer"}
FLAG: Schema = {
    "anyOf": [  # apart by type: generators of clients can't make one enumeration of several types
        BOOLEAN,
        {
            "type": "string",
            "pattern": f"^({'|'.join(each for each in (*_YES, *_NO) if isinstance(each, str))})$",
        },
        INTEGER | {"minimum": 0, "maximum": 1},
    ]
}
COUNT: Schema = {"type": "integer", "minimum": 0}
TIME: Schema = {"type": "string", "pattern": r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[+-]\d{4}$", "example": _TIME}
TIME_OR_NULL: Schema = TIME | {"type": ["string", "null"]}
NUMBER_OR_NULL: Schema = {"type": ["integer", "null"], "minimum": 0, "maximum": MAX_INTEGER}
_LEVEL = NAME.removesuffix("{1,64}")
TAG: Schema = {"type": "string", "maxLength": 128, "pattern": f"^{_LEVEL}+(/{_LEVEL}+)*$"}
TAG_OR_NULL: Schema = {"type": ["string", "null"]}
STRING_OR_NULL = TAG_OR_NULL

ERROR = exactly(error=STRING, detail=STRING)
OK = exactly(result={"type": "string", "const": "OK"})

DEVICE_FIELDS = fields(
    description=text(DESCRIPTION.max_length),
    enabled=FLAG,
    enable=FLAG | {"description": "the older spelling of `enabled`"},
    mapped_ch=whole(0, MAX_INTEGER, null=True) | {"description": "null unmaps"},
    **{fact.name: text(fact.max_length) for fact in FACTS},
)
DEVICE = fields(
    ("device_id", "description", "enabled", "enable", "mapped_ch", "activate_at"),
    device_id=STRING,
    description=STRING,
    enabled=BOOLEAN,
    enable=ref("TrueFalse"),
    mapped_ch=NUMBER_OR_NULL,
    **{fact.name: STRING for fact in FACTS},
    activate_at={"type": ["string", "null"], "example": "2019-09-06T19:01:38+09:00"},
    state={
        "type": "object",
        "additionalProperties": True,
        "description": "what the device published last, with `last_update`",
    },
)

LABEL = exactly(key=STRING, label=STRING, unit=STRING)
LABEL_FIELDS = fields(("key",), key=text(200) | {"minLength": 1}, label=text(200), unit=text(200))
_OLDER = {f"value{n}_{part}": text(200) for n in range(1, 5) for part in ("name", "unit")}
CHANNEL_FIELDS = fields(
    channel_name=text(200),
    streams=array(ref("LabelFields")) | {"maxItems": 1000},
    retention_days=whole(1, 36_500, null=True),
    **_OLDER,
)
TAG_FIELDS = fields(("tag",), tag=TAG)
CHANNEL = fields(
    ("channel", "channel_name", "last_update", "streams", "retention_days"),
    channel=COUNT,
    channel_name=STRING,
    tag=TAG_OR_NULL,
    last_update=TIME_OR_NULL,
    streams=array(ref("Label")),
    retention_days=NUMBER_OR_NULL,
)

DATAPOINT = exactly(_id=STRING | {"pattern": "^[0-9a-f]{24}$"}, tag=TAG_OR_NULL, value=ref("Value"), at=TIME)
RESULT = exactly(_id={"type": "null"}, value=ref("Value"), at=TIME_OR_NULL)
VALUE: Schema = {"anyOf": [{"type": "number"}, STRING, BOOLEAN, ref("ValueObject")]}
STREAM = fields(
    ("channel", "channel_name", "last_update"),
    channel=COUNT,
    channel_name=STRING,
    last_update=TIME_OR_NULL,
    stream=array(ref("Datapoint")),
    aggr_type=STRING,
    interval=STRING,
    result=array(ref("Result")),
)
POINT = fields(
    ("value",),
    value=ref("Value"),
    tag={"anyOf": [TAG, {"type": "null"}]},
    at={"type": ["string", "null"], "description": "default: now; local time, or ISO 8601 with an offset"},
)
POINTS: Schema = {"anyOf": [ref("Point"), array(ref("Point")) | {"maxItems": 10_000}]}


def _span(what: str) -> Schema:
    return whole(0, YEAR) | {"description": f"seconds {what}"}


EVENT_FIELDS = fields(
    mapped_ch=whole(0, MAX_INTEGER, null=True),
    description=text(1000),
    notify_type=ref("NotifyType"),
    post_url=text(2000),
    enabled=FLAG,
    source=text(1000) | {"description": "a path into the value, steps parted by `:`"},
    operator=ref("Operator"),
    threshold=text(1000),
    repeat=ref("Repeat"),
    min_interval=_span("between two notifications"),
    kind=ref("EventKind"),
    devices=text(64) | {"description": "only devices whose id matches: * and ?"},
    **{"for": _span("that the condition must hold")},
    clear=text(1000) | {"description": "the condition ends only past this second threshold"},
    window=whole(0, MAX_WINDOW) | {"description": "seconds, of a rate or a trend"},
    period=_span("between two datapoints of a device, of silence; ahead, of a trend"),
    grace=_span("that it may be late"),
    no_data_after=_span("without a datapoint; 0: never"),
    severity=ref("Severity"),
    quiet_hours=STRING
    | {"pattern": "^((0[0-9]|1[0-9]|2[0-3]):[0-5][0-9]-(0[0-9]|1[0-9]|2[0-3]):[0-5][0-9])?$"},
    muted_until={
        "type": ["string", "number", "null"],
        "description": "local time, or ISO 8601 with an offset",
    },
    channels=array(INTEGER | {"minimum": 1, "maximum": MAX_INTEGER})
    | {"maxItems": MAX_CONTACT_POINTS, "description": "ids of contacts"},
)
EVENT = exactly(
    event_id=COUNT,
    mapped_ch=NUMBER_OR_NULL,
    description=STRING,
    notify_type=ref("NotifyType"),
    post_url=STRING,
    enabled=BOOLEAN,
    source=STRING,
    operator=ref("Operator"),
    threshold=STRING,
    repeat=ref("Repeat"),
    min_interval=COUNT,
    kind=ref("EventKind"),
    devices=STRING,
    **{"for": COUNT},
    clear=STRING,
    window=COUNT,
    period=COUNT,
    grace=COUNT,
    no_data_after=COUNT,
    severity=ref("Severity"),
    quiet_hours=STRING,
    muted_until=TIME_OR_NULL,
    channels=array(COUNT),
    state=ref("EventState")
    | {
        "description": "the worst of its devices and tags; `muted`: it fires, and nobody is told of it"
        " because of a mute, quiet hours or maintenance"
    },
)
INCIDENT = exactly(
    incident_id=COUNT,
    event_id=COUNT,
    state=ref("IncidentState"),
    title=STRING,
    severity=ref("Severity"),
    mapped_ch=NUMBER_OR_NULL,
    device_id=STRING_OR_NULL,
    tag=STRING_OR_NULL,
    source=STRING,
    threshold=STRING,
    current={"anyOf": [ref("Value"), {"type": "null"}]},
    started_at=TIME,
    ended_at=TIME_OR_NULL,
    over={"anyOf": [ref("Over"), {"type": "null"}]},
    acknowledged=BOOLEAN,
    acknowledged_at=TIME_OR_NULL,
    acknowledged_by=STRING_OR_NULL,
)
DELIVERY = exactly(
    delivery_id=STRING,
    event_id=NUMBER_OR_NULL,
    incident_id=NUMBER_OR_NULL,
    contact_id=NUMBER_OR_NULL,
    transport=ref("Transport"),
    about=ref("About"),
    state=ref("DeliveryState"),
    receiver=STRING,
    created_at=TIME,
    next_try_at=TIME_OR_NULL,
    done_at=TIME_OR_NULL,
    tries=COUNT,
    answer=STRING,
)
CONTACT_FIELDS = fields(
    name=STRING | {"maxLength": 100},
    url=STRING | {"maxLength": 2000, "description": "the address of a service, as Apprise writes it"},
    enabled=FLAG,
)
CONTACT = exactly(contact_id=COUNT, name=STRING, address=STRING, enabled=BOOLEAN)
_MOMENT: Schema = {"type": ["string", "number"], "description": "local time, or ISO 8601 with an offset"}
MAINTENANCE_FIELDS = fields(
    ("ends_at",),
    devices=text(64) | {"description": "a pattern of device ids: * and ?; without it, all of them"},
    starts_at=_MOMENT | {"description": "default: now"},
    ends_at=_MOMENT,
    note=text(200),
)
MAINTENANCE = exactly(maintenance_id=COUNT, devices=STRING, starts_at=TIME, ends_at=TIME, note=STRING)

_OBJECT_OR_NULL: Schema = {"anyOf": [ref("ValueObject"), {"type": "null"}]}
INTAKE_FIELDS = fields(
    name=STRING | {"minLength": 1, "maxLength": 100},
    format=ref("IntakeFormat"),
    preset=STRING | {"maxLength": 40, "description": "the program that sends"},
    mapping=_OBJECT_OR_NULL | {"description": "of the format mapped; null: that of the preset"},
    options=ref("ValueObject"),
    topic=STRING | {"maxLength": MAX_TOPIC, "description": "the first of topics; alone: the only one"},
    topics=array(STRING | {"maxLength": MAX_TOPIC})
    | {"maxItems": MAX_TOPICS, "description": "filters of MQTT topics without a token"},
    enabled=FLAG,
    rate={"type": ["integer", "null"], "minimum": 1, "maximum": 1_000_000},
)
INTAKE = exactly(
    intake_id=COUNT,
    name=STRING,
    format=ref("IntakeFormat"),
    preset=STRING,
    mapping=_OBJECT_OR_NULL,
    options=ref("ValueObject"),
    topic=STRING,
    topics=array(STRING),
    enabled=BOOLEAN,
    key_hint=STRING | {"description": "the last characters of its key; empty: it has none"},
    rate=NUMBER_OR_NULL,
    created_at=TIME,
    changed_at=TIME,
)
INTAKE_TRY = fields(
    intake_id=NUMBER_OR_NULL | {"type": "integer", "description": "without it, an intake that there is not"},
    format=ref("IntakeFormat"),
    preset=STRING | {"maxLength": 40},
    mapping=_OBJECT_OR_NULL,
    options=ref("ValueObject"),
    topic=STRING | {"maxLength": MAX_TOPIC, "description": "of the message"},
    headers={"type": "object", "additionalProperties": STRING},
    body=STRING | {"maxLength": 256 * 1024},
    body_base64=STRING | {"description": "in place of body, of what is no text"},
)
READING = exactly(device_id=STRING, tag=STRING_OR_NULL, value=ref("Value"), at=TIME_OR_NULL)
INTAKE_MESSAGE = exactly(
    received_at=TIME,
    source=STRING,
    headers=ref("ValueObject"),
    body=STRING | {"description": "its first 4 KiB, as text or in hexadecimal"},
    size=COUNT,
    outcome=ref("IntakeOutcome"),
    reason=STRING,
    detail=STRING,
    count=COUNT,
    left_out=COUNT | {"description": "of what had no number: NaN and the like"},
    readings=array(ref("Reading")) | {"description": "the first 20"},
)
RULE_FIELDS = fields(
    pattern=STRING | {"maxLength": 64, "description": "of device ids: * and ?"},
    mapped_ch=whole(0, MAX_INTEGER, null=True) | {"description": "one channel for all"},
    own_channel=FLAG | {"description": "each device its own, which is made for it and called like it"},
    position=COUNT | {"maximum": MAX_INTEGER, "description": "the first rule that matches decides"},
)
RULE = exactly(rule_id=COUNT, pattern=STRING, mapped_ch=NUMBER_OR_NULL, own_channel=BOOLEAN, position=COUNT)

_EMAIL: Schema = {
    "type": "string",
    "maxLength": 254,
    "pattern": r"^\s*([A-Za-z0-9_+-]+(\.[A-Za-z0-9_+-]+)*@([A-Za-z0-9]{1,63}\.){1,8}[A-Za-z]{2,10})?\s*$",
}
USER_FIELDS = fields(
    email1=_EMAIL,
    email2=_EMAIL,
    organization=text(200),
    locale={"type": "string", "description": "an IANA time zone"},
    user_alias=text(200),
)
USER = exactly(
    user_id=STRING | {"pattern": r"^U\d{6,}$"},
    api_token=STRING,
    device_token=STRING,
    email1=STRING,
    email2=STRING,
    organization=STRING,
    locale=STRING,
    user_alias=STRING,
    storage=exactly(count=COUNT, usage_bytes=COUNT, maxSize=COUNT, avg_obj_size=COUNT),
    limits=exactly(
        **{
            name: ref("Share")
            for name in (
                *("storage", "devices", "channels", "tags", "keys", "events", "activation_rules"),
                *("held", "rejected", "retained", "connections", "durable_sessions"),
                *("queued", "subscriptions", "unread"),
            )
        },
        rest_rate=exactly(max=COUNT),
        when_full=ref("WhenFull"),
    ),
)

_PAYLOAD = STRING | {"maxLength": 64 * 1024}
PUBLISH = fields(
    ("payload",),
    payload=_PAYLOAD,
    qos={
        "anyOf": [
            INTEGER | {"minimum": 0, "maximum": 2},
            {"type": "string", "pattern": "^[012]$"},
        ],
        "description": "default: 0",  # with `default`, openapi-typescript takes it for required
    },
    retain=FLAG | {"description": "default: false"},
    topic=STRING
    | {
        "minLength": 1,
        "maxLength": MAX_TOPIC,
        "pattern": r"^[^+#\u0000]+$",
        "description": "behind TOKEN/; default: DEVICE/subscribe",
    },
)
SESSION = exactly(
    client_id=STRING,
    ipaddress=STRING,
    clean_sess=BOOLEAN,
    proto_ver=ref("MqttVersion"),
    keepalive=COUNT,
    connected_at=TIME,
)

# What a device sends to the HTTP connector, and is answered where it asks for JSON
DEVICE_MESSAGE: Schema = {"anyOf": [ref("Value"), array(ref("Point")) | {"minItems": 1, "maxItems": 10_000}]}
DEVICE_FORM = fields(v=STRING, v2=STRING, v3=STRING, v4=STRING)
DEVICE_ANSWER = fields(("result",), result=STRING, detail=STRING)
DEVICE_ERROR = fields(("error",), error=STRING, detail=STRING)

COMPONENTS = {
    "About": choices(Delivery.About),
    "AggregateFunction": option(**{name.upper(): name for name in FUNCTIONS}),
    "Channel": CHANNEL,
    "ChannelFields": CHANNEL_FIELDS,
    "Contact": CONTACT,
    "ContactCreated": exactly(contact_id=COUNT),
    "ContactFields": CONTACT_FIELDS,
    "Datapoint": DATAPOINT,
    "Delivery": DELIVERY,
    "DeliveryState": choices(Delivery.Status),
    "DeliveryStateOption": option(**{each.name: each.value for each in Delivery.Status}),
    "Device": DEVICE,
    "DeviceAnswer": DEVICE_ANSWER,
    "DeviceError": DEVICE_ERROR,
    "DeviceFields": DEVICE_FIELDS,
    "DeviceForm": DEVICE_FORM,
    "DeviceMessage": DEVICE_MESSAGE,
    "Done": OK,
    "Error": ERROR,
    "Event": EVENT,
    "EventCreated": exactly(event_id=COUNT),
    "EventFields": EVENT_FIELDS,
    "EventKind": choices(Event.Kind),
    "EventState": choices(Condition.State, MUTED=MUTED),
    "Format": option(CSV="csv", JSON="json", NDJSON="ndjson"),
    "Incident": INCIDENT,
    "IncidentFields": fields(acknowledged=FLAG),
    "IncidentState": enumeration("string", OPEN="open", CLOSED="closed"),
    "IncidentStateOption": option(OPEN="open", CLOSED="closed"),
    "Intake": INTAKE,
    "IntakeCreated": exactly(intake_id=COUNT, key=STRING),
    "IntakeFields": INTAKE_FIELDS,
    "IntakeFormat": choices(Intake.Format),
    "IntakeMessage": INTAKE_MESSAGE,
    "IntakeOutcome": choices(IntakeMessage.Outcome),
    "IntakeTried": exactly(reason=STRING_OR_NULL, detail=STRING, count=COUNT, readings=array(ref("Reading"))),
    "IntakeTry": INTAKE_TRY,
    "Interval": option(**{f"EVERY_{name.upper()}": name for name in INTERVALS}),
    "Key": exactly(key=STRING),
    "Label": LABEL,
    "LabelFields": LABEL_FIELDS,
    "Maintenance": MAINTENANCE,
    "MaintenanceCreated": exactly(maintenance_id=COUNT),
    "MaintenanceFields": MAINTENANCE_FIELDS,
    "MqttVersion": enumeration("integer", MQTT_3_1=3, MQTT_3_1_1=4, MQTT_5=5),
    "NotifyType": enumeration("string", EMAIL="email", HTTP="http", NONE="none"),
    "Operator": enumeration(
        "string",
        EQUAL="=",
        LESS="<",
        GREATER=">",
        LESS_OR_EQUAL="<=",
        GREATER_OR_EQUAL=">=",
        NOT_EQUAL="!=",
    ),
    "Over": choices(Incident.Over),
    "Point": POINT,
    "Points": POINTS,
    "Publish": PUBLISH,
    "Reading": READING,
    "Repeat": enumeration("string", EVERY="every", CROSSING="crossing"),
    "Result": RESULT,
    "Separator": option(COMMA="comma", SEMICOLON="semicolon", TAB="tab"),
    "Session": SESSION,
    "Rule": RULE,
    "RuleCreated": exactly(rule_id=COUNT),
    "RuleFields": RULE_FIELDS,
    "Secret": exactly(secret=STRING),
    "Severity": choices(Event.Severity),
    "Share": exactly(used=COUNT, max=COUNT),
    "SortOrder": option(ASC="asc", DESC="desc"),
    "Stored": exactly(stored=COUNT),
    "Stream": STREAM,
    "Switch": option(TRUE="true", FALSE="false", ONE="1", ZERO="0"),
    "TagFields": TAG_FIELDS,
    "Tested": exactly(delivery_ids=array(STRING)),
    "Transport": choices(Delivery.Transport),
    "TrueFalse": enumeration("string", TRUE="true", FALSE="false"),
    "User": USER,
    "UserFields": USER_FIELDS,
    "Value": VALUE,
    # without additionalProperties, generators of clients take it for an object that is always empty
    "ValueObject": {"type": "object", "additionalProperties": True},
    "WhenFull": enumeration("string", REFUSE="refuse", DROP_OLDEST="drop_oldest"),
}
