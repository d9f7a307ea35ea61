"""The address at which clients reach this server."""

from django.conf import settings
from django.http import HttpRequest


def base_url(request: HttpRequest) -> str:
    """Without a slash at the end."""
    return settings.PUBLIC_URL or request.build_absolute_uri("/").removesuffix("/")
