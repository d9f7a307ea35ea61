"""What the clients of a site's own broker may do, for brokers that ask: the gateway's rules."""

import hmac
from collections.abc import Awaitable, Callable
from enum import Enum, auto
from typing import NamedTuple

from django.conf import settings
from django.db import Error

from ingest import topics
from ingest.device_tokens import TokenOwner
from thingscale.lib.names import is_event_topic

OUR_CLIENT_IDS = "thingscale-"  # how those of workers and publishers begin


class Verdict(Enum):
    ALLOW = auto()
    DENY = auto()
    AWAY = auto()  # the database is: refused too, but not to be remembered


class Action(Enum):
    PUBLISH = auto()
    SUBSCRIBE = auto()  # or be sent what was published


class SignIn(NamedTuple):
    verdict: Verdict
    superuser: bool = False
    ends_at: float | None = None  # Unix time, of a token in its overlap


class BrokerRules:
    """`find_owner` raises django.db.Error or TimeoutError while the database is away."""

    def __init__(self, find_owner: Callable[[str], Awaitable[TokenOwner | None]]) -> None:
        self._find_owner = find_owner

    async def sign_in(self, username: str, password: str, client_id: str) -> SignIn:
        if is_ours(username):
            ours = any(
                user == username and own is not None and hmac.compare_digest(own.encode(), password.encode())
                for _, _, user, own in (settings.BROKER, settings.BROKER5)
            )
            return SignIn(Verdict.ALLOW, superuser=True) if ours else SignIn(Verdict.DENY)
        if is_our_client_id(client_id):
            return SignIn(Verdict.DENY)
        if not username and not password:
            return SignIn(Verdict.ALLOW if settings.ALLOW_ANONYMOUS else Verdict.DENY)
        try:
            owner = await self._find_owner(password)
        except (Error, TimeoutError):
            return SignIn(Verdict.AWAY)
        if owner is None or owner.user_id != username:
            return SignIn(Verdict.DENY)
        if settings.BROKER_OWN_CLIENT_IDS and not client_id.startswith(f"{username}-"):
            return SignIn(Verdict.DENY)
        return SignIn(Verdict.ALLOW, ends_at=owner.ends_at)

    async def use(self, username: str, action: Action, topic: str) -> Verdict:
        """Allowed are topics below any token of the user: the broker does not say with which one the client
        has signed in. A wildcard is no token."""
        if is_ours(username):
            return Verdict.ALLOW
        share, (token, rest) = "", topics.split(topic)
        if action is Action.SUBSCRIBE:
            share, token, rest = topics.split_filter(topic)
        group = share.removeprefix("$share/").removesuffix("/")
        if not rest.strip("/") or (share and (not group or "+" in group or "#" in group)):
            return Verdict.DENY
        if action is Action.PUBLISH and is_event_topic(rest):
            return Verdict.DENY
        try:
            owner = await self._find_owner(token)
        except (Error, TimeoutError):
            return Verdict.AWAY
        if owner is None:
            return Verdict.DENY
        anonymous = settings.ALLOW_ANONYMOUS and not username and action is Action.PUBLISH
        return Verdict.ALLOW if anonymous or owner.user_id == username else Verdict.DENY


def is_ours(username: str) -> bool:
    """Whether it is the user name of the ingest workers and of the publisher."""
    return bool(username) and username in {settings.BROKER[2], settings.BROKER5[2]}


def is_our_client_id(client_id: str) -> bool:
    """Whoever connected with a worker's client id would take over its session, and all accounts' messages."""
    return client_id.startswith(OUR_CLIENT_IDS) or client_id == settings.BROKER_CLIENT_ID
