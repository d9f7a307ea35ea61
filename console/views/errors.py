"""What is answered when something fails on the way to a page or back, in middleware too."""

import sys

from django.db import InterfaceError, OperationalError
from django.http import HttpRequest, HttpResponse
from django.template.loader import render_to_string

from console.context import shell

RETRY_SECONDS = 5


def failed(request: HttpRequest) -> HttpResponse:
    """Django's handler500. It asks for nothing that may have failed: no user, no session, no database."""
    away = isinstance(sys.exception(), OperationalError | InterfaceError)
    response = HttpResponse(
        render_to_string("503.html" if away else "500.html", shell(request)), status=503 if away else 500
    )
    if away:
        response.headers["Retry-After"] = str(RETRY_SECONDS)
    return response
