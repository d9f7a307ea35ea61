"""`manage.py up`: starts the whole platform."""

import argparse
import errno
import os
import sys
from collections.abc import Mapping

import psycopg

from thingscale.lib.env import BadSetting, unused_broker
from thingscale.local import banner, config, external_servers
from thingscale.local.app_processes import AppProcess, CeleryProcess, IngestProcess, WebProcess
from thingscale.local.bootstrap import Bootstrap
from thingscale.local.errors import StartError
from thingscale.local.home import Home
from thingscale.local.postgres import Postgres
from thingscale.local.servers import PLATFORM as SERVERS
from thingscale.local.servers import VARIABLES, not_given
from thingscale.local.supervisor import Stopped, Supervisor
from thingscale.local.valkey import Valkey
from thingscale.processes.service_manager import ServiceManager

LEFT_BEHIND_SECONDS = 20  # for the processes of a killed supervisor to end


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
    manager = ServiceManager()  # before other processes are started
    try:
        settings = config.read(only, workers)
        check_servers(settings, os.environ)
        home = Home(settings.home)
        home.create()
        os.umask(0o077)  # for all files from here on, also of the children
        crashed = home.lock()
        home.check_disk()
        config.check_ports(settings, LEFT_BEHIND_SECONDS if crashed else 0)
        external_servers.check(os.environ)
    except (StartError, BadSetting, OSError) as error:
        return _fail(error)
    if sentence := unused_broker():
        say(sentence)
    supervisor = Supervisor(say, manager)
    with supervisor.signals():
        return _supervise(Platform(settings, home, supervisor), supervisor)


def check_servers(settings: config.Config, environment: Mapping[str, str]) -> None:
    """Raises StartError if a part needs a server that is neither named nor started."""
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
        supervisor.manager.ready()
        supervisor.watch()
    except Stopped:
        pass
    except (StartError, BadSetting, OSError, psycopg.Error) as error:
        # A command that a signal has stopped is no failure.
        failure = None if supervisor.signals_received else error
    finally:
        supervisor.manager.stopping()
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
        urls: dict[str, str] = {}
        wanted = not_given(os.environ, SERVERS & self.config.parts)
        for server in (Postgres(self.home), Valkey(self.home)):
            if server.name in wanted:
                self._start(server)
                urls |= server.environment()
        self.home.remember_servers(urls)
        self.home.secret_keys()  # makes one at the first start
        environment = config.child_environment(self.config, urls)
        account = None
        if self.config.parts - SERVERS:
            bootstrap = Bootstrap(self.supervisor, self.home, environment)
            with bootstrap.alone():  # others may start on the same database
                say("preparing the database")
                bootstrap.migrate()
                if bootstrap.has_secrets_to_encrypt():
                    bootstrap.reencrypt()
                if not bootstrap.has_account():
                    account = bootstrap.create_account()
                    say(f"\n{banner.first_account(account)}\n")
                    bootstrap.create_device(account.user_id)
        if "web" in self.config.parts:
            self._start(WebProcess(self.config, self.home, environment))
        if "ingest" in self.config.parts:
            for number in range(1, self.config.workers + 1):
                self._start(IngestProcess(self.config, self.home, environment, number))
        if "celery" in self.config.parts:
            self._start(CeleryProcess(self.config, self.home, environment))
        say(f"\n{banner.ready(self.config, account)}\n")

    def _start(self, child: Postgres | Valkey | AppProcess) -> None:
        say(f"starting {child.name}")
        if isinstance(child, Postgres) and child.directory.note:
            say(child.directory.note)
        self.supervisor.start(child)
