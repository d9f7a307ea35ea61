"""Private servers for the duration of a `with`: PostgreSQL, Valkey, and a broker for broker mode. For tests
and benchmarks."""

import os
import shutil
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import TracebackType

from thingscale.local.broker import Broker
from thingscale.local.data_directory import SHARED
from thingscale.local.home import Home
from thingscale.local.postgres import Postgres
from thingscale.local.valkey import Valkey

VARIABLES = {"postgres": "DATABASE_URL", "valkey": "REDIS_URL", "broker": "MQTT_URL"}
ALL = frozenset(VARIABLES)
PLATFORM = ALL - {"broker"}  # the servers that the platform needs
MEMORY = Path("/dev/shm")  # noqa: S108
MEMORY_NEEDED = 2 * 2**30


def not_given(environment: Mapping[str, str], servers: Iterable[str] = PLATFORM) -> frozenset[str]:
    """Those of the servers that the environment does not name."""
    return frozenset(name for name in servers if not environment.get(VARIABLES[name]))


def memory_folder() -> str | None:
    """A folder in memory, if there is room: a new cluster starts several times faster there. Its WAL is kept
    small (postgres.FAST)."""
    roomy = os.access(MEMORY, os.W_OK | os.X_OK) and shutil.disk_usage(MEMORY).free > MEMORY_NEEDED
    return str(MEMORY) if roomy else None


class Servers:
    """`with Servers() as env:` starts the wanted servers; `env` holds the variables that lead to them.

    Without a home they live in a temporary one, which is deleted afterwards. `fast` is for tests that lose
    nothing with the machine: PostgreSQL without fsync, and the temporary home in memory. Each server can be
    stopped, killed (as by kill -9) and started again meanwhile: `servers.postgres.stop()`.
    """

    def __init__(self, home: Path | None = None, want: Iterable[str] = PLATFORM, fast: bool = False) -> None:
        self._given = home
        self._fast = fast
        self.want = frozenset(want)

    def __enter__(self) -> dict[str, str]:
        place = memory_folder() if self._fast else None
        self._temporary = None if self._given else tempfile.mkdtemp(prefix="thingscale-", dir=place)
        self.home = Home(self._given or Path(str(self._temporary)) / "home")
        if self._temporary and os.geteuid() == 0:
            Path(self._temporary).chmod(0o711)  # PostgreSQL's account must pass through
        self.postgres = Postgres(self.home, self._fast, for_tests=True)
        self.valkey = Valkey(self.home)
        self.broker = Broker(self.home)
        self.home.create()
        self.home.lock()
        try:
            for server in reversed(self.wanted):  # PostgreSQL takes longest: it is waited for last
                server.launch()
            secret_key = os.environ.get("THINGSCALE_SECRET_KEY") or self.home.secret_keys()[0]
            environment = {"THINGSCALE_HOME": str(self.home.path), "THINGSCALE_SECRET_KEY": secret_key}
            for server in self.wanted:
                server.wait_ready()
                environment |= server.environment()
            return environment
        except BaseException:
            self.close()
            raise

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def wanted(self) -> list[Postgres | Valkey | Broker]:
        return [server for server in (self.postgres, self.valkey, self.broker) if server.name in self.want]

    def close(self) -> None:
        for server in reversed(self.wanted):
            if self._temporary:
                server.force()  # its data are deleted anyway
            else:
                server.stop()
        self.home.unlock()
        self.home.remove_sockets()
        if self._temporary:
            shutil.rmtree(SHARED / self.home.key, ignore_errors=True)
            shutil.rmtree(self._temporary, ignore_errors=True)
