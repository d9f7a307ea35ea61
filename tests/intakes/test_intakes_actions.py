"""An account's intakes: made, changed, given keys, and deleted."""

from typing import Any

import pytest
from django.db import connection
from pytest_django import Settings
from support import Account, make_account

from ingest import intake_cache
from thingscale.accounts.actions import choose_own_topics, close_account, set_active
from thingscale.intakes.actions import (
    create_intake,
    delete_intake,
    enable_intake,
    remove_key,
    renew_key,
    update_intake,
)
from thingscale.intakes.clean_up import clean_up
from thingscale.intakes.models import Intake, IntakeMessage, LastIntakeNumber, topic_fields
from thingscale.lib.errors import ContractError

INFLUX = {"name": "Telegraf", "format": "influx"}
MAPPING = {"rules": [{"device": "{body.id}", "value": "{body.value}"}]}
MAPPED = {"name": "Meters", "format": "mapped", "mapping": MAPPING, "topic": "meters/+/up"}


def test_a_key_is_shown_once_and_finds_its_intake(account: Account) -> None:
    intake, key = create_intake(account.user, INFLUX)
    assert len(key) == 26
    assert key.endswith(intake.key_hint)
    assert key not in str(Intake.objects.values_list())
    assert list(Intake.objects.enabled().with_key(key)) == [intake]
    assert not Intake.objects.with_key(key[:-1])
    assert not Intake.objects.with_key(key.upper())

    new = renew_key(intake)
    assert not Intake.objects.with_key(key)
    assert Intake.objects.with_key(new).get().key_hint == new[-4:]

    remove_key(intake)
    assert not Intake.objects.with_key(new)
    assert Intake.objects.get().key_hint == ""


def test_numbers_are_of_the_account_and_never_given_again(account: Account) -> None:
    other = make_account("other@example.com")
    assert [create_intake(account.user, INFLUX)[0].number for _ in range(2)] == [1, 2]
    assert create_intake(other.user, INFLUX)[0].number == 1
    delete_intake(Intake.objects.for_account(account.user).get(number=2))
    assert create_intake(account.user, INFLUX)[0].number == 3
    assert [intake.number for intake in Intake.objects.for_account(account.user)] == [1, 3]


def test_what_is_disabled_takes_nothing(account: Account) -> None:
    intake, _ = create_intake(account.user, INFLUX)
    assert Intake.objects.enabled()
    enable_intake(intake, False)
    assert not Intake.objects.enabled()
    enable_intake(intake, True)
    set_active(account.user, False)
    assert not Intake.objects.enabled()


