"""A page's socket, and a session to open it with."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any

from django.conf import settings
from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY
from stack import Stack
from support import Account
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect
from websockets.typing import Origin

SECONDS = 60


def sign_in(account: Account) -> str:
    """The key of a session as the sign-in page makes it."""
    session = import_module(settings.SESSION_ENGINE).SessionStore()
    session[SESSION_KEY] = str(account.user.pk)
    session[BACKEND_SESSION_KEY] = settings.AUTHENTICATION_BACKENDS[0]
    session[HASH_SESSION_KEY] = account.user.get_session_auth_hash()
    session.create()
    key: str = session.session_key
    return key


@contextmanager
def open_socket(stack: Stack, session: str = "", origin: str | None = None) -> Iterator[ClientConnection]:
    own = f"http://127.0.0.1:{stack.http}"
    cookie = {"Cookie": f"{settings.SESSION_COOKIE_NAME}={session}"} if session else {}
    given = Origin(own if origin is None else origin)
    url = f"ws://127.0.0.1:{stack.http}/ws/live/"
    with connect(url, origin=given, additional_headers=cookie) as socket:
        yield socket


@contextmanager
def page(stack: Stack, account: Account) -> Iterator[ClientConnection]:
    """Connected, so that nothing is missed from here on."""
    with open_socket(stack, sign_in(account)) as socket:
        assert hear(socket) == {"type": "ready"}
        yield socket


def hear(socket: ClientConnection, seconds: float = SECONDS) -> Any:
    return json.loads(socket.recv(timeout=seconds))


def code_of_end(socket: ClientConnection, seconds: float = SECONDS) -> int:
    """With which the server closes it, after whatever it says before."""
    try:
        while True:
            socket.recv(timeout=seconds)
    except ConnectionClosed as closed:
        return closed.rcvd.code if closed.rcvd else 1006
