"""Whose certificates are trusted: those that the system trusts, or those in a file."""

from __future__ import annotations

import ssl
from functools import lru_cache

NO_CHECK_TIME = 0x200000  # X509_V_FLAG_NO_CHECK_TIME of OpenSSL


@lru_cache(maxsize=100)
def trusting(ca_file: str | None, check_time: bool = True) -> ssl.SSLContext:
    """Read once: the system's hundreds take 20 ms. Raises OSError (SSLError, too)."""
    context = ssl.create_default_context(cafile=ca_file)
    if not check_time:
        context.verify_flags |= NO_CHECK_TIME
    return context
