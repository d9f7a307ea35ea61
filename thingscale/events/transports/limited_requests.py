"""The library `requests`, which Apprise uses too, within the limits of a notification: no redirect is
followed, no proxy and no .netrc is taken from the environment, and little of an answer is read.

It takes 20 MB of memory: import this where the first notification is sent.
"""

import contextlib
import os
import ssl
import threading
from functools import cache, wraps
from http.cookiejar import DefaultCookiePolicy
from typing import Any

from requests import PreparedRequest, Response, Session, Timeout
from requests.adapters import HTTPAdapter
from requests.utils import DEFAULT_CA_BUNDLE_PATH

from thingscale.events import guard

MAX_ANSWER = 64 * 1024  # of a service: Apprise reads what it says
MAX_TEXT = 2 * 1024  # of a webhook: its status says all, this only goes into the log of deliveries
_request, _session_send, _adapter_send = Session.request, Session.send, HTTPAdapter.send


@cache
def tls_context() -> ssl.SSLContext:
    """To read all certificates again for each connection would take 20 ms."""
    trusted = os.environ.get("REQUESTS_CA_BUNDLE") or DEFAULT_CA_BUNDLE_PATH
    of_directory = os.path.isdir(trusted)
    return ssl.create_default_context(
        cafile=None if of_directory else trusted, capath=trusted if of_directory else None
    )


class _Adapter(HTTPAdapter):
    """Leaves it to the context to verify certificates."""

    def init_poolmanager(self, *arguments: Any, **options: Any) -> None:
        super().init_poolmanager(*arguments, **options | {"ssl_context": tls_context()})

    def build_connection_pool_key_attributes(
        self, request: PreparedRequest, verify: Any, cert: Any = None
    ) -> Any:
        return super().build_connection_pool_key_attributes(request, True, cert)

    def cert_verify(self, conn: Any, url: Any, verify: Any, cert: Any) -> None:
        conn.cert_reqs = "CERT_REQUIRED"


class _OfThread(threading.local):
    """A session that takes no cookies. It keeps no connection either: the guard ends each with its
    notification, so that none is made out of its sight."""

    def __init__(self) -> None:
        self.session = Session()
        self.session.mount("https://", _Adapter())
        self.session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))


of_thread = _OfThread()


@wraps(_request)
def _limited_request(session: Session, *arguments: Any, **options: Any) -> Response:
    if guard.current():
        session.trust_env = False
        session.verify = os.environ.get("REQUESTS_CA_BUNDLE") or True
    return _request(session, *arguments, **options)


@wraps(_session_send)
def _limited_session_send(session: Session, request: PreparedRequest, **options: Any) -> Response:
    if guard.current():
        options |= {"allow_redirects": False, "proxies": {}}
    return _session_send(session, request, **options)


@wraps(_adapter_send)
def _limited_adapter_send(adapter: HTTPAdapter, request: PreparedRequest, **options: Any) -> Response:
    sending = guard.current()
    if sending is None:
        return _adapter_send(adapter, request, **options)
    whole = not options.get("stream")
    response = _adapter_send(adapter, request, **options | {"stream": True, "timeout": sending.left})
    if sending.late:  # a head that is cut off looks like a whole one
        response.close()
        raise Timeout
    text = b""
    # Several libraries have errors of their own here. The status came, and that counts.
    with contextlib.suppress(Exception):
        if whole:
            text = response.raw.read(MAX_ANSWER, decode_content=True)
        else:
            text = response.raw.read1(MAX_TEXT, decode_content=True)  # what is there already
    response.close()
    response._content, response._content_consumed = text, True  # type: ignore[attr-defined]
    sending.answer = guard.Answer(
        response.status_code, text[:MAX_TEXT].decode(errors="replace"), response.headers.get("Retry-After")
    )
    return response


Session.request = _limited_request  # type: ignore[method-assign, assignment]
Session.send = _limited_session_send  # type: ignore[method-assign, assignment]
HTTPAdapter.send = _limited_adapter_send  # type: ignore[method-assign, assignment]
