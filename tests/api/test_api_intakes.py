"""/v2/intake: intakes, their keys, and their last messages."""

from typing import Any

import pytest
from api_calls import Caller, document, refusal
from django.db import connection
from django.utils import timezone
from intake_history import intake_history

from thingscale.accounts.models import User
from thingscale.intakes.formats.readings import Reading
from thingscale.intakes.messages import MAX_VALUE, Note, note_messages
from thingscale.intakes.models import Intake, IntakeMessage

MAPPED = {"name": "Meters", "format": "mapped", "preset": "tasmota", "topic": "tele/+/SENSOR"}


@pytest.fixture
def created(api: Caller) -> dict[str, Any]:
    made: dict[str, Any] = document(api.post("intake", MAPPED))
    return made


def test_the_key_is_in_one_answer_only(api: Caller, created: dict[str, Any]) -> None:
    assert created.keys() == {"intake_id", "key"}
    (row,) = document(api.get("intake"))
    assert row["key_hint"] == created["key"][-4:]
    assert created["key"] not in api.get("intake").content.decode() + api.get("intake/1").content.decode()
    assert Intake.objects.with_key(created["key"]).get().number == created["intake_id"] == 1


def test_what_a_get_returned_can_be_sent_back(api: Caller, created: dict[str, Any]) -> None:
    (row,) = document(api.get("intake/1"))
    assert MAPPED.items() <= row.items()
    assert api.put("intake/1", row).status_code == 200
    (after,) = document(api.get("intake"))
    assert after | {"changed_at": ""} == row | {"changed_at": ""}


@pytest.mark.parametrize(
    ("sent", "topics"),
    [
        ({"topics": ["a/#", "b", "a/#"]}, ["a/#", "b"]),
        ({"topics": []}, []),
        ({"topic": "other"}, ["other"]),  # of a client that knows of one only
        ({"topic": ""}, []),
        ({"name": "Other"}, ["tele/#", "stat/#"]),
        # What a GET returned, with one of them changed
        ({"topic": "tele/#", "topics": ["x", "y"]}, ["x", "y"]),
        ({"topic": "tele/#", "topics": []}, []),
        ({"topic": "other", "topics": ["tele/#", "stat/#"]}, ["other"]),
        ({"topic": "", "topics": ["tele/#", "stat/#"]}, []),
        ({"topic": "x", "topics": ["x", "y"]}, ["x", "y"]),
    ],
)
def test_an_intake_takes_several_topics(api: Caller, sent: dict[str, Any], topics: list[str]) -> None:
    assert api.post("intake", MAPPED | {"topic": "", "topics": ["tele/#", "stat/#"]}).status_code == 201
    assert api.put("intake/1", sent).status_code == 200
    (row,) = document(api.get("intake/1"))
    assert (row["topic"], row["topics"]) == (topics[0] if topics else "", topics)


def test_a_new_key_ends_the_old_one(api: Caller, created: dict[str, Any]) -> None:
    new = document(api.post("intake/1/key"))["key"]
    assert not Intake.objects.with_key(created["key"])
    assert Intake.objects.with_key(new)
    assert api.delete("intake/1/key").status_code == 200
    assert not Intake.objects.with_key(new)
    assert document(api.get("intake"))[0]["key_hint"] == ""


def test_a_deleted_one_takes_its_messages_along(api: Caller, owner: User) -> None:
    intake_history(owner)
    assert api.delete("intake/1").status_code == 200
    assert document(api.get("intake")) == []
    assert refusal(api.get("intake/1/message")) == (404, "NO_INTAKE")
    assert not IntakeMessage.objects.exists()


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("name", ""),
        ("name", None),
        ("format", "xml"),
        ("format", None),
        ("mapping", "x"),
        ("mapping", []),
        ("options", 1),
        ("topic", "a/#/b"),
        ("topics", "tele/#"),
        ("topics", [""]),
        ("topics", ["tele/+/SENSOR", "a/#/b"]),
        ("topics", [f"t{number}" for number in range(11)]),
        ("enabled", "maybe"),
        ("rate", 0),
        ("rate", "fast"),
        ("rate", 10**12),
    ],
)
def test_a_bad_field_is_named(api: Caller, created: dict[str, Any], field: str, value: Any) -> None:
    before = document(api.get("intake"))
    for response in (api.post("intake", MAPPED | {field: value}), api.put("intake/1", {field: value})):
        assert refusal(response) == (400, "BAD_PARAMETER")
        assert document(response)["detail"].startswith(f"{field}: ")
    assert document(api.get("intake")) == before


def test_numbers_in_paths(api: Caller, created: dict[str, Any]) -> None:
    for path in ("intake/01", "intake/x", "intake/99999999999", "intake/0"):
        assert refusal(api.get(path)) == (404, "NO_INTAKE")


