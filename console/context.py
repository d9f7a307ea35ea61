"""What the frame around every page shows."""

from django.conf import settings
from django.http import HttpRequest

from thingscale.version import VERSION

THEMES = ("light", "dark", "auto")


def shell(request: HttpRequest) -> dict[str, object]:
    theme = request.COOKIES.get("theme")
    chosen = theme if theme in THEMES and theme != "auto" else ""
    return {"theme": chosen, "themes": THEMES, "signup_open": settings.SIGNUP, "version": VERSION}
