"""The first account, and a channel and a device for its first datapoint."""

import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass

import psycopg

from thingscale.local.config import PROJECT
from thingscale.local.errors import StartError
from thingscale.local.home import Home
from thingscale.local.process import Program
from thingscale.local.stack import manage
from thingscale.local.supervisor import Supervisor

EMAIL = "admin@localhost"
DEVICE = "first-device"
ANY_ACCOUNT = "SELECT EXISTS (SELECT FROM accounts_user)"


@dataclass(frozen=True)
class FirstAccount:
    user_id: str
    api_token: str
    device_token: str
    password: str


class Setup:
    """Runs management commands as children: models would drag Django into the supervisor."""

    def __init__(self, supervisor: Supervisor, home: Home, environment: Mapping[str, str]) -> None:
        self._supervisor = supervisor
        self._log = home.logs / "setup.log"
        self._environment = environment

    def migrate(self) -> None:
        self._manage("migrate", "--noinput")

    def has_account(self) -> bool:
        with psycopg.connect(self._environment["DATABASE_URL"], connect_timeout=10) as connection:
            row = connection.execute(ANY_ACCOUNT).fetchone()
        return bool(row and row[0])

    def create_account(self) -> FirstAccount:
        password = secrets.token_urlsafe(12)
        text = self._manage("create_account", "--email", EMAIL, f"--password={password}", "--staff", "--json")
        try:
            account = json.loads(text)
            return FirstAccount(account["user_id"], account["api_token"], account["device_token"], password)
        except (ValueError, KeyError, TypeError):
            raise StartError("manage.py create_account did not print the account as JSON.") from None

    def create_device(self, user_id: str) -> None:
        self._manage("create_channel", user_id, "0", "--name", "First channel")
        self._manage("create_device", user_id, DEVICE, "--channel", "0")

    def _manage(self, *arguments: str) -> str:
        program = Program(manage(*arguments), log=self._log, env=self._environment, cwd=PROJECT)
        return self._supervisor.run(f"manage.py {arguments[0]}", program)
