"""Each test runs against each broker that there is."""

from collections.abc import Iterator

import pytest
from brokers import Broker, Mosquitto, Platform, Server
from client import Limit
from django.core.management import call_command
from known_failures import KNOWN_FAILURES, NOT_RUN
from mosquitto import needs_mosquitto
from pytest_django import DjangoDbBlocker
from stack import Stack
from support import make_account

SHORT_SECONDS = 0.1  # for what is known not to come


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if isinstance(item, pytest.Function) and "_server" in item.fixturenames:
            server = item.callspec.params["_server"]
            if server == "thingscale":  # else there would be no test database
                item.add_marker(pytest.mark.django_db)
            case = "-".join(part for part in item.callspec.id.split("-") if part != server)
            known = KNOWN_FAILURES[server]
            if reason := known.get(f"{item.originalname}[{case}]") or known.get(item.originalname):
                run = server != "thingscale" and reason not in NOT_RUN
                item.add_marker(pytest.mark.xfail(reason=reason, run=run, strict=True))


@pytest.fixture(
    scope="module", params=[pytest.param("mosquitto", marks=needs_mosquitto), pytest.param("thingscale")]
)
def _server(request: pytest.FixtureRequest) -> Iterator[Server]:
    if request.param == "mosquitto":
        mosquitto = Mosquitto()
        yield mosquitto
        mosquitto.stop()
        return
    stack: Stack = request.getfixturevalue("_stack")
    blocker: DjangoDbBlocker = request.getfixturevalue("django_db_blocker")
    with blocker.unblock():
        yield Platform(stack, make_account("conformance@example.com"))
        call_command("flush", verbosity=0, interactive=False)


@pytest.fixture
def broker(
    _server: Server, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Broker]:
    if request.node.get_closest_marker("xfail") and not request.config.option.runxfail:
        monkeypatch.setattr(Limit, "seconds", SHORT_SECONDS)
    index = request.session.items.index(request.node)
    broker = Broker(_server, f"t{index}")
    yield broker
    broker.close()
