"""The web process, with one port for everything. The HTTP connector, the questions of brokers, health and
static files are plain ASGI; live values use Channels; everything else goes to Django's WSGI handler.

Django's own ASGI handler is 8 to 15 times slower than its WSGI handler (docs/decisions/0003-asgi.md).
"""

import asyncio
import os
import resource

import django

from thingscale.processes import secret_key

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "thingscale.settings")
secret_key.require()
django.setup()

from django.conf import settings  # noqa: E402

from ingest.connectors import http  # noqa: E402
from ingest.connectors.broker_auth import PREFIX as BROKER_AUTH  # noqa: E402
from ingest.connectors.broker_auth import BrokerAuth  # noqa: E402
from ingest.connectors.http_asgi import HttpConnector  # noqa: E402
from ingest.connectors.intake import routes as intakes  # noqa: E402
from thingscale.accounts.callers import identify  # noqa: E402
from thingscale.background.service_watch import keep_telling  # noqa: E402
from thingscale.lib.gc_tuning import freeze_after_start  # noqa: E402
from thingscale.live import routing  # noqa: E402
from thingscale.processes.compatibility import StartRefused  # noqa: E402
from thingscale.processes.registration import Registration  # noqa: E402
from thingscale.processes.service_manager import ServiceManager  # noqa: E402
from thingscale.web import health, static_files  # noqa: E402
from thingscale.web.cors import Cors  # noqa: E402
from thingscale.web.https import HttpsListener  # noqa: E402
from thingscale.web.request_body import Receive, Scope, Send  # noqa: E402
from thingscale.web.wsgi_threads import WSGIThreads  # noqa: E402
from thingscale.wsgi import application as wsgi  # noqa: E402

_django = WSGIThreads(wsgi, identify)
_connector = HttpConnector()
_broker_auth = BrokerAuth(_connector.ingest.device_tokens)
_health = health.Health()
_static_files = static_files.StaticFiles()
SHARED = ("/v1", "/v2")  # pages of other origins may call these, if a setting lists the origins


async def http_application(scope: Scope, receive: Receive, send: Send) -> None:
    path = scope["path"]
    if http.kind_of(path):
        await _connector(scope, receive, send)
    elif intakes.route(path):
        await _connector.intakes(scope, receive, send)
    elif path.startswith(BROKER_AUTH):
        await _broker_auth(scope, receive, send)
    elif path in health.PATHS:
        await _health(scope, receive, send)
    elif path.startswith(settings.STATIC_URL):
        await _static_files(scope, receive, send)
    else:
        await _django(scope, receive, send)


_shared_with_pages = Cors(http_application)


def is_shared(path: str) -> bool:
    return bool(settings.CORS_ORIGINS) and (
        http.kind_of(path) is not None or path in SHARED or path.startswith(tuple(f"{p}/" for p in SHARED))
    )


async def application(scope: Scope, receive: Receive, send: Send) -> None:
    match scope["type"]:
        case "lifespan":
            await _lifespan(scope, receive, send)
        case "http" if is_shared(scope["path"]):
            await _shared_with_pages(scope, receive, send)
        case "http":
            await http_application(scope, receive, send)
        case "websocket" if scope["path"] == routing.PATH:
            await routing.application(scope, receive, send)
        case "websocket":
            await send({"type": "websocket.close", "code": 4404})


async def _lifespan(scope: Scope, receive: Receive, send: Send) -> None:
    await receive()
    manager = ServiceManager()
    registration = Registration("web")
    try:
        await asyncio.to_thread(registration.check)
    except StartRefused as refused:
        await send({"type": "lifespan.startup.failed", "message": str(refused)})
        return
    # The usual limit of open files, 1024, is meant for programs that use select().
    _, highest = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (highest, highest))
    _connector.start()
    _broker_auth.start()
    state = scope.get("state", {})
    state["direct"] = _connector  # for http_protocol
    https = HttpsListener(application)
    try:
        await https.start(state)
    except OSError as error:
        message = f"HTTPS can't start (THINGSCALE_HTTPS_PORT, _TLS_CERT, _TLS_KEY): {error}"
        await _connector.stop()
        await send({"type": "lifespan.startup.failed", "message": message})
        return
    registration.start()
    static_files.version()  # reads all files once
    freeze_after_start()
    await send({"type": "lifespan.startup.complete"})
    manager.ready()  # the server listens on its port in the same moment
    telling = asyncio.create_task(keep_telling(manager))
    await receive()
    manager.stopping()
    telling.cancel()
    await https.stop()
    _broker_auth.stop()
    await _connector.stop()
    await asyncio.to_thread(registration.stop)
    await send({"type": "lifespan.shutdown.complete"})
