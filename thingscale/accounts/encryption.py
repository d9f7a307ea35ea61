"""Encrypts tokens and the secrets of authenticators (docs/decisions/0030-secrets.md).

The newest secret key encrypts, and any of them decrypts. Each purpose has keys of its own.
"""

import base64
import hashlib
from enum import StrEnum
from typing import TYPE_CHECKING

from django.conf import settings

if TYPE_CHECKING:
    from cryptography.fernet import MultiFernet


class Purpose(StrEnum):
    TOKEN = "token"  # noqa: S105
    AUTHENTICATOR = "authenticator"


class Undecryptable(Exception):
    """None of the secret keys is the one that encrypted it."""


def encrypt(text: str, purpose: Purpose) -> bytes:
    return _cipher(purpose, _keys()).encrypt(text.encode())


def decrypt(ciphertext: bytes, purpose: Purpose) -> str:
    """Raises Undecryptable."""
    from cryptography.fernet import InvalidToken

    try:
        return _cipher(purpose, _keys()).decrypt(ciphertext).decode()
    except InvalidToken:
        raise Undecryptable(
            "A secret can't be read: THINGSCALE_SECRET_KEYS lacks the key that encrypted it."
        ) from None


def is_of_newest_key(ciphertext: bytes, purpose: Purpose) -> bool:
    from cryptography.fernet import InvalidToken

    try:
        _cipher(purpose, _keys()[:1]).decrypt(ciphertext)
    except InvalidToken:
        return False
    return True


def _keys() -> list[str]:
    return [settings.SECRET_KEY, *settings.SECRET_KEY_FALLBACKS]


def _cipher(purpose: Purpose, keys: list[str]) -> "MultiFernet":
    from cryptography.fernet import Fernet, MultiFernet  # memory that processes which only check tokens save

    digests = [hashlib.sha256(f"{purpose}:{key}".encode()).digest() for key in keys]
    return MultiFernet([Fernet(base64.urlsafe_b64encode(digest)) for digest in digests])
