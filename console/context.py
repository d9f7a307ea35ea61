"""What the frame around every page shows."""

from django.conf import settings
from django.http import HttpRequest

THEMES = ("light", "dark")


def shell(request: HttpRequest) -> dict[str, object]:
    theme = request.COOKIES.get("theme")
    return {"theme": theme if theme in THEMES else "", "signup_open": settings.SIGNUP}
