import os
import stat
from pathlib import Path

import psycopg
import pytest

from thingscale.local import home as home_module
from thingscale.local.errors import StartError
from thingscale.local.home import Home, check_owned
from thingscale.local.postgres import Postgres
from thingscale.local.servers import Servers


@pytest.fixture
def home(folder: Path) -> Home:
    home = Home(folder / "home")
    home.create()
    return home


def test_the_home_is_listed_by_nobody_else(home: Home) -> None:
    assert stat.S_IMODE(home.path.stat().st_mode) & 0o066 == 0


def test_modes_of_existing_folders_stay(folder: Path, outside: list[Home]) -> None:
    existing = folder / "existing"
    outside.append(Home(existing / "home"))
    existing.mkdir(mode=0o750)
    with Servers(existing / "home", want={"postgres"}, fast=True):
        assert stat.S_IMODE(existing.stat().st_mode) == 0o750
        assert stat.S_IMODE(folder.stat().st_mode) == 0o755


def test_a_second_copy_is_told_the_first(home: Home) -> None:
    home.lock()
    with pytest.raises(StartError, match=f"already running in {home.path} .process {os.getpid()}."):
        Home(home.path).lock()
    home.unlock()
    second = Home(home.path)
    assert second.lock() is False
    second.unlock()


def test_a_second_copy_leaves_the_first_alone(folder: Path) -> None:
    first = Servers(folder / "home", want={"valkey"})
    with first:
        with pytest.raises(StartError, match="already running"), Servers(folder / "home", want={"valkey"}):
            pass
        assert first.valkey.ready()


def test_a_crash_of_the_copy_before_is_noticed(home: Home) -> None:
    (home.path / "lock").write_text("1234\n")
    assert home.lock() is True
    home.unlock()


def test_the_secret_key_is_private_and_stays(home: Home) -> None:
    (key,) = home.secret_keys()
    assert len(key) > 40
    assert Home(home.path).secret_keys() == [key]
    assert stat.S_IMODE((home.path / "secret_key").stat().st_mode) == 0o600


def test_a_home_below_a_file_is_one_sentence(folder: Path) -> None:
    (folder / "file").write_text("")
    with pytest.raises(StartError, match="can't be created"):
        Home(folder / "file" / "home").create()


def test_a_full_disk_is_found_before_the_start(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(home_module, "NEEDED_BYTES", 2**62)
    with pytest.raises(StartError, match="The disk is full"):
        home.check_disk()


def test_a_full_disk_at_the_first_start(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    full = home.path / "initdb"
    full.write_text("#!/bin/sh\necho 'initdb: error: could not write: No space left on device' >&2\nexit 1\n")
    full.chmod(0o755)
    monkeypatch.setattr(Postgres, "_binary", lambda _self, name: str(home.path / name))
    with pytest.raises(StartError, match=r"The disk is full: PostgreSQL's first files did not fit into"):
        Postgres(home).program()


def test_ports_file_that_is_damaged_is_ignored(home: Home) -> None:
    (home.path / "ports.json").write_text('{"mqtt": "x"')
    assert home.remembered_ports() == {}
    home.remember_ports({"mqtt": 20_001})
    assert home.remembered_ports() == {"mqtt": 20_001}


def test_a_socket_folder_of_somebody_else_is_refused(folder: Path) -> None:
    trap = folder / "trap"
    trap.symlink_to(folder)
    with pytest.raises(StartError, match="not a private folder of this user"):
        check_owned(trap)


def test_data_of_another_major_version(folder: Path) -> None:
    servers = Servers(folder / "home", want={"postgres"}, fast=True)
    with servers:
        version = servers.postgres.data / "PG_VERSION"
    version.write_text("15\n")
    with pytest.raises(StartError, match=r"are PostgreSQL 15's and this is PostgreSQL 1[89]"), servers:
        pass
    version.write_text("18\n")
    with servers, psycopg.connect(servers.postgres.url):
        pass
