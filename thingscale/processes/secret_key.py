"""No server starts without a secret key: otherwise anybody could read the tokens, and forge a session of any
account."""

import sys

from django.core.exceptions import ImproperlyConfigured

MISSING = (
    "There is no secret key: set THINGSCALE_SECRET_KEY to a long random text,"
    " or start with `manage.py up`, which makes one."
)
EXIT_CODE = 3  # for uvicorn and gunicorn it means that starting again does not help


def is_missing() -> bool:
    from django.conf import settings  # which reads the environment

    try:
        return not settings.SECRET_KEY
    except ImproperlyConfigured:
        return True


def require() -> None:
    """Without a key, ends the process with one sentence."""
    if is_missing():
        sys.stderr.write(f"{MISSING}\n")
        sys.exit(EXIT_CODE)
