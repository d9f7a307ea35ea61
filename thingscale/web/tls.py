"""The certificate of all TLS listeners. It is read again when its files are renewed."""

import asyncio
import logging
import os
import ssl

log = logging.getLogger(__name__)

LOOK_SECONDS = 5.0  # between two looks at the files

NO_TLS = {"WRONG_VERSION_NUMBER", "HTTP_REQUEST", "HTTPS_PROXY_REQUEST"}  # OpenSSL's reasons

Seen = tuple[tuple[int, int, int], ...]


class SSLObjectWithAlerts(ssl.SSLObject):
    """Sends the client the TLS alert that says why a handshake failed. asyncio would end the connection
    without sending the alert that OpenSSL has written. So this asks for more data, which makes asyncio send
    the alert, and raises the error when the client answers. If it does not answer, the handshake's time limit
    ends the connection. A client that speaks no TLS gets no alert: its connection ends at once."""

    _failure: ssl.SSLError | None = None

    def do_handshake(self) -> None:
        if self._failure:
            raise self._failure
        try:
            super().do_handshake()
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            raise
        except ssl.SSLError as error:
            if error.reason in NO_TLS:
                raise
            self._failure = error
            raise ssl.SSLWantReadError from None


class Certificate:
    """`context` is for the listener. It gives each new connection the newest pair that could be read whole,
    so that a certificate whose key is not there yet breaks no handshake. Open connections go on."""

    def __init__(self, cert: str, key: str, protocols: list[str] | None = None) -> None:
        """Raises OSError (also ssl.SSLError) if the pair can't be read."""
        self._cert, self._key, self._protocols = cert, key, protocols
        self._seen = self._look()
        self._newest = self.context = self._load()
        self.context.sni_callback = self._choose

    async def follow(self) -> None:
        """Reloads the certificate when it is renewed, for ever."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            self.reload_if_renewed()

    def reload_if_renewed(self) -> None:
        try:
            seen = self._look()
            if seen == self._seen:
                return
            self._seen = seen
            self._newest = self._load()
        except OSError as error:  # perhaps half of a renewal: the other half will be another change
            log.warning("The TLS certificate was changed and can't be used, the old one stays: %s", error)
        else:
            log.info("The TLS certificate was renewed")

    def _load(self) -> ssl.SSLContext:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.sslobject_class = SSLObjectWithAlerts
        context.minimum_version = ssl.TLSVersion.TLSv1_2  # RFC 8996; the system's OpenSSL may accept less
        context.load_cert_chain(self._cert, self._key)
        if self._protocols:
            context.set_alpn_protocols(self._protocols)
        return context

    def _look(self) -> Seen:
        found = [os.stat(path) for path in (self._cert, self._key)]
        return tuple((each.st_mtime_ns, each.st_ino, each.st_size) for each in found)

    def _choose(self, connection: ssl.SSLObject, _name: str | None, _context: ssl.SSLContext) -> None:
        connection.context = self._newest
