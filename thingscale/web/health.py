"""Liveness and readiness of the web process. It needs none of Django's threads: busy is not dead."""

import asyncio
from concurrent.futures import ThreadPoolExecutor

from django.db import Error, close_old_connections, connection

from thingscale.background import watched
from thingscale.version import VERSION
from thingscale.web.request_body import Receive, Scope, Send

PATHS = {"/healthz", "/readyz"}
DATABASE_SECONDS = 5.0  # that it may take to answer


class Health:
    """An ASGI application for PATHS."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="health")
        self._check: asyncio.Future[bool] | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """/healthz is OK if the process answers, and shows its version. /readyz is OK if also the database
        answers and no thread fails."""
        status, text = 200, f"OK {VERSION}" if scope["path"] == "/healthz" else "OK"
        if scope["method"] not in {"GET", "HEAD"}:
            status, text = 405, "This can only be read."
        elif scope["path"] == "/readyz" and not await self._database_answers():
            status, text = 503, "DATABASE_UNAVAILABLE"
        elif scope["path"] == "/readyz" and (parts := watched.failing()):
            status, text = 503, f"FAILING: {', '.join(parts)}"
        headers = [
            (b"content-type", b"text/plain; charset=utf-8"),
            (b"content-length", str(len(text)).encode()),
            (b"cache-control", b"no-store"),
        ]
        body = b"" if scope["method"] == "HEAD" else text.encode()
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body, "more_body": False})

    async def _database_answers(self) -> bool:
        """Requests that come during a check get its result, so that many cost one query."""
        if self._check is None or self._check.done():
            self._check = asyncio.get_running_loop().run_in_executor(self._thread, ask_database)
        try:
            return await asyncio.wait_for(asyncio.shield(self._check), DATABASE_SECONDS)
        except TimeoutError:
            return False


def ask_database() -> bool:
    close_old_connections()
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
    except Error:
        return False
    return True
