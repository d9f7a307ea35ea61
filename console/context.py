"""What the frame around every page shows."""

from django.conf import settings
from django.http import HttpRequest
from django.utils.translation import gettext_lazy as _

from thingscale.version import VERSION

THEMES = {"light": _("Light"), "dark": _("Dark"), "auto": _("Auto")}


def shell(request: HttpRequest) -> dict[str, object]:
    theme = request.COOKIES.get("theme")
    chosen = theme if theme in THEMES and theme != "auto" else ""
    return {"theme": chosen, "themes": THEMES, "signup_open": settings.SIGNUP, "platform_version": VERSION}
