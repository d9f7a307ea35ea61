"""Finds out in whose share of the threads a request is: its account's, by token or session, else its
address's.

This decides nothing else: Django checks the credential again.
"""

import asyncio
import hashlib
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from ipaddress import IPv6Address, ip_address, ip_network
from time import monotonic
from typing import NamedTuple

from thingscale.web.request_body import Scope

MAX_KNOWN = 20_000  # credentials of accounts remembered, by their hashes, and as many that are nobody's
KNOWN_SECONDS = 60.0  # then a credential is looked up again: it may have ended


class Credential(NamedTuple):
    kind: str  # "token" or "session"
    text: str

    @property
    def digest(self) -> bytes:
        return hashlib.blake2b(f"{self.kind} {self.text}".encode(), digest_size=16).digest()


Identify = Callable[[Credential], int | None]  # the account's primary key; runs in a thread
RunInThread = Callable[[Identify, Credential, str], Awaitable[int | None]]  # the text: in whose share


class Callers:
    def __init__(self, identify: Identify, run: RunInThread, session_cookie: str) -> None:
        self._identify = identify
        self._run = run
        self._cookie = session_cookie
        # By the credentials' digests: primary key, and when it has to be looked up again. Credentials of
        # nobody are kept apart, since anybody can make them up.
        self._accounts: OrderedDict[bytes, tuple[int | None, float]] = OrderedDict()
        self._nobodys: OrderedDict[bytes, tuple[int | None, float]] = OrderedDict()
        self._lookups: dict[bytes, asyncio.Future[int | None]] = {}

    async def account(self, scope: Scope) -> str:
        """Raises Busy: too many unknown credentials come from this address."""
        credential = find_credential(scope, self._cookie)
        if credential is None:
            return address(scope)
        digest = credential.digest
        known = self._accounts if digest in self._accounts else self._nobodys
        pk, until = known.get(digest, (None, 0.0))
        if monotonic() < until:
            known.move_to_end(digest)
        else:  # many requests with a new token look it up once
            lookup = self._lookups.get(digest)
            if lookup is None:
                lookup = asyncio.ensure_future(self._run(self._identify, credential, address(scope)))
                self._lookups[digest] = lookup
                lookup.add_done_callback(lambda done: self._remember(digest, done))
            pk = await asyncio.shield(lookup)
        return address(scope) if pk is None else f"account {pk}"

    def _remember(self, digest: bytes, lookup: "asyncio.Future[int | None]") -> None:
        del self._lookups[digest]
        if lookup.cancelled() or lookup.exception():
            return
        pk = lookup.result()
        known, other = self._accounts, self._nobodys
        if pk is None:
            known, other = other, known
        other.pop(digest, None)
        known[digest] = pk, monotonic() + KNOWN_SECONDS
        known.move_to_end(digest)
        if len(known) > MAX_KNOWN:
            known.popitem(last=False)


def find_credential(scope: Scope, session_cookie: str) -> Credential | None:
    cookies = b""
    for name, value in scope["headers"]:
        match name:
            case b"x-apitoken":
                return Credential("token", value.decode("latin-1").strip())
            case b"authorization" if value[:7].lower() == b"bearer ":
                return Credential("token", value[7:].decode("latin-1").strip())
            case b"cookie":
                cookies = value
    for cookie in cookies.decode("latin-1").split(";"):
        name, _, text = cookie.strip().partition("=")
        if name == session_cookie:
            return Credential("session", text)
    return None


def address(scope: Scope) -> str:
    """For IPv6 the network, since one person has all of it."""
    try:
        found = ip_address((scope.get("client") or ("",))[0])
    except ValueError:
        return "address unknown"
    if isinstance(found, IPv6Address) and not found.ipv4_mapped:
        return f"address {ip_network(f'{found}/64', strict=False)}"
    return f"address {found.ipv4_mapped if isinstance(found, IPv6Address) else found}"
