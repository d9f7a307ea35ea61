"""What a process looks at before it serves anybody: the secret key, the schema, the releases that run."""

import os
import re
import signal
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest
from django.core.management import CommandError, call_command
from django.db import connection as django_connection
from django.db.migrations.loader import MigrationLoader
from django.test import override_settings
from pytest_django import Settings
from stack import ROOT, Stack, wait_until
from support import make_account

from thingscale import version
from thingscale.processes import compatibility
from thingscale.processes.compatibility import StartRefused
from thingscale.processes.models import Installation, Process, SecretKey
from thingscale.processes.registration import SEEN_SECONDS, Registration
from thingscale.version import RELEASE

OLD, NEW, OTHER = "old " * 10, "new " * 10, "other " * 10
SECONDS = 60


@pytest.fixture
def keys(no_shared_stack: None, transactional_db: None, settings: Settings) -> Callable[..., None]:
    """`keys(newest, *older)`: a process with these starts. Raises StartRefused."""
    SecretKey.objects.all().delete()  # of processes that other tests share

    def begin(*names: str) -> None:
        settings.SECRET_KEY, settings.SECRET_KEY_FALLBACKS = names[0], list(names[1:])
        begins()

    return begin


def begins() -> None:
    with compatibility.connected() as connection:
        compatibility.check(connection)


def used() -> int:
    return SecretKey.objects.count()


def test_the_first_key_is_taken_and_another_one_refused(keys: Callable[..., None]) -> None:
    keys(OLD)
    keys(OLD)
    with pytest.raises(
        StartRefused, match="THINGSCALE_SECRET_KEYS of the other processes, or the file secret_key"
    ):
        keys(OTHER)
    with pytest.raises(StartRefused, match="another secret key"):
        keys(OTHER, NEW)
    assert used() == 1


def test_a_key_is_changed_while_processes_start_one_by_one(keys: Callable[..., None]) -> None:
    """As docs/decisions/0030-secrets.md says: behind first, then in front, `reencrypt`, then alone."""
    keys(OLD)
    make_account("owner@example.com")
    keys(OLD, NEW)
    keys(NEW, OLD)
    keys(OLD, NEW)  # one that is late
    with pytest.raises(StartRefused, match="while both are listed"):
        keys(OLD)
    with pytest.raises(StartRefused, match=r"run `manage.py reencrypt`"):
        keys(NEW)
    keys(NEW, OLD)
    call_command("reencrypt")
    keys(NEW)
    with pytest.raises(StartRefused):
        keys(OLD)
    assert used() == 1


def test_reencrypt_leaves_the_key_of_a_process_that_lives(keys: Callable[..., None]) -> None:
    keys(OLD, NEW)
    mark = compatibility.fingerprints()[0]
    process = a_process(RELEASE, secret_key=mark)
    keys(NEW, OLD)
    call_command("reencrypt")
    with pytest.raises(StartRefused, match="reencrypt"):
        keys(NEW)
    age(process)
    keys(NEW, OLD)
    call_command("reencrypt")
    keys(NEW)


def test_reencrypt_that_could_not_read_all_forgets_no_key(keys: Callable[..., None]) -> None:
    keys(OLD)
    make_account("owner@example.com")
    keys(OLD, NEW)
    SecretKey.objects.all().delete()
    keys(NEW)  # as if somebody had emptied the table
    SecretKey.objects.create(fingerprint="somebody's")
    with pytest.raises(CommandError, match="add it and repeat this"):
        call_command("reencrypt")
    assert used() == 2


def test_a_fingerprint_tells_nothing_of_its_key(keys: Callable[..., None]) -> None:
    keys(OLD)
    (mark,) = compatibility.fingerprints()
    assert re.fullmatch("[0-9a-f]{64}", mark)
    assert mark == compatibility.fingerprints()[0]


def a_process(release: int, secret_key: str = "") -> Process:
    return Process.objects.create(
        part="ingest", host="machine-2", pid=77, version="x", release=release, secret_key=secret_key
    )


def age(process: Process, seconds: float = compatibility.ENDED_AFTER_SECONDS + 1) -> None:
    with django_connection.cursor() as cursor:
        cursor.execute(
            "UPDATE processes_process SET seen_at = now() - make_interval(secs => %s) WHERE id = %s",
            [seconds, process.pk],
        )


