"""Prepares the database at the start, and creates the first account, with a channel and a device."""

import json
import secrets
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import LiteralString

import psycopg

from thingscale.lib.env import secret_keys
from thingscale.local.app_processes import manage
from thingscale.local.child_process import Program
from thingscale.local.config import PROJECT
from thingscale.local.errors import StartError
from thingscale.local.home import Home
from thingscale.local.supervisor import Supervisor

EMAIL = "admin@localhost"
DEVICE = "first-device"
LOCK = 7_468
WAIT_SECONDS = 0.2  # between two tries to get the lock
ANY_ACCOUNT = "SELECT EXISTS (SELECT FROM accounts_user)"
UNENCRYPTED = """SELECT EXISTS (SELECT FROM otp_totp_totpdevice d
    LEFT JOIN accounts_authenticatorsecret s ON s.device_id = d.id WHERE s.device_id IS NULL)"""


@dataclass(frozen=True)
class FirstAccount:
    user_id: str
    api_token: str
    device_token: str
    password: str


class Bootstrap:
    """Runs management commands as child processes, so that the supervisor need not load Django."""

    def __init__(self, supervisor: Supervisor, home: Home, environment: Mapping[str, str]) -> None:
        self._supervisor = supervisor
        self._home = home.path
        self._log = home.logs / "setup.log"
        self._environment = environment

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Waits until no other process prepares this database."""
        with psycopg.connect(
            self._environment["DATABASE_URL"], connect_timeout=10, autocommit=True
        ) as connection:
            while not connection.execute("SELECT pg_try_advisory_lock(%s)", [LOCK]).fetchall()[0][0]:
                self._supervisor.tick()
                time.sleep(WAIT_SECONDS)
            yield

    def migrate(self) -> None:
        """`prepare` first checks that the database is the platform's, and which processes use it."""
        self._manage("prepare")

    def has_account(self) -> bool:
        return self._is_true(ANY_ACCOUNT)

    def has_secrets_to_encrypt(self) -> bool:
        """Secrets of an earlier version, or encrypted with an older secret key."""
        return len(secret_keys(self._home / "secret_key")) > 1 or self._is_true(UNENCRYPTED)

    def reencrypt(self) -> None:
        self._manage("reencrypt")

    def _is_true(self, question: LiteralString) -> bool:
        with psycopg.connect(self._environment["DATABASE_URL"], connect_timeout=10) as connection:
            row = connection.execute(question).fetchone()
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
