"""Backups of the tests' database, restored into another one. Under load: tests/drills/test_backup.py."""

import gzip
import json
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any, LiteralString

import psycopg
import pytest
from django.conf import settings as loaded
from django.core.management import CommandError, call_command
from pytest_django import Settings
from small_s3 import BUCKET, KEYS, SmallS3, small_s3
from stack import Stack, wait_until
from support import Account

from thingscale.operations.backup import (
    BackupError,
    backing_up,
    manifest,
    places,
    programs,
    restoring,
    what_postgresql_says,
)
from thingscale.processes import compatibility, own_connection

MIB = 2**20


@pytest.fixture
def filled(no_shared_stack: None, account: Account) -> Account:
    """With a key that a process has recorded."""
    account.device("d1")
    account.channel(0)
    with compatibility.connected() as connection:
        compatibility.check(connection)
    return account


@pytest.fixture
def empty(db: None) -> Iterator[dict[str, Any]]:
    """Parameters of a database without tables."""
    here = own_connection.parameters()
    name = f"{here['dbname']}_restored"
    with psycopg.connect(**here, autocommit=True) as connection:
        connection.execute(f'CREATE DATABASE "{name}" TEMPLATE template0')
    yield here | {"dbname": name}
    with psycopg.connect(**here, autocommit=True) as connection:
        connection.execute(f'DROP DATABASE "{name}" WITH (FORCE)')


def back_up(target: Path | str, keep: int = 7) -> backing_up.Made:
    return backing_up.back_up(places.find(str(target)), own_connection.parameters(), 2, keep)


def value(parameters: dict[str, Any], question: str) -> Any:
    with psycopg.connect(**parameters) as connection:
        return connection.execute(question).fetchall()[0][0]


def test_what_is_backed_up_is_restored(filled: Account, empty: dict[str, Any], tmp_path: Path) -> None:
    made = back_up(tmp_path)
    folder = tmp_path / made.name
    assert made.manifest.rows["devices_device"] == 1
    assert restoring.restore(folder, empty, jobs=2, overwrite=False) == made.manifest
    for question in (
        "SELECT count(*) FROM devices_device",
        "SELECT string_agg(encode(ciphertext, 'hex'), ',' ORDER BY id) FROM accounts_token",
        "SELECT count(*) FROM pg_class WHERE relkind IN ('r', 'p', 'i', 'I', 'S') AND relnamespace = 2200",
        "SELECT string_agg(fingerprint, ',') FROM processes_secretkey",
    ):
        assert value(empty, question) == value(own_connection.parameters(), question), question


def test_the_secret_key_is_not_in_it(filled: Account, tmp_path: Path) -> None:
    folder = tmp_path / back_up(tmp_path).name
    secrets = [loaded.SECRET_KEY, filled.device_token, filled.api_token]
    for path in (path for path in folder.rglob("*") if path.is_file()):
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        assert not [secret for secret in secrets if secret.encode() in content], path
    assert folder.stat().st_mode & 0o777 == 0o700


def test_the_commands(filled: Account, empty: dict[str, Any], tmp_path: Path) -> None:
    """As a person calls them, each in a process of its own."""
    here = own_connection.parameters()
    stack = Stack()
    with stack.manage("backup", str(tmp_path)) as backup:
        said, wrong = backup.communicate(timeout=120)
    assert backup.returncode == 0, wrong
    stored = value(own_connection.parameters(), "SELECT count(*) FROM datapoint")  # by tests before, too
    assert f": {stored:,} datapoint" in said
    assert "The secret key is not in it" in said
    url = f"postgresql://{here['user']}@/{empty['dbname']}?host={here['host']}"
    for arguments, code, words in (
        (["--list"], 0, "thingscale-"),
        (["--check"], 0, "is whole, and this secret key is its own"),
        (["--name", "thingscale-1"], 1, "has no whole backup thingscale-1: `--list` prints"),
        ([], 0, "is restored: "),
        ([], 1, "The database has tables already"),
    ):
        with stack.another(DATABASE_URL=url).manage("restore", str(tmp_path), *arguments) as restore:
            said, wrong = restore.communicate(timeout=120)
        assert restore.returncode == code, wrong
        assert words in said + wrong


