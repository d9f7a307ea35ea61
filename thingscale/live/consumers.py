"""The WebSocket of an open page. It is always accepted first: only then the browser can read why it is
closed."""

import asyncio
import contextlib
import logging
from collections import Counter
from importlib import import_module
from typing import Any, ClassVar

import orjson
from channels.auth import get_user
from channels.db import database_sync_to_async
from channels.exceptions import StopConsumer
from channels.generic.websocket import AsyncWebsocketConsumer
from django.conf import settings
from django.db import Error
from redis.exceptions import RedisError

from thingscale.accounts.models import User
from thingscale.processes import live_feed
from thingscale.streams.models import Channel

log = logging.getLogger(__name__)

BEAT_SECONDS = 10.0  # between two renewals of the mark, with a look at the session
NOTICED_SECONDS = 2 * live_feed.TICK_SECONDS  # until every writer has seen the mark
SEND_SECONDS = 5.0  # or the browser is too slow
MAX_SOCKETS = 20  # of an account, in this process

SIGNED_OUT, TOO_MANY, TRY_LATER = 4401, 4429, 1013
AWAY = (RedisError, Error)  # Valkey or PostgreSQL


class LiveConsumer(AsyncWebsocketConsumer):  # type: ignore[misc]
    """Sends `ready` once the page can miss no update any more, then updates. It expects nothing from the
    page."""

    sockets: ClassVar[Counter[int]] = Counter()  # by account

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._account: int | None = None
        self._beat: asyncio.Task[None] | None = None
        self._numbers: dict[int, int] = {}  # channel's primary key -> number
        self._ended = False

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.base_send = send  # Channels would set it only after it has reached Valkey
        await self.accept()
        try:
            await super().__call__(scope, receive, send)
        except (
            *AWAY,
            RuntimeError,
        ) as error:  # as Valkey returns, channels_redis may let two pages read at once
            await self._postpone(error)
        finally:
            if self._beat:
                self._beat.cancel()
            if self._account is not None:
                self.sockets[self._account] -= 1
                if not self.sockets[self._account]:
                    del self.sockets[self._account]
                with contextlib.suppress(*AWAY):
                    await self.channel_layer.group_discard(live_feed.group(self._account), self.channel_name)

    async def connect(self) -> None:
        account = await self._signed_in()
        if account is None:
            await self._end(SIGNED_OUT)
        elif self.sockets[account] >= MAX_SOCKETS:
            await self._end(TOO_MANY)
        else:
            self._account = account
            self.sockets[account] += 1
            await self.channel_layer.group_add(live_feed.group(account), self.channel_name)
            self._beat = asyncio.create_task(self._keep_alive(account), name="live page")

    async def _postpone(self, error: Exception) -> None:
        log.warning("A live page has to wait: %s", type(error).__name__)
        await self._end(TRY_LATER)

    async def _end(self, code: int) -> None:
        """Closes the socket only once, since two tasks may want to. Nothing is sent after it."""
        if not self._ended:
            self._ended = True
            with contextlib.suppress(OSError):  # the browser has closed it
                await self.close(code)

    async def _keep_alive(self, account: int) -> None:
        """Renews the mark, and ends the socket when the session has ended."""
        try:
            await asyncio.to_thread(live_feed.subscribe, account)
            await asyncio.sleep(NOTICED_SECONDS)
            await self._send({"type": "ready"})
            await asyncio.sleep(BEAT_SECONDS)
            while await self._signed_in() == account:
                await asyncio.to_thread(live_feed.subscribe, account)
                await asyncio.sleep(BEAT_SECONDS)
            await self._end(SIGNED_OUT)
        except AWAY as error:
            await self._postpone(error)
        except StopConsumer:
            pass  # the browser has gone
        except Exception as error:  # or the page would stay open and get no more updates
            log.exception("A live page failed")
            await self._postpone(error)

    async def _signed_in(self) -> int | None:
        """The account of the session's actor, if the session is still good."""
        key = self.scope["cookies"].get(settings.SESSION_COOKIE_NAME)
        session = import_module(settings.SESSION_ENGINE).SessionStore(key)
        user = await get_user({"session": session})
        return user.pk if isinstance(user, User) and user.is_active else None

    async def live_update(self, event: dict[str, Any]) -> None:
        update = event["update"]
        messages, channels = update["messages"], update["channels"]
        await self._load_numbers({entry["channel"] for entry in messages} - {None} | set(channels or ()))
        for entry in messages:
            entry["channel"] = self._numbers.get(entry["channel"])
        if channels is not None:  # channels deleted meanwhile are left out
            channels = [self._numbers[channel] for channel in channels if channel in self._numbers]
        await self._send({"type": "update"} | update | {"channels": channels})

    async def _load_numbers(self, channels: set[int]) -> None:
        missing = channels - self._numbers.keys()
        if missing:
            self._numbers |= await database_sync_to_async(_numbers)(self._account, missing)

    async def _send(self, content: dict[str, Any]) -> None:
        """Ends the socket if the browser is too slow, or has gone."""
        if self._ended:
            return
        try:
            async with asyncio.timeout(SEND_SECONDS):
                await self.send(orjson.dumps(content).decode())
        except OSError:
            raise StopConsumer from None


def _numbers(account: int, channels: set[int]) -> dict[int, int]:
    """Numbers of channels by primary key."""
    found = Channel.objects.filter(user=account, pk__in=channels)
    return dict(found.values_list("pk", "number"))
