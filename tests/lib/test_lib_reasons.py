"""One table beside the enum, from which the doors derive their answers (I8)."""

import http

import pytest

from api import errors
from api.v2 import connector
from console.rejection_texts import REASONS
from ingest.connectors.http import answer
from ingest.message import Outcome, Status
from ingest.metrics_server import MetricsServer
from ingest.mqtt.codec import decode, encode_ack
from ingest.mqtt.packets import PUBACK, V5
from ingest.service import Ingest
from thingscale.lib.reasons import ANSWERS, Reason


def test_i8_every_reason_has_its_row() -> None:
    assert ANSWERS.keys() == set(Reason)


@pytest.fixture(scope="module")
def figures() -> str:
    """The metrics page."""
    return MetricsServer(0, Ingest()).answer("/metrics")[2].decode()


@pytest.mark.parametrize("reason", list(Reason))
def test_i8_each_door_has_an_answer_for_each_reason(reason: Reason, figures: str) -> None:
    row = ANSWERS[reason]
    assert answer(Outcome(Status.REJECTED, reason)).status == row.http == http.HTTPStatus(row.http)
    packet = encode_ack(PUBACK, 1, row.mqtt, V5)
    assert decode(packet[0], packet[2:], V5).code == row.mqtt  # type: ignore[union-attr]  # a code of PUBACK
    assert REASONS[reason].endswith(".")
    assert f'thingscale_reasons_total{{reason="{reason}"}} 0.0' in figures
    assert errors.STATUS.get(reason, row.http) == row.http
    described = connector.PATHS["/post_v2/"]["post"]["responses"][str(row.http)]["description"]
    assert row.code or f"{reason}{', held (see X-Held)' * row.held}: {row.sentence}" in described


def test_i8_what_is_held_is_not_an_error_to_correct() -> None:
    assert {reason for reason, row in ANSWERS.items() if row.held} == {
        Reason.NEW_DEVICE_FOUND,
        Reason.NO_MAPPED_CH,
    }
