"""No server starts without a secret key: anybody could read the tokens, and make a session of any account."""

import sys

from django.core.exceptions import ImproperlyConfigured

MISSING = (
    "There is no secret key: set THINGSCALE_SECRET_KEY to a long random text,"
    " or start with `manage.py up`, which makes one."
)
STARTED_IN_VAIN = 3  # what uvicorn and gunicorn take for an end that starting again does not mend


def is_missing() -> bool:
    from django.conf import settings  # which reads the environment

    try:
        return not settings.SECRET_KEY
    except ImproperlyConfigured:
        return True


def require() -> None:
    """Ends the process with one sentence."""
    if is_missing():
        sys.stderr.write(f"{MISSING}\n")
        sys.exit(STARTED_IN_VAIN)