@pytest.mark.parametrize("ours", [1, 7])
def test_releases_that_follow_each_other_run_together(
    keys: Callable[..., None], monkeypatch: pytest.MonkeyPatch, ours: int
) -> None:
    monkeypatch.setattr(compatibility, "RELEASE", ours)
    for other in (ours - 1, ours, ours + 1):
        a_process(other)
        Installation.objects.update_or_create(pk=1, defaults={"release": other})
        keys(OLD)
        assert Installation.objects.get().release == max(ours, other)
    Installation.objects.update(release=ours + 2)
    with pytest.raises(
        StartRefused, match=f"This is release {ours}, and the database is one of release {ours + 2}"
    ):
        keys(OLD)


def test_a_process_that_is_two_releases_older_is_named_while_it_lives(
    keys: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compatibility, "RELEASE", 3)
    older = a_process(1)
    with pytest.raises(StartRefused, match=r"ingest on machine-2 \(process 77\) runs release 1\. .*first"):
        keys(OLD)
    age(older)
    keys(OLD)


def test_a_database_that_lacks_a_migration_is_refused_and_one_that_has_more_is_not(
    keys: Callable[..., None],
) -> None:
    with compatibility.connected() as connection:
        connection.execute(
            "INSERT INTO django_migrations (app, name, applied) VALUES ('streams', '9999_new', now())"
        )
        compatibility.check(connection)
        connection.execute("DELETE FROM django_migrations WHERE app = 'streams' AND name = '0002_datapoint'")
        connection.execute("DELETE FROM django_migrations WHERE app = 'otp_totp'")
        with pytest.raises(
            StartRefused, match=r"lacks \d migrations \(the first one: otp_totp\.0001_initial\): run `ma"
        ):
            compatibility.check(connection)
        connection.rollback()


def test_migrations_are_known_by_name_as_django_knows_them(db: None) -> None:
    assert compatibility.migrations() == set(MigrationLoader(django_connection).disk_migrations)


def test_the_version_is_the_package_s() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["version"] == version.VERSION


# Real processes


@pytest.fixture
def started(transactional_db: None) -> Iterator[Callable[..., Stack]]:
    """A stack of a test's own, without processes."""
    made: list[Stack] = []

    def make(**environment: str) -> Stack:
        made.append(Stack(**environment))
        return made[-1]

    yield make
    for each in made:
        each.stop()


@pytest.mark.e2e
def test_each_part_is_known_while_it_runs(started: Callable[..., Stack]) -> None:
    running = started()
    running.ensure("web", "ingest", "celery")

    pids = {name: process.pid for name, process in running.processes.items()}

    def parts() -> list[tuple[str, int]]:
        """Of these processes: those of other tests may run, too."""
        return sorted(Process.objects.filter(pid__in=pids.values()).values_list("part", "pid"))

    wait_until(lambda: parts() == sorted(pids.items()), SECONDS, "three rows")
    with django_connection.cursor() as cursor:
        cursor.execute("TRUNCATE processes_process, processes_secretkey, processes_installation")
    wait_until(lambda: parts() == sorted(pids.items()), SEEN_SECONDS + SECONDS, "them again")
    assert used() == 1
    running.kill("ingest", signal.SIGKILL)
    for name in ("web", "celery"):
        running.kill(name, signal.SIGTERM)
    assert parts() == [("ingest", pids["ingest"])]  # it counts as living for a while


@pytest.mark.e2e
@pytest.mark.parametrize("part", ["web", "ingest", "celery"])
def test_a_process_with_another_key_says_so_and_ends(started: Callable[..., Stack], part: str) -> None:
    begins()
    running = started(THINGSCALE_SECRET_KEY=OTHER)
    with pytest.raises(AssertionError):
        running.start(part)
    assert running.processes[part].wait(SECONDS) == 3
    said = running.log(part)
    assert compatibility.OTHER_KEY in said
    assert "Traceback" not in said
    assert not Process.objects.filter(pid=running.processes[part].pid).exists()