def test_what_is_no_place_of_backups_is_said(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for target, code, words in (
        (tmp_path / "nowhere", 1, "There is no folder"),
        (tmp_path / "empty", 0, "has no whole backup."),
    ):
        with Stack().manage("restore", "--list", str(target)) as restore:
            said, wrong = restore.communicate(timeout=120)
        assert (restore.returncode, said) == (code, "")
        assert words in wrong


def test_a_private_postgresql_that_does_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    error = psycopg.OperationalError("connection failed")
    monkeypatch.delenv("DATABASE_URL", raising=False)
    assert "`manage.py up --only postgres,valkey`" in what_postgresql_says(error)
    monkeypatch.setenv("DATABASE_URL", "postgresql://x/y")
    assert what_postgresql_says(error) == "PostgreSQL: connection failed"


def test_a_backup_that_is_killed_is_none(filled: Account, tmp_path: Path) -> None:
    with psycopg.connect(**own_connection.parameters()) as other:
        other.execute("LOCK TABLE accounts_user")  # pg_dump waits for it
        with Stack().manage("backup", str(tmp_path)) as backup:
            wait_until(lambda: dumping("AND wait_event_type = 'Lock'"), 60, "pg_dump")
            backup.send_signal(signal.SIGKILL)
            backup.communicate(timeout=60)
        wait_until(lambda: not dumping(), 60, "pg_dump to end with it")
    assert list(tmp_path.glob("*.partial"))
    assert places.find(str(tmp_path)).names() == []
    made = back_up(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [made.name]


def dumping(condition: LiteralString = "") -> bool:
    with psycopg.connect(**own_connection.parameters()) as connection:
        question = "SELECT FROM pg_stat_activity WHERE application_name = 'pg_dump'"
        return connection.execute(f"{question} {condition}").fetchone() is not None


def test_two_at_once_are_one(filled: Account, tmp_path: Path) -> None:
    with psycopg.connect(**own_connection.parameters()) as other:
        other.execute("SELECT pg_advisory_lock(%s)", [backing_up.LOCK])
        with pytest.raises(BackupError, match="Another backup of this database is being made"):
            back_up(tmp_path)
    assert not list(tmp_path.iterdir())


def test_the_newest_are_kept(filled: Account, tmp_path: Path) -> None:
    for day in range(1, 5):
        old = tmp_path / f"thingscale-2026010{day}T000000Z"
        old.mkdir()
        (old / manifest.NAME).write_text("{}")
    (tmp_path / "mine").mkdir()
    made = back_up(tmp_path, keep=2)
    left = [made.name, "thingscale-20260104T000000Z"]
    assert made.deleted == [f"thingscale-2026010{day}T000000Z" for day in (3, 2, 1)]
    assert places.find(str(tmp_path)).names() == left
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([*left, "mine"])


def spoil(folder: Path) -> None:
    largest = max((folder / manifest.DUMP).glob("*.gz"), key=lambda path: path.stat().st_size)
    content = bytearray(largest.read_bytes())
    content[len(content) // 2] ^= 1
    largest.write_bytes(content)


def lose(folder: Path) -> None:
    next((folder / manifest.DUMP).glob("*.gz")).unlink()


def of_later(folder: Path) -> None:
    told = json.loads((folder / manifest.NAME).read_text())
    (folder / manifest.NAME).write_text(json.dumps(told | {"release": 99}))


def of_others(folder: Path) -> None:
    told = json.loads((folder / manifest.NAME).read_text())
    (folder / manifest.NAME).write_text(json.dumps(told | {"secret_keys": ["another"]}))


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (spoil, "differs from what was written: this backup can't be used"),
        (lose, "is missing: this backup can't be used"),
        (of_later, "The backup is of release 99"),
        (of_others, "installation with another secret key"),
        (lambda folder: (folder / manifest.NAME).unlink(), "is no whole backup"),
        (lambda folder: (folder / manifest.NAME).write_text("{"), "can't be read: it is damaged"),
    ],
)
def test_what_can_not_be_used_touches_no_database(
    filled: Account, empty: dict[str, Any], tmp_path: Path, change: Any, sentence: str
) -> None:
    folder = tmp_path / back_up(tmp_path).name
    change(folder)
    with pytest.raises(BackupError, match=sentence):
        restoring.restore(folder, empty, jobs=2, overwrite=True)
    assert value(empty, "SELECT count(*) FROM pg_class WHERE relnamespace = 2200") == 0


def test_rows_that_are_missing_are_noticed(filled: Account, tmp_path: Path) -> None:
    """As when a dump looks whole, and is not."""
    made = back_up(tmp_path)
    folder, tools = tmp_path / made.name, programs.find(18)
    manifest.check_rows(folder, made.manifest, tools)
    more = made.manifest.rows | {"devices_device": 2}
    with pytest.raises(BackupError, match="has 1 row of devices_device, and the database had 2"):
        manifest.check_rows(folder, manifest.Manifest(**vars(made.manifest) | {"rows": more}), tools)
    for path in (folder / manifest.DUMP).glob("*.gz"):
        path.write_bytes(gzip.compress(gzip.decompress(path.read_bytes())[:-1]))
    with pytest.raises(BackupError, match="is damaged"):
        manifest.check_rows(folder, made.manifest, tools)


def test_what_is_in_the_database_is_deleted_only_if_told(
    filled: Account, empty: dict[str, Any], tmp_path: Path
) -> None:
    folder = tmp_path / back_up(tmp_path).name
    restoring.restore(folder, empty, jobs=2, overwrite=False)
    with psycopg.connect(**empty) as connection:
        connection.execute("DELETE FROM devices_device")
    with pytest.raises(BackupError, match="repeat this with --overwrite"):
        restoring.restore(folder, empty, jobs=2, overwrite=False)
    with psycopg.connect(**empty) as connection:
        connection.execute(
            """INSERT INTO processes_process (part, host, pid, version, release, secret_key)
            VALUES ('web', 'machine-2', 1, '', 1, '')"""
        )
    with pytest.raises(BackupError, match=r"stop them first \(web on machine-2\)"):
        restoring.restore(folder, empty, jobs=2, overwrite=True)
    assert value(empty, "SELECT count(*) FROM devices_device") == 0
    with psycopg.connect(**empty) as connection:
        connection.execute("DELETE FROM processes_process")
    restoring.restore(folder, empty, jobs=2, overwrite=True)
    assert value(empty, "SELECT count(*) FROM devices_device") == 1


def test_a_restore_that_fails_leaves_nothing_that_starts(
    filled: Account, empty: dict[str, Any], tmp_path: Path
) -> None:
    folder = tmp_path / back_up(tmp_path).name
    with psycopg.connect(**empty) as connection:  # a function is no table
        connection.execute("CREATE TYPE devices_device AS (a int)")
    with pytest.raises(BackupError, match=r"pg_restore failed: .*devices_device"):
        restoring.restore(folder, empty, jobs=2, overwrite=False)
    with psycopg.connect(**empty) as connection, pytest.raises(compatibility.StartRefused):
        compatibility.check_schema(connection)


def test_programs_that_are_too_old() -> None:
    with pytest.raises(BackupError, match=r"PostgreSQL 99, .* install postgresql-client-99"):
        programs.find(99)


def test_a_password_is_seen_by_nobody(tmp_path: Path) -> None:
    program = tmp_path / "program"
    program.write_text('#!/bin/sh\necho "$@"; echo "$PGPASSWORD"\n')
    program.chmod(0o755)
    arguments, password = programs.run(program, ["--x"], {"user": "u", "password": "hunter2"}).splitlines()
    assert arguments == "--x --dbname=user=u"
    assert password == "hunter2"


def test_a_target_that_can_not_be_written(filled: Account, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(CommandError, match=r"Nothing can be written to .*/file/folder: Not a directory"):
        call_command("backup", str(tmp_path / "file" / "folder"))
    with pytest.raises(CommandError, match="is no folder, and no s3://bucket/prefix"):
        call_command("backup", "ftp://example.com/")


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch, settings: Settings, tmp_path: Path) -> Iterator[SmallS3]:
    settings.THINGSCALE_HOME = tmp_path / "home"
    with small_s3() as (state, address):
        for name, text in (KEYS | {"AWS_ENDPOINT": address}).items():
            monkeypatch.setenv(name, text)
        yield state


TARGET = f"s3://{BUCKET}/daily"


def test_a_backup_in_s3(filled: Account, empty: dict[str, Any], bucket: SmallS3) -> None:
    old = "thingscale-20260101T000000Z"
    bucket.objects |= {
        f"daily/{old}/{manifest.NAME}": b"{}",
        f"daily/{old}/dump/1.dat.gz": b"x",
        "daily/thingscale-20250101T000000Z/dump/1.dat.gz": b"left by one that was killed",
        "other": b"of somebody else",
    }
    made = back_up(TARGET, keep=1)
    assert made.deleted == [old]
    assert {name.split("/")[1] for name in bucket.objects if "/" in name} == {made.name}
    assert "other" in bucket.objects
    place = places.find(TARGET)
    assert place.names() == [made.name]
    with place.open(made.name) as folder:
        restoring.restore(folder, empty, jobs=2, overwrite=False)
    assert not list(loaded.THINGSCALE_HOME.iterdir()), "nothing is left on this machine"
    largest = max(bucket.objects, key=lambda name: len(bucket.objects[name]))
    bucket.objects[largest] = bucket.objects[largest][:-1] + b"?"
    with place.open(made.name) as folder, pytest.raises(BackupError, match="differs from what was written"):
        restoring.check_backup(folder)


def test_a_backup_that_s3_does_not_take(filled: Account, bucket: SmallS3) -> None:
    bucket.refusing = manifest.NAME
    with pytest.raises(BackupError, match=f"{TARGET} can't be used: "):
        back_up(TARGET)
    bucket.refusing = ""
    assert places.find(TARGET).names() == []


def test_large_objects_go_in_parts(bucket: SmallS3, tmp_path: Path) -> None:
    (tmp_path / manifest.DUMP).mkdir()
    content = bytes(range(256)) * (12 * MIB // 256)
    (tmp_path / manifest.DUMP / "1.dat.gz").write_bytes(content)
    files = manifest.describe_files(tmp_path)
    made = manifest.Manifest(1, "", 1, "18.0", "18.0", "", [], {}, files)
    made.write(tmp_path)
    name = "thingscale-20260101T000000Z"
    places.find(TARGET).keep(name, tmp_path)
    assert bucket.objects[f"daily/{name}/dump/1.dat.gz"] == content
    with places.find(TARGET).open(name) as folder:
        manifest.check_files(folder, made)
