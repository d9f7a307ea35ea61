"""API and device tokens: 32 upper-case hex characters, found by hash."""

import hashlib
import re
import secrets

_FORM = re.compile(r"[0-9A-F]{32}")


def new() -> str:
    return secrets.token_hex(16).upper()


def well_formed(token: str) -> bool:
    return _FORM.fullmatch(token) is not None


def digest(token: str) -> bytes:
    """SHA-256: 128 random bits need no slow hash."""
    return hashlib.sha256(token.encode()).digest()
