"""Answers of /v2 for its description; tests/api/test_api_openapi.py compares them with real ones."""

from thingscale.devices.fields import FACTS

DEVICE = {
    "device_id": "sensor-1",
    "description": "roof",
    "enabled": True,
    "enable": "true",
    "mapped_ch": 0,
    **{fact.name: "" for fact in FACTS},
    "activate_at": "2019-09-06T19:01:38+09:00",
}
CHANNEL = {
    "channel": 0,
    "channel_name": "sensor_1",
    "last_update": "2015-02-06T08:26:29+0900",
    "streams": [{"key": "temp", "label": "Temperature", "unit": "°C"}],
    "retention_days": None,
}
EVENT = {
    "event_id": 1,
    "mapped_ch": 0,
    "description": "too hot",
    "notify_type": "http",
    "post_url": "https://example.com/hook",
    "enabled": True,
    "source": "temp",
    "operator": ">",
    "threshold": "30",
    "repeat": "every",
    "min_interval": 0,
    "kind": "threshold",
    "devices": "",
    "for": 0,
    "clear": "28",
    "window": 0,
    "period": 0,
    "grace": 0,
    "no_data_after": 0,
    "severity": "warning",
    "quiet_hours": "",
    "muted_until": None,
    "channels": [],
    "state": "ok",
}
EVENT_BODY = {name: value for name, value in EVENT.items() if name not in {"event_id", "state"}}
SILENCE = {"kind": "silence", "devices": "sensor-*", "period": 60, "grace": 120, "description": "silent"}
USER = {
    "user_id": "U000265",
    "api_token": "0123456789ABCDEF0123456789ABCDEF",
    "device_token": "FEDCBA9876543210FEDCBA9876543210",
    "email1": "owner@example.com",
    "email2": "",
    "organization": "",
    "locale": "Asia/Tokyo",
    "user_alias": "",
    "storage": {"count": 1, "usage_bytes": 14, "maxSize": 5_242_880_000, "avg_obj_size": 14},
    "limits": {
        "storage": {"used": 14, "max": 5_242_880_000},
        "devices": {"used": 1, "max": 10_000},
        "channels": {"used": 1, "max": 10_000},
        "tags": {"used": 0, "max": 10_000},
        "keys": {"used": 1, "max": 1_000},
        "events": {"used": 0, "max": 1_000},
        "activation_rules": {"used": 0, "max": 100},
        "held": {"used": 0, "max": 100_000},
        "rejected": {"used": 0, "max": 1_000},
        "retained": {"used": 0, "max": 100_000},
        "connections": {"used": 0, "max": 10_000},
        "durable_sessions": {"used": 0, "max": 10_000},
        "queued": {"used": 0, "max": 2_147_483_648},
        "subscriptions": {"used": 2, "max": 100_000},
        "unread": {"used": 0, "max": 67_108_864},
        "rest_rate": {"max": 20},
        "when_full": "refuse",
    },
}
DATAPOINT = {
    "_id": "54d3fb250000000000000001",
    "tag": None,
    "value": {"temp": 21.5},
    "at": "2015-02-06T08:26:29+0900",
}
STREAM = {
    "channel": 0,
    "channel_name": "sensor_1",
    "last_update": "2015-02-06T08:26:29+0900",
    "stream": [DATAPOINT],
}
SESSION = {
    "client_id": "sensor-1_a8f3",
    "ipaddress": "192.0.2.7",
    "clean_sess": True,
    "proto_ver": 4,
    "keepalive": 60,
    "connected_at": "2015-02-06T08:26:29+0900",
}
DONE = {"result": "OK"}
CONTACT = {"contact_id": 1, "name": "Phone", "address": "ntfys://…", "enabled": True}
CONTACT_BODY = {"name": "Night shift", "url": "ntfys://night-shift-7f3a"}
TESTED = {"delivery_ids": ["5a1ecb6e-2b0b-4b43-9c8e-5d7a9d3f0f8f"]}
INCIDENT = {
    "incident_id": 1,
    "event_id": 1,
    "state": "closed",
    "title": "too hot",
    "severity": "warning",
    "mapped_ch": 0,
    "device_id": "sensor-1",
    "tag": None,
    "source": "temp",
    "threshold": "30",
    "current": 31.5,
    "started_at": "2015-02-06T08:26:29+0900",
    "ended_at": "2015-02-06T08:36:29+0900",
    "over": "cleared",
    "acknowledged": False,
    "acknowledged_at": None,
    "acknowledged_by": None,
}
DELIVERY = {
    "delivery_id": "5a1ecb6e-2b0b-4b43-9c8e-5d7a9d3f0f8f",
    "event_id": 1,
    "incident_id": 1,
    "contact_id": None,
    "transport": "http",
    "about": "firing",
    "state": "sent",
    "receiver": "example.com:443",
    "created_at": "2015-02-06T08:26:29+0900",
    "next_try_at": None,
    "done_at": "2015-02-06T08:26:30+0900",
    "tries": 1,
    "answer": "200 OK",
}
INTAKE = {
    "intake_id": 1,
    "name": "Servers",
    "format": "influx",
    "preset": "",
    "mapping": None,
    "options": {},
    "topic": "",
    "topics": [],
    "enabled": True,
    "key_hint": "tpoa",
    "rate": None,
    "created_at": "2015-02-06T08:26:29+0900",
    "changed_at": "2015-02-06T08:26:29+0900",
}
INTAKE_BODIES = {
    "influx": {"name": "Telegraf", "format": "influx", "preset": "telegraf-influxdb"},
    "mapped": {"name": "Plugs", "format": "mapped", "preset": "tasmota", "topics": ["tele/#", "stat/#"]},
}
INTAKE_MESSAGE = {
    "received_at": "2015-02-06T08:26:29+0900",
    "source": "POST /in/.../write",
    "headers": {"user-agent": "Telegraf/1.31.0"},
    "body": "mem,host=server-1 used=21",
    "size": 25,
    "outcome": "stored",
    "reason": "",
    "detail": "",
    "count": 1,
    "left_out": 0,
    "readings": [{"device_id": "server-1", "tag": "mem", "value": {"used": 21}, "at": None}],
}
INTAKE_TRY_BODIES = {
    "lines": {"format": "influx", "body": "mem,host=server-1 used=21"},
    "message": {
        "format": "mapped",
        "mapping": {"rules": [{"device": "{body.id}", "tag": "mem", "value": {"used": "{body.used}"}}]},
        "body": '{"id": "server-1", "used": 21}',
    },
}
INTAKE_TRIED = {
    "reason": None,
    "detail": "",
    "count": 1,
    "readings": [{"device_id": "server-1", "tag": "mem", "value": {"used": 21}, "at": None}],
}
RULE = {"rule_id": 1, "pattern": "meter-*", "mapped_ch": None, "own_channel": True, "position": 0}
MAINTENANCE = {
    "maintenance_id": 1,
    "devices": "sensor-*",
    "starts_at": "2099-02-06T08:26:29+0900",
    "ends_at": "2099-02-06T09:26:29+0900",
    "note": "new batteries",
}
MAINTENANCE_BODY = {name: value for name, value in MAINTENANCE.items() if name != "maintenance_id"}
