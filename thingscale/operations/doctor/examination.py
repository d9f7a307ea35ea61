"""Runs all checks. None of them can hold up the others: each has a time limit."""

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any, LiteralString

import psycopg
import redis

from thingscale.operations.doctor import database, machine, valkey
from thingscale.operations.doctor.database import CONNECT_SECONDS
from thingscale.operations.doctor.findings import Finding, Findings, problem

CHECK_SECONDS = 15.0
LIMITS: LiteralString = "SET statement_timeout = '10s'; SET lock_timeout = '5s'"

MACHINE: dict[str, Callable[[], Findings]] = {
    "settings": machine.check_settings,
    "secret key": machine.check_secret_key,
    "home": machine.check_home,
    "disk": machine.check_disk,
    "open files": machine.check_open_files,
    "static files": machine.check_static_files,
    "mail": machine.check_mail,
    "certificate": machine.check_certificate,
    "addresses": machine.check_addresses,
}
DATABASE: dict[str, Callable[[psycopg.Connection], Findings]] = {
    "PostgreSQL's version": database.check_version,
    "encoding": database.check_encoding,
    "durability": database.check_durability,
    "connections": database.check_connections,
    "writing": database.check_writing,
    "rights": database.check_rights,
    "clock": database.check_clock,
    "schema": database.check_schema,
    "keys": database.check_keys,
    "partitions": database.check_partitions,
    "processes": database.check_processes,
    "ports": database.check_ports,
    "long transactions": database.check_long_transactions,
}
VALKEY: dict[str, Callable[[redis.Redis], Findings]] = {
    "persistence": valkey.check_persistence,
    "eviction": valkey.check_eviction,
    "heartbeat": valkey.check_heartbeat,
}


def connect(parameters: dict[str, Any], application_name: str) -> psycopg.Connection:
    """With time limits. Raises psycopg.Error."""
    known = {"connect_timeout": CONNECT_SECONDS} | parameters
    connection = psycopg.connect(**known, autocommit=True, application_name=application_name)
    try:
        connection.execute(LIMITS)  # as options of the connection they would be refused by pgbouncer
    except psycopg.Error:
        connection.close()
        raise
    return connection


@dataclass
class Examination:
    """Of the servers that these parameters lead to, and of this machine."""

    database: dict[str, Any]  # psycopg's parameters
    valkey: str  # its URL
    looked: list[str] = field(default_factory=list)  # names of the checks that were made

    def __post_init__(self) -> None:
        self.connection: psycopg.Connection | None = None
        self._client: redis.Redis | None = None
        self._hung: set[str] = set()

    def run(self) -> Iterator[Finding]:
        for name, check in MACHINE.items():
            yield from self._limited(name, check)
        yield from self._limited("PostgreSQL", self._connect, pause=CONNECT_SECONDS)
        if self.connection is None:
            yield from self._limited("ports", partial(database.check_ports, None))
        else:
            yield from self._limited("pooling", partial(database.check_pooling, self.database))
            for name, look in DATABASE.items():
                yield from self._limited(name, partial(look, self.connection))
                if self.connection.broken or name in self._hung:
                    yield problem(
                        f"PostgreSQL did not answer any more while {name} was looked at.",
                        "Look into its log, and repeat this.",
                    )._replace(check="PostgreSQL")
                    break
            else:
                self.connection.close()
        yield from self._limited("Valkey", self._ping)
        if self._client is not None:
            for name, seek in VALKEY.items():
                yield from self._limited(name, partial(seek, self._client))
            self._client.close()

    def _connect(self) -> Findings:
        try:
            self.connection = connect(self.database, "thingscale-doctor")
        except psycopg.OperationalError as error:
            yield database.unreachable(error, self.database)

    def _ping(self) -> Findings:
        limits = {"socket_timeout": CONNECT_SECONDS, "socket_connect_timeout": CONNECT_SECONDS}
        try:
            client = redis.Redis.from_url(self.valkey, **limits)
            client.ping()
            self._client = client
        except (redis.RedisError, ValueError) as error:
            yield valkey.unreachable(error)

    def _limited(self, name: str, check: Callable[[], Findings], pause: float = 0) -> list[Finding]:
        """In a thread that is left behind when it takes too long."""
        found: list[Finding] = []

        def work() -> None:
            try:
                found.extend(check())
            except (psycopg.Error, redis.RedisError, OSError) as error:
                text = (str(error).strip().splitlines() or [""])[0].rstrip(".")
                found.append(
                    problem(
                        f"This could not be looked at: {type(error).__name__} {text}.".replace(" .", "."),
                        "Repair what else is found, and repeat this.",
                    )
                )

        thread = threading.Thread(target=work, name=f"doctor: {name}", daemon=True)
        thread.start()
        thread.join(CHECK_SECONDS + pause)
        self.looked.append(name)
        if thread.is_alive():
            self._hung.add(name)
            found = [
                problem(f"There was no answer within {CHECK_SECONDS:g} seconds.", "Look at the server's log.")
            ]
        return [finding._replace(check=name) for finding in found]
