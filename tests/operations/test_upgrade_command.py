"""`manage.py upgrade`. Under load, and between releases: tests/upgrade, tests/drills/test_migration.py."""

import io
from collections.abc import Iterator

import psycopg
import pytest
from django.core.management import CommandError, call_command
from django.db import connection
from stack import Stack
from support import Account

from thingscale.processes import compatibility, own_connection


def upgrade(*arguments: str) -> str:
    output = io.StringIO()
    call_command("upgrade", *arguments, stdout=output, stderr=output)
    return output.getvalue()


def test_a_database_that_is_ready_stays_as_it_is(no_shared_stack: None, account: Account) -> None:
    with compatibility.connected() as checking:
        compatibility.check(checking)
    for words in ([], ["--plan"]):
        assert ": 0 migrations to apply.\n" in upgrade(*words)
    assert upgrade().endswith("Restart the processes, one machine after the other.\n")


def test_nothing_is_changed_where_it_can_not_be(
    no_shared_stack: None, account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = io.StringIO()
    read_only = own_connection.parameters() | {"options": "-c default_transaction_read_only=on"}
    monkeypatch.setattr(own_connection, "parameters", lambda: read_only)
    with pytest.raises(CommandError, match="Nothing was changed"):
        call_command("upgrade", stdout=output, stderr=output)
    assert "PROBLEM: PostgreSQL takes no writes" in output.getvalue()


def test_a_database_of_a_later_release_is_refused(no_shared_stack: None, account: Account) -> None:
    with compatibility.connected() as checking:
        compatibility.check(checking)
        checking.execute("UPDATE processes_installation SET release = 99")
    with Stack().manage("upgrade") as process:
        said, wrong = process.communicate(timeout=60)
    assert process.returncode == 3
    assert "the database is one of release 99" in wrong
    assert "Traceback" not in wrong
    assert "is ready" not in said


@pytest.fixture
def empty(db: None) -> Iterator[str]:
    here = own_connection.parameters()
    name = f"{here['dbname']}_empty"
    with psycopg.connect(**here, autocommit=True) as other:
        other.execute(f'CREATE DATABASE "{name}" TEMPLATE template0')
    yield f"postgresql://{here['user']}@/{name}?host={connection.settings_dict['HOST']}"
    with psycopg.connect(**here, autocommit=True) as other:
        other.execute(f'DROP DATABASE "{name}" WITH (FORCE)')


@pytest.mark.slow
def test_two_at_once_on_an_empty_database(empty: str) -> None:
    stack = Stack(DATABASE_URL=empty)
    with stack.manage("upgrade", "--plan") as plan:
        assert "  streams.0001_initial\n" in plan.communicate(timeout=60)[0]
    both = [stack.manage("upgrade") for _ in range(2)]
    for process in both:
        said, wrong = process.communicate(timeout=300)
        assert process.returncode == 0, wrong
        assert said.endswith("one machine after the other.\n")
