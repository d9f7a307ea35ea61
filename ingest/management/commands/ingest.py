import asyncio
import logging
import resource
import signal
import sys
from collections.abc import Callable
from functools import partial
from typing import Any, Protocol

import uvloop
from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import Error

from ingest import store_server
from ingest.connectors.broker import BrokerWorker
from ingest.gateway.server import Gateway
from ingest.metrics_server import MetricsServer
from ingest.service import Ingest
from ingest.store_client import RemoteIngest
from thingscale.background.service_watch import keep_telling
from thingscale.lib import env
from thingscale.lib.gc_tuning import freeze_after_start
from thingscale.processes import secret_key
from thingscale.processes.registration import Registration
from thingscale.processes.service_manager import ServiceManager

log = logging.getLogger(__name__)


class Service(Protocol):
    @property
    def ingest(self) -> Ingest | RemoteIngest: ...
    def gauges(self) -> dict[str, int]: ...
    async def start(self) -> None: ...
    async def stop(self) -> None: ...


class Command(BaseCommand):
    help = (
        "Takes what devices publish: as the MQTT gateway, or with THINGSCALE_INGEST=broker behind a broker."
    )

    requires_system_checks = ()  # they load all views, 15 MB that this process never needs

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--leave",
            action="store_true",
            help="broker mode: store what waits for the worker of this client id, end its session, and exit",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        if options["leave"] and settings.INGEST_MODE != "broker":
            raise CommandError("--leave is for THINGSCALE_INGEST=broker: the gateway is no worker.")
        secret_key.require()
        if sentence := env.unused_broker():
            log.warning("%s", sentence)
        raise_open_files()
        manager = ServiceManager()  # before another process is started
        registration = Registration("ingest")
        registration.require()
        try:
            if options["leave"]:
                uvloop.run(leave_the_broker())
            elif settings.INGEST_MODE == "broker":
                uvloop.run(serve(BrokerWorker, registration, manager))
            else:
                store = store_server.start()
                gateway = partial(Gateway, store.connection, store.gateway)
                uvloop.run(serve(gateway, registration, manager, store.process))
        except OSError as error:
            raise CommandError(f"Can't listen: {error.strerror or error}.") from None
        except Error as error:
            name = type(error).__name__
            raise CommandError(f"The database is away or wrong ({name}): see DATABASE_URL.") from None
        sys.exit(0)


def raise_open_files() -> None:
    """A connection is an open file, and the usual soft limit is 1,024."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


async def leave_the_broker() -> None:
    worker = BrokerWorker(leaving=True)
    await worker.start()
    await worker.leave()
    await worker.stop()
    log.info("Left: the broker keeps nothing for %s any more", settings.BROKER_CLIENT_ID)


async def serve(
    make: Callable[[], Service],
    registration: Registration,
    manager: ServiceManager,
    store: int | None = None,
) -> None:
    """Until SIGTERM or SIGINT; a second one ends at once. `store`: the id of its process."""
    service = make()
    metrics_server = MetricsServer(settings.METRICS_PORT, service.ingest, service.gauges, store)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()

    def leave() -> None:
        if stop.is_set():
            raise SystemExit(1)
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, leave)
    starting, stopping = loop.create_task(service.start()), loop.create_task(stop.wait())
    await asyncio.wait({starting, stopping}, return_when=asyncio.FIRST_COMPLETED)
    if not starting.done():  # the database is away, and nobody is let in yet: there is nothing to store
        starting.cancel()
        return
    await starting
    metrics_server.start()
    registration.start()
    freeze_after_start()
    manager.ready()
    telling = asyncio.create_task(keep_telling(manager))
    await stopping
    manager.stopping()
    await service.stop()
    metrics_server.stop()
    telling.cancel()
    await asyncio.to_thread(registration.stop)
