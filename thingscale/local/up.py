"""`manage.py up`: the whole platform from one command."""

import argparse
import errno
import os
import sys
from collections.abc import Iterator, Mapping

import psycopg

from thingscale.lib.env import BadSetting, unused_broker
from thingscale.local import banner, config, external_servers
from thingscale.local.app_processes import Celery, Ingest, Web
from thingscale.local.bootstrap import Bootstrap, FirstAccount
from thingscale.local.errors import StartError
from thingscale.local.home import Home
from thingscale.local.postgres import Postgres
from thingscale.local.servers import PLATFORM as SERVERS
from thingscale.local.servers import VARIABLES, not_given
from thingscale.local.supervisor import Stopped, Supervisor
from thingscale.local.valkey import Valkey

LEFT_BEHIND_SECONDS = 20  # that the processes of a killed supervisor may take to end


def say(text: str) -> None:
    try:
        sys.stdout.write(f"{text}\n")
        sys.stdout.flush()
    except OSError:
        pass  # the terminal has gone; the platform goes on


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--only",
        default="",
        help=f"comma-separated, of {', '.join(config.PARTS)}: what to start here; the rest runs elsewhere",
    )
    parser.add_argument(
        "--workers", default="1", help="gateways that share this machine's MQTT ports; default: %(default)s"
    )


def run(only: str, workers: str) -> int:
    try:
        settings = config.read(only, workers)
        check_servers(settings, os.environ)
        home = Home(settings.home)
        home.create()
        os.umask(0o077)  # of all files from here on, the children's too
        crashed = home.lock()
        home.check_disk()
        config.check_ports(settings, LEFT_BEHIND_SECONDS if crashed else 0)
        external_servers.check(os.environ)
    except (StartError, BadSetting, OSError) as error:
        return _fail(error)
    if sentence := unused_broker():
        say(sentence)
    supervisor = Supervisor(say)
    with supervisor.signals():
        return _supervise(Platform(settings, home, supervisor), supervisor)


def check_servers(settings: config.Config, environment: Mapping[str, str]) -> None:
    """Raises StartError where a part needs a server that is neither named nor to be started."""
    if not settings.parts - SERVERS:
        return
    missing = sorted(not_given(environment, SERVERS - settings.parts))
    if missing:
        named = " and ".join(VARIABLES[name] for name in missing)
        raise StartError(
            f"--only starts no {' and no '.join(missing)}: set {named} to what the parts elsewhere use,"
            f" or add {','.join(missing)} to --only."
        )


def _fail(error: Exception) -> int:
    full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
    sys.stderr.write(f"The disk is full ({error}).\n" if full else f"{error}\n")
    return 1


def _supervise(platform: "Platform", supervisor: Supervisor) -> int:
    failure: Exception | None = None
    try:
        platform.start()
        supervisor.watch()
    except Stopped:
        pass
    except (StartError, BadSetting, OSError, psycopg.Error) as error:
        # A command that the signal reached first is no failure.
        failure = None if supervisor.asked_to_stop else error
    finally:
        supervisor.stop()
        platform.home.remove_sockets()
        platform.home.unlock()
    say("stopped")
    return _fail(failure) if failure else 0


class Platform:
    def __init__(self, settings: config.Config, home: Home, supervisor: Supervisor) -> None:
        self.config = settings
        self.home = home
        self.supervisor = supervisor

    def start(self) -> None:
        environment = self._start_servers()
        account = None
        if self.config.parts - SERVERS:
            setup = Bootstrap(self.supervisor, self.home, environment)
            with setup.alone():  # others may start on the same database
                account = self._set_up(setup)
        for part in self._parts(environment):
            self._start(part)
        say(f"\n{banner.ready(self.config, account)}\n")

    def _parts(self, environment: Mapping[str, str]) -> Iterator[Web | Ingest | Celery]:
        if "web" in self.config.parts:
            yield Web(self.config, self.home, environment)
        if "ingest" in self.config.parts:
            for number in range(1, self.config.workers + 1):
                yield Ingest(self.config, self.home, environment, number)
        if "celery" in self.config.parts:
            yield Celery(self.config, self.home, environment)

    def _start_servers(self) -> Mapping[str, str]:
        found: dict[str, str] = {}
        wanted = not_given(os.environ, SERVERS & self.config.parts)
        postgres = Postgres(self.home)
        for server in (postgres, Valkey(self.home)):
            if server.name in wanted:
                self._start(server)
                found |= server.environment()
        self.home.remember_servers(found)
        self.home.secret_keys()  # so that there is one
        return config.child_environment(self.config, found)

    def _start(self, child: Postgres | Valkey | Web | Ingest | Celery) -> None:
        say(f"starting {child.name}")
        if isinstance(child, Postgres) and child.place.note:
            say(child.place.note)
        self.supervisor.start(child)

    def _set_up(self, setup: Bootstrap) -> FirstAccount | None:
        say("preparing the database")
        setup.migrate()
        if setup.has_secrets_to_encrypt():
            setup.reencrypt()
        if setup.has_account():
            return None
        account = setup.create_account()
        say(f"\n{banner.first_account(account)}\n")
        setup.create_device(account.user_id)
        return account
