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