def test_the_last_messages_the_newest_first(api: Caller, owner: User) -> None:
    intake = intake_history(owner)
    long = b'"' + b"x" * 60_000 + b'"'
    readings = [Reading("d", None, b'{"t": 1.50}', 1_423_182_389_000_000), Reading("d", "t", long, None)]
    with connection.cursor() as cursor:
        note_messages(
            cursor,
            [
                Note.of(
                    intake.id,
                    timezone.now(),
                    "tele/d/SENSOR",
                    {},
                    b"\xff\x00",
                    readings,
                    IntakeMessage.Outcome.HELD,
                    "NO_MAPPED_CH",
                )
            ],
        )
    newest, first = document(api.get("intake/1/message"))
    assert newest["body"] == "ff 00"
    assert (newest["outcome"], newest["reason"], newest["count"]) == ("held", "NO_MAPPED_CH", 2)
    assert newest["readings"][0] == {
        "device_id": "d",
        "tag": None,
        "value": {"t": 1.5},
        "at": "2015-02-06T09:26:29+0900",
    }
    assert len(newest["readings"][1]["value"]) == MAX_VALUE + 1
    assert first["body"] == "mem,host=x used=21"


def test_an_outsider_finds_none(api: Caller, outsider: Caller, owner: User) -> None:
    intake_history(owner)
    before = document(api.get("intake")), list(Intake.objects.values_list("key_hash", flat=True))
    assert document(outsider.get("intake")) == []
    for response in (
        outsider.get("intake/1"),
        outsider.put("intake/1", {"enabled": False}),
        outsider.delete("intake/1"),
        outsider.post("intake/1/key"),
        outsider.delete("intake/1/key"),
        outsider.get("intake/1/message"),
    ):
        assert refusal(response) == (404, "NO_INTAKE")
    assert (document(api.get("intake")), list(Intake.objects.values_list("key_hash", flat=True))) == before


MAPPING = {"rules": [{"device": "{body.id}", "tag": "{header.x-kind}", "value": "{body.value}"}]}


def tried(api: Caller, **asked: Any) -> Any:
    response = api.post("intake/try", asked)
    assert response.status_code == 200, response.content
    return document(response)


def test_trying_a_payload_stores_nothing(api: Caller, created: dict[str, Any]) -> None:
    body = '{"POWER": "ON"}'
    answer = tried(api, intake_id=1, topic="tasmota/cellar/tele/STATE", body=body)
    reading = {"device_id": "cellar", "tag": "STATE", "value": {"POWER": "ON"}, "at": None}
    assert answer == {"reason": None, "detail": "", "count": 1, "readings": [reading]}
    assert document(api.get("device")) == []
    assert document(api.get("intake/1/message")) == []


def test_trying_a_mapping_that_is_not_saved(api: Caller, created: dict[str, Any]) -> None:
    asked = {
        "mapping": MAPPING,
        "headers": {"X-Kind": "heat"},
        "body_base64": "eyJpZCI6ICJhIiwgInZhbHVlIjogMX0=",
    }
    answer = tried(api, format="mapped", **asked)
    assert [(row["device_id"], row["tag"], row["value"]) for row in answer["readings"]] == [("a", "heat", 1)]
    assert tried(api, intake_id=1, **asked) == answer
    assert document(api.get("intake"))[0]["mapping"] is None


def test_what_would_be_rejected_says_why(api: Caller) -> None:
    answer = tried(api, format="influx", body="mem,host=a used=1\nmem,host=a used=")
    assert answer["reason"] == "BAD_JSON_FORMAT"
    assert "ine 2" in answer["detail"]
    assert (answer["count"], answer["readings"]) == (0, [])


def test_many_readings_are_counted_and_the_first_shown(api: Caller) -> None:
    answer = tried(api, format="influx", body="\n".join(f"m,host=h{n} v={n}" for n in range(300)))
    assert (answer["count"], len(answer["readings"])) == (300, 100)


@pytest.mark.parametrize(
    ("asked", "field"),
    [
        ({"format": "xml"}, "format"),
        ({}, "format"),
        ({"format": "mapped"}, "mapping"),
        ({"format": "mapped", "mapping": {"rules": []}}, "mapping"),
        ({"format": "influx", "body_base64": "*"}, "body_base64"),
        ({"format": "influx", "body": 7, "headers": []}, "headers"),
    ],
)
def test_a_try_names_what_is_wrong(api: Caller, asked: dict[str, Any], field: str) -> None:
    response = api.post("intake/try", asked)
    assert refusal(response) == (400, "BAD_PARAMETER")
    assert document(response)["detail"].startswith(f"{field}: ")


def test_a_large_payload_is_not_tried(api: Caller) -> None:
    assert tried(api, format="influx", body="x" * 300_000)["reason"] == "TOO_LARGE"
    assert tried(api, format="prometheus", body="x")["reason"] == "BAD_JSON_FORMAT"
    assert tried(api, format="otlp", body="{}")["count"] == 0


def test_an_outsider_tries_no_intake_of_others(outsider: Caller, created: dict[str, Any]) -> None:
    assert refusal(outsider.post("intake/try", {"intake_id": 1, "body": "x"})) == (404, "NO_INTAKE")
