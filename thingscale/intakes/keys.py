"""Keys of intakes: 128 random bits, as 26 letters and digits that a path can have. Only a hash is kept."""

import re
import secrets
from base64 import b32encode

HINT = 4  # characters that are shown once the key itself is not known any more
_FORM = re.compile(r"[a-z2-7]{26}")


def new() -> str:
    return b32encode(secrets.token_bytes(16)).decode().rstrip("=").lower()


def well_formed(key: str) -> bool:
    return _FORM.fullmatch(key) is not None
