"""Valkey dies and comes back: devices notice nothing, pages wait and are told again."""

from collections.abc import Iterator

import pytest
from listening import code_of_end, hear, open_socket, page, sign_in
from stack import Stack, wait_until
from support import Account
from test_live_stack import line, publish

from thingscale.live.consumers import TRY_LATER
from thingscale.local.servers import Servers

pytestmark = pytest.mark.e2e


@pytest.fixture
def servers() -> Iterator[Servers]:
    made = Servers(want={"valkey"})
    with made:
        yield made


@pytest.fixture
def own_stack(servers: Servers, transactional_db: None) -> Iterator[Stack]:
    made = Stack(REDIS_URL=servers.valkey.url)
    made.ensure("web", "ingest")
    yield made
    made.stop()


def test_valkey_dies_and_comes_back(servers: Servers, own_stack: Stack, account: Account) -> None:
    account.device("d1")
    key = sign_in(account)
    with page(own_stack, account) as socket:
        publish(own_stack, account, "json/d1", "1")
        assert line(hear(socket))["value"] == "1"
        servers.valkey.kill()
        publish(own_stack, account, "json/d1", "2")
        assert code_of_end(socket) == TRY_LATER
    with open_socket(own_stack, key) as refused:
        assert code_of_end(refused) == TRY_LATER
    publish(own_stack, account, "json/d1", "3")
    servers.valkey.start()
    wait_until(lambda: _ready(own_stack, key), 60, "a socket")
    with page(own_stack, account) as socket:
        publish(own_stack, account, "json/d1", "4")
        assert line(hear(socket))["value"] == "4"
    assert [value for value, _ in account.stored()] == ["1", "2", "3", "4"]
    assert "Traceback" not in own_stack.log("web") + own_stack.log("ingest")


def test_a_short_absence_goes_unnoticed(servers: Servers, own_stack: Stack, account: Account) -> None:
    account.device("d1")
    with page(own_stack, account) as socket:
        servers.valkey.kill()
        servers.valkey.start()
        wait_until(lambda: _hears(own_stack, account, socket), 60, "an update")


def _ready(stack: Stack, key: str) -> bool:
    with open_socket(stack, key) as socket:
        try:
            return bool(hear(socket) == {"type": "ready"})
        except Exception:
            return False


def _hears(stack: Stack, account: Account, socket: object) -> bool:
    publish(stack, account, "json/d1", "1")
    try:
        return bool(line(hear(socket, 0.5)))  # type: ignore[arg-type]
    except TimeoutError:
        return False
