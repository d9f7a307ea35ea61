"""Random clients against a server and a reference model: mosquitto first, to trust the model, then ours.

A longer run: `python -m model --server thingscale --seed 7 --steps 1000000` (see model/__main__.py).
"""

from collections.abc import Iterator

import pytest
from model.errors import ERRORS
from model.running import describe, divergence_of
from model.script import script
from model.servers import Mosquitto, Server, Thingscale
from mosquitto import needs_mosquitto
from private_place import private_place

from thingscale.local.servers import ALL

STEPS = 10_000
STEPS_WITH_TWO = 400  # gateways: each step waits until both have come to rest
SEED = 3


@pytest.fixture
def mosquitto() -> Iterator[Mosquitto]:
    server = Mosquitto()
    yield server
    server.stop()


def check(server: Server, seed: int, length: int) -> None:
    steps = script(seed, length)
    if found := divergence_of(server, steps):
        pytest.fail(describe(seed, found, steps[: found.step + 1]))


def test_the_same_seed_gives_the_same_script() -> None:
    assert script(SEED, 200) == script(SEED, 300)[:200]
    assert script(SEED, 200) != script(SEED + 1, 200)


@needs_mosquitto
def test_mosquitto_does_what_the_model_says(mosquitto: Mosquitto) -> None:
    check(mosquitto, SEED, STEPS)


@needs_mosquitto
@pytest.mark.parametrize("name", ERRORS)
def test_the_model_finds_an_error(mosquitto: Mosquitto, name: str) -> None:
    found = divergence_of(mosquitto, script(SEED, STEPS), ERRORS[name](), patience=2.0)
    assert found, f"{name} is not found in {STEPS} steps"


@pytest.mark.e2e
@pytest.mark.timeout(900)
def test_the_gateway_does_what_the_model_says() -> None:
    with private_place("d0", "d1", "d2", want=ALL, fast=True) as place:
        check(Thingscale(place.stack, place.user_id, place.token), SEED, STEPS)


@pytest.mark.e2e
@pytest.mark.timeout(600)
def test_two_gateways_do_what_the_model_says() -> None:
    with private_place("d0", "d1", "d2", want=ALL, fast=True) as place:
        server = Thingscale(place.stack, place.user_id, place.token, gateways=2)
        try:
            check(server, SEED, STEPS_WITH_TWO)
        finally:
            server.stop()
