"""Encrypts tokens and the secrets of authenticators (docs/decisions/0030-secrets.md).

The newest secret key encrypts, and any of them decrypts. Each purpose has keys of its own.
"""

import base64
import hashlib
from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple

from django.conf import settings

if TYPE_CHECKING:
    from cryptography.fernet import MultiFernet
    from django.db.models import Model


class Purpose(StrEnum):
    TOKEN = "token"  # noqa: S105
    AUTHENTICATOR = "authenticator"
    NOTIFICATION = "notification"  # addresses of contact points, and the secrets that sign webhooks


class Column(NamedTuple):
    """Where something encrypted is kept."""

    model: "type[Model]"
    name: str
    purpose: Purpose


COLUMNS: list[Column] = []  # of all apps: `manage.py reencrypt` goes through them


class Undecryptable(Exception):
    """None of the secret keys is the one that encrypted it."""


def encrypt(text: str, purpose: Purpose) -> bytes:
    return _cipher(purpose).encrypt(text.encode())


def decrypt(ciphertext: bytes, purpose: Purpose) -> str:
    """Raises Undecryptable."""
    from cryptography.fernet import InvalidToken

    try:
        return _cipher(purpose).decrypt(ciphertext).decode()
    except InvalidToken:
        raise Undecryptable(
            "A secret can't be read: THINGSCALE_SECRET_KEYS lacks the key that encrypted it."
        ) from None


def is_of_newest_key(ciphertext: bytes, purpose: Purpose) -> bool:
    from cryptography.fernet import InvalidToken

    try:
        _cipher(purpose, newest_only=True).decrypt(ciphertext)
    except InvalidToken:
        return False
    return True


def _cipher(purpose: Purpose, newest_only: bool = False) -> "MultiFernet":
    from cryptography.fernet import (
        Fernet,
        MultiFernet,
    )  # here, since it takes memory and few processes decrypt

    keys = [settings.SECRET_KEY, *([] if newest_only else settings.SECRET_KEY_FALLBACKS)]
    digests = [hashlib.sha256(f"{purpose}:{key}".encode()).digest() for key in keys]
    return MultiFernet([Fernet(base64.urlsafe_b64encode(digest)) for digest in digests])
