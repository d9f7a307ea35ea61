"""First contact through a running Ingest, to the task that enables and maps the device."""

from collections.abc import Iterator

import pytest
from django.db import connection
from feeding import SECONDS, STORED, held, message, values
from stack import wait_until
from support import Account

from ingest.message import Outcome, RawMessage, Reason
from ingest.service import Ingest
from thingscale.devices.models import ActivationRule, Device
from thingscale.provisioning import tasks
from thingscale.provisioning.tasks import activate_device


class Here:
    """In place of a Celery worker: runs the task where it is asked for."""

    def apply_async(self, arguments: tuple[int], retry: bool) -> None:
        try:
            activate_device.apply(arguments, throw=True)
        finally:
            connection.close()


@pytest.fixture
def ingest(account: Account, monkeypatch: pytest.MonkeyPatch) -> Iterator[Ingest]:
    monkeypatch.setattr(tasks, "activate_device", Here())
    started = Ingest()
    started.start()
    yield started
    assert started.stop()


def send(ingest: Ingest, *sent: RawMessage) -> list[Outcome]:
    answers: list[Outcome] = []
    ingest.writer.accept(sent, answers.extend)
    wait_until(lambda: answers, SECONDS, "the answer")
    return answers


def test_first_contact_is_enough_where_a_rule_matches(ingest: Ingest, account: Account) -> None:
    ActivationRule.objects.create(user=account.user, pattern="meter-*", channel=account.channel())
    names = ["meter-1", "meter-2", "other"]
    new = [held(Reason.NEW_DEVICE_FOUND)]
    assert send(ingest, *(message(account, f'"{name}"', name) for name in names)) == new * 3
    wait_until(lambda: len(values(account)) == 2, what="the two to be activated")
    assert set(values(account)) == {'"meter-1"', '"meter-2"'}
    assert send(ingest, message(account, "1", "meter-1")) == [STORED]
    assert list(Device.objects.filter(enabled=False).values_list("device_id", flat=True)) == ["other"]