@pytest.mark.e2e
@pytest.mark.parametrize("known", [True, False])
def test_up_with_another_key_changes_nothing_and_says_what_to_do(
    started: Callable[..., Stack], tmp_path: Path, known: bool
) -> None:
    """Also where only the tokens tell: a database of an earlier release."""
    make_account("owner@example.com")
    if known:
        begins()
    running = started(THINGSCALE_SECRET_KEY=OTHER, THINGSCALE_HOME=str(tmp_path / "home"))
    up = running.another(THINGSCALE_HTTP_PORT=str(running.http)).manage("up")
    said, wrong = up.communicate(timeout=60)
    assert up.returncode == 1
    assert wrong == f"{compatibility.OTHER_KEY}\n"
    assert "ready" not in said
    with override_settings(SECRET_KEY=OTHER, SECRET_KEY_FALLBACKS=[]):
        assert not SecretKey.objects.filter(fingerprint__in=compatibility.fingerprints()).exists()


@pytest.fixture
def empty_database(started: Callable[..., Stack]) -> Iterator[str]:
    """Its URL."""
    settings = django_connection.settings_dict
    url = f"postgresql://{settings['USER']}@/{{}}?host={settings['HOST']}"
    with psycopg.connect(url.format(settings["NAME"]), autocommit=True) as connection:
        connection.execute("DROP DATABASE IF EXISTS prepared WITH (FORCE)")
        connection.execute("CREATE DATABASE prepared TEMPLATE template1")
        yield url.format("prepared")
        connection.execute("DROP DATABASE prepared WITH (FORCE)")


@pytest.mark.e2e
def test_two_machines_may_prepare_an_empty_database_at_once(
    started: Callable[..., Stack], empty_database: str
) -> None:
    running = started(DATABASE_URL=empty_database)
    for command in [running.manage("prepare") for _ in range(2)]:
        _, wrong = command.communicate(timeout=120)
        assert command.returncode == 0, wrong
    with psycopg.connect(empty_database) as prepared:
        found = prepared.execute("SELECT release FROM processes_installation").fetchall()
    assert found == [(RELEASE,)]


@pytest.mark.e2e
def test_a_migration_gives_way_to_those_who_are_at_work(
    started: Callable[..., Stack], empty_database: str
) -> None:
    """A backup holds a table that is to change: the processes of the release before go on using it."""
    running = started(DATABASE_URL=empty_database)
    for arguments in (["prepare"], ["migrate", "devices", "0011"]):
        command = running.manage(*arguments)
        _, wrong = command.communicate(timeout=120)
        assert command.returncode == 0, wrong
    with psycopg.connect(empty_database) as backup:
        backup.execute("LOCK TABLE devices_device IN ACCESS SHARE MODE")
        upgrade = running.manage("prepare")
        assert upgrade.stderr
        assert "trying again" in upgrade.stderr.readline()
        with psycopg.connect(empty_database, options="-c lock_timeout=20s") as at_work:
            at_work.execute("LOCK TABLE devices_device IN ROW EXCLUSIVE MODE")
        assert upgrade.poll() is None
    _, wrong = upgrade.communicate(timeout=120)
    assert upgrade.returncode == 0, wrong
    with psycopg.connect(empty_database) as prepared:
        found = prepared.execute("SELECT max(name) FROM django_migrations WHERE app = 'devices'").fetchall()
    assert found[0][0] >= "0012_text_defaults"


def test_while_the_database_is_away_it_is_looked_at_later(
    keys: Callable[..., None], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A process that turns out to be a stranger ends, as it would have at its start."""
    keys(OLD)
    told: list[int] = []
    monkeypatch.setattr(os, "kill", lambda _pid, number: told.append(number))
    monkeypatch.setattr("thingscale.processes.registration.SEEN_SECONDS", 0.05)
    with monkeypatch.context() as away:
        away.setitem(django_connection.settings_dict, "HOST", "/nowhere")
        registration = Registration("web")
        registration.check()
        assert "looked at later" in caplog.text
        registration.start()
        wait_until(lambda: "can't be registered" in caplog.text, SECONDS, "a try")
    own = Process.objects.filter(pid=os.getpid())  # those of other tests' processes may be there, too
    wait_until(lambda: own.count() == 1, SECONDS, "the row")
    registration.stop()
    assert own.count() == 0
    with pytest.MonkeyPatch.context() as other:
        other.setattr(compatibility, "fingerprints", lambda: ["another"])
        stranger = Registration("web")
        stranger.start()
        wait_until(lambda: told, SECONDS, "its end")
        stranger.stop()
    assert set(told) == {signal.SIGTERM}
    assert compatibility.OTHER_KEY in caplog.text