def test_there_is_a_limit(account: Account, settings: Settings) -> None:
    settings.MAX_INTAKES = 1
    create_intake(account.user, INFLUX)
    with pytest.raises(ContractError, match="intake: You can have 1 intake"):
        create_intake(account.user, INFLUX)
    create_intake(make_account("other@example.com").user, INFLUX)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"name": ""}, "name: "),
        ({"name": "x" * 101}, "name: "),
        ({"name": "a\nb"}, "name: "),
        ({"format": "xml"}, "format: Must be one of influx, prometheus, otlp, mapped."),
        ({"mapping": None}, "mapping: Give one, or a preset."),
        ({"mapping": [1]}, "mapping: The mapping "),
        ({"mapping": {"rules": [{"value": "{body}"}]}}, "mapping: rules\\[0\\].device is missing"),
        ({"mapping": {"rules": [{"device": "a\0b", "value": 1}]}}, "mapping: It has a NUL character"),
        ({"mapping": {"rules": [{"device": "\ud800", "value": 1}]}}, "mapping: "),
        ({"mapping": {"rules": [{"device": "x" * 17_000, "value": 1}]}}, "mapping: "),
        ({"preset": "prometheus"}, "preset: Of the format mapped there are "),
        ({"preset": "nothing"}, "preset: Of the format mapped there are "),
        ({"format": "influx", "topic": ""}, "mapping: Goes with the format mapped only."),
        ({"format": "influx", "mapping": None}, "topic: Goes with the format mapped only."),
        ({"options": []}, "options: Must be a JSON object."),
        ({"options": {"precision": "s"}}, "options: The format mapped has no 'precision': it has none."),
        ({"topic": "a/#/b"}, "topic: "),
        ({"topic": "a+/b"}, "topic: "),
        ({"topic": "a\0"}, "topic: "),
        ({"topic": "$SYS/#"}, "topic: Topics that begin with \\$"),
        ({"topic": "0123456789abcdef0123456789abcdef/#"}, "topic: Topics that begin with a token"),
        ({"topic": "x" * 1025}, "topic: "),
        ({"more_topics": ["a/#/b"]}, "topics: 'a/#/b': Must be a topic"),
        ({"topic": "$SYS/#", "more_topics": ["a"]}, "topics: '\\$SYS/#': Topics that begin with"),
        ({"more_topics": [f"t{number}" for number in range(10)]}, "topics: There may be 10"),
        ({"rate": 0}, "rate: "),
        ({"rate": 1_000_001}, "rate: "),
    ],
)
def test_what_does_not_fit_is_refused_and_changes_nothing(
    account: Account, changes: dict[str, Any], sentence: str
) -> None:
    intake, _ = create_intake(account.user, MAPPED)
    with pytest.raises(ContractError, match=sentence):
        create_intake(account.user, MAPPED | changes)
    with pytest.raises(ContractError, match=sentence):
        update_intake(intake, changes)
    kept = Intake.objects.get()
    assert (kept.name, kept.mapping, kept.topic) == ("Meters", MAPPING, "meters/+/up")


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"precision": "fortnights"}, "options: The precision must be one of "),
        ({"device_tags": []}, "options: The device_tags must be "),
        ({"device_tags": "host"}, "options: The device_tags must be "),
        ({"device_tags": ["x" * 129]}, "options: The device_tags must be "),
        ({"device_tags": ["a\0b"]}, "options: It has a NUL character"),
        ({"device_tag": ["host"]}, "there are device_tags, precision."),
    ],
)
def test_options_of_influx(account: Account, options: dict[str, Any], sentence: str) -> None:
    good = {"precision": "s", "device_tags": ["host", "vm"]}
    assert (
        create_intake(account.user, INFLUX | {"preset": "telegraf-influxdb", "options": good})[0].options
        == good
    )
    with pytest.raises(ContractError, match=sentence):
        create_intake(account.user, INFLUX | {"options": options})


@pytest.mark.parametrize("topic", ["#", "+", "+/status", "tele/+/SENSOR", "zigbee2mqtt/#", "x" * 1024])
def test_filters_that_mqtt_knows(account: Account, topic: str) -> None:
    assert create_intake(account.user, MAPPED | {"topic": topic})[0].topic == topic
    assert Intake.objects.with_topic().count() == 1


def test_several_filters(account: Account) -> None:
    choose_own_topics(account.user, True)
    topics = [f"t{number}/+" for number in range(10)]
    intake, _ = create_intake(account.user, MAPPED | topic_fields([*topics, topics[0]]))
    assert Intake.objects.get().topics == topics
    (known,) = intake_cache.with_topics(account.user.pk)
    assert intake_cache.taking([known], "t9/x") == known
    assert intake_cache.taking([known], "t9/x/y") is None
    choose_own_topics(account.user, False)
    assert intake_cache.with_topics(account.user.pk) == ()
    choose_own_topics(account.user, True)
    update_intake(intake, topic_fields([]))
    assert Intake.objects.get().topics == []
    assert intake_cache.with_topics(account.user.pk) == ()


def test_an_intake_that_is_gone(account: Account) -> None:
    intake, _ = create_intake(account.user, INFLUX)
    Intake.objects.filter(pk=intake.pk).delete()
    with pytest.raises(ContractError, match="just been deleted"):
        update_intake(intake, {"name": "x"})


def test_a_closed_account_leaves_nothing(account: Account) -> None:
    other = make_account("other@example.com")
    for each in (account, other):
        intake, _ = create_intake(each.user, INFLUX)
        note(intake)
    close_account(account.user)
    clean_up()
    assert [intake.user for intake in Intake.objects.all()] == [other.user]
    assert IntakeMessage.objects.count() == LastIntakeNumber.objects.count() == 1


def test_an_account_that_an_older_process_has_deleted_leaves_nothing(account: Account) -> None:
    intake, _ = create_intake(account.user, INFLUX)
    note(intake)
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM accounts_token")
        cursor.execute("DELETE FROM accounts_user")
    clean_up()
    assert not Intake.objects.exists()
    assert not IntakeMessage.objects.exists()
    assert not LastIntakeNumber.objects.exists()


def note(intake: Intake) -> None:
    from test_intakes_messages import a_note

    from thingscale.intakes.messages import note_messages

    with connection.cursor() as cursor:
        note_messages(cursor, [a_note(intake)])
