"""Whose share of the threads a request takes: an account's, as its token or its session says, else that of
its address. It is asked before a thread is, and decides nothing else: Django looks again.
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
KNOWN_SECONDS = 60.0  # then it is asked again: a token that has ended takes nothing of its account's share


class Credential(NamedTuple):
    kind: str  # "token" or "session"
    text: str

    @property
    def digest(self) -> bytes:
        return hashlib.blake2b(f"{self.kind} {self.text}".encode(), digest_size=16).digest()


Identify = Callable[[Credential], int | None]  # the account's primary key; runs in a thread
RunInThread = Callable[[Identify, Credential, str], Awaitable[int | None]]  # with the address' share


class Callers:
    def __init__(self, identify: Identify, run: RunInThread, session_cookie: str) -> None:
        self._identify = identify
        self._run = run
        self._cookie = session_cookie
        self._accounts: OrderedDict[bytes, tuple[int | None, float]] = OrderedDict()  # and until when
        self._nobodys: OrderedDict[bytes, tuple[int | None, float]] = OrderedDict()  # anybody makes these up
        self._asked: dict[bytes, asyncio.Future[int | None]] = {}

    async def account(self, scope: Scope) -> str:
        """Raises shares.Busy: too many unknown credentials come from this address."""
        credential = find_credential(scope, self._cookie)
        if credential is None:
            return address(scope)
        digest = credential.digest
        known = self._accounts if digest in self._accounts else self._nobodys
        pk, until = known.get(digest, (None, 0.0))
        if monotonic() < until:
            known.move_to_end(digest)
        else:
            pk = await self._ask(credential, digest, address(scope))
        return address(scope) if pk is None else f"account {pk}"

    async def _ask(self, credential: Credential, digest: bytes, where: str) -> int | None:
        """Many requests with a new token ask for it once."""
        asked = self._asked.get(digest)
        if asked is None:
            asked = asyncio.ensure_future(self._run(self._identify, credential, where))
            self._asked[digest] = asked
            asked.add_done_callback(lambda done: self._answered(digest, done))
        return await asyncio.shield(asked)

    def _answered(self, digest: bytes, asked: "asyncio.Future[int | None]") -> None:
        del self._asked[digest]
        if asked.cancelled() or asked.exception():
            return
        pk = asked.result()
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
    """Of IPv6 the network, which one person has as a whole."""
    try:
        found = ip_address((scope.get("client") or ("",))[0])
    except ValueError:
        return "address unknown"
    if isinstance(found, IPv6Address) and not found.ipv4_mapped:
        return f"address {ip_network(f'{found}/64', strict=False)}"
    return f"address {found.ipv4_mapped if isinstance(found, IPv6Address) else found}"
