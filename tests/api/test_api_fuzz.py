"""Schemathesis: whatever fits the description is taken or refused as described, whatever does not is refused.

THINGSCALE_FUZZ_EXAMPLES=1000 tries that many for each call and kind of data, other ones each time.
"""

import logging
import os
from collections.abc import Iterator
from typing import Any

import pytest
from api_calls import Caller
from django.core.signals import request_finished, request_started
from django.db import close_old_connections
from hypothesis import HealthCheck, Phase, given
from hypothesis import settings as hypothesis_settings
from schemathesis import GenerationMode
from schemathesis.config import SchemathesisConfig
from schemathesis.openapi import from_dict
from schemathesis.specs.openapi.checks import negative_data_rejection

from api.v2.openapi import document
from thingscale.accounts.models import User
from thingscale.devices.actions import create_device
from thingscale.streams.models import Channel
from thingscale.wsgi import application

pytestmark = pytest.mark.slow
FEW = 15
EXAMPLES = int(os.environ.get("THINGSCALE_FUZZ_EXAMPLES", FEW))
CALLS = sorted(
    (method.upper(), path)
    for path, item in document()["paths"].items()
    for method in item
    if path.startswith("/v2/")
)
KINDS = [GenerationMode.POSITIVE, GenerationMode.NEGATIVE]
SLOW = "/v2/publish/{device_id}"  # through the broker
tried = 0

# What a schema can't say: both bounds of a range in their order, a zone that exists, keys that are not there
# twice, a value within its limits, an operator that fits the threshold, a time that is to come.
BEYOND_SCHEMAS = [
    ("GET", "/v2/stream/{number}"),
    ("POST", "/v2/stream/{number}"),
    ("PUT", "/v2/user"),
    ("POST", "/v2/channel/{number}"),
    ("PUT", "/v2/channel/{number}"),
    ("POST", "/v2/event"),
    ("PUT", "/v2/event/{number}"),
    ("GET", "/v2/incident"),
    ("GET", "/v2/delivery"),
    ("POST", "/v2/maintenance"),
    ("POST", "/v2/contact"),
    ("PUT", "/v2/contact/{number}"),
    ("POST", "/v2/publish/{device_id}"),
]
# An empty option is as good as none to a call that reads. In the schema it would be a union of a number and
# a text, and clients that are generated can't write that into a header.
MAY_BE_EMPTY = ("/v2/incident", "/v2/delivery")
TAKEN = ["2xx", "3xx", "401", "403", "404", "409", "429", "503"]
CONFIG = {
    "operations": [
        {
            "include-path": path,
            "include-method": method,
            "checks": {"positive_data_acceptance": {"expected-statuses": [*TAKEN, "400", "413"]}},
        }
        for method, path in BEYOND_SCHEMAS
    ]
}


@pytest.fixture(autouse=True)
def _one_connection(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """As in Django's test client: the end of a request does not end the transaction of the test."""
    monkeypatch.setattr(logging.getLogger("django.request"), "disabled", True)  # thousands of refusals
    for signal in (request_started, request_finished):
        signal.disconnect(close_old_connections)
    yield
    for signal in (request_started, request_finished):
        signal.connect(close_old_connections)


@pytest.fixture(scope="module")
def described() -> Any:
    schema = from_dict(document(), config=SchemathesisConfig.from_dict(CONFIG))
    schema.app = application
    return schema


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.value)
@pytest.mark.parametrize(("method", "path"), CALLS)
def test_data_of_each_kind(
    owner: User, channel: Channel, described: Any, method: str, path: str, kind: GenerationMode
) -> None:
    create_device(owner, "0-0", mapped_channel=channel)
    headers = {"X-APITOKEN": Caller(owner).token}

    @given(case=described[path][method].as_strategy(generation_mode=kind))
    @hypothesis_settings(
        max_examples=EXAMPLES if path != SLOW else EXAMPLES // 3,
        deadline=None,
        database=None,
        derandomize=EXAMPLES == FEW,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    def answers_as_described(case: Any) -> None:
        global tried  # noqa: PLW0603
        tried += 1
        excluded = [negative_data_rejection] if path in MAY_BE_EMPTY else []
        case.call_and_validate(headers=headers, excluded_checks=excluded)

    answers_as_described()


def test_that_was_enough() -> None:
    assert tried >= 600
