"""API and device tokens: 32 upper-case hex characters, found by hash, encrypted at rest."""

import base64
import hashlib
import re
import secrets
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cryptography.fernet import Fernet

_FORM = re.compile(r"[0-9A-F]{32}")


def new() -> str:
    return secrets.token_hex(16).upper()


def well_formed(token: str) -> bool:
    return _FORM.fullmatch(token) is not None


def digest(token: str) -> bytes:
    """SHA-256: 128 random bits need no slow hash."""
    return hashlib.sha256(token.encode()).digest()


def encrypt(token: str, key: str) -> bytes:
    return _cipher(key).encrypt(token.encode())


def decrypt(ciphertext: bytes, key: str) -> str:
    return _cipher(key).decrypt(ciphertext).decode()


def _cipher(key: str) -> "Fernet":
    from cryptography.fernet import Fernet  # memory that processes which only check tokens can do without

    return Fernet(base64.urlsafe_b64encode(hashlib.sha256(b"token:" + key.encode()).digest()))
