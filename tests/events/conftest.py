from collections.abc import Iterator

import psycopg
import pytest

from thingscale.processes import own_connection


@pytest.fixture
def connection(transactional_db: None) -> Iterator[psycopg.Connection]:
    """As the worker has it."""
    with own_connection.connect("thingscale-events") as connection:
        yield connection
