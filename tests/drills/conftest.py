"""One stack on servers of its own for all drills that do not need another kind."""

from collections.abc import Iterator

import pytest
from drill_load import DEVICES
from private_place import Place, private_place

OTHERS = ("d1", "d2", "d3", "d4", "crowd", "flood")
OURS = ("ingest", "web", "celery")


@pytest.fixture(scope="session")
def _place(django_db_setup: None) -> Iterator[Place]:
    with private_place(*DEVICES, *OTHERS, want=("postgres", "valkey")) as place:
        yield place


@pytest.fixture
def place(_place: Place) -> Place:
    """Everything runs; what a drill before has left stopped starts again."""
    for server in _place.servers.wanted:
        if not server.running():
            server.start()
    _place.stack.ensure(*OURS)
    return _place
