"""What a request says of its client: address, network and browser."""

from ipaddress import IPv6Address, ip_address, ip_network

from django.http import HttpRequest
from django.utils.translation import gettext as _

BROWSERS = {"Edg": "Edge", "OPR": "Opera", "Firefox": "Firefox", "Chrome": "Chrome", "Safari": "Safari"}
SYSTEMS = {
    "iPhone": "iPhone",
    "iPad": "iPad",
    "Android": "Android",
    "Windows": "Windows",
    "Mac OS X": "macOS",
    "CrOS": "ChromeOS",
    "Linux": "Linux",
}


def address(request: HttpRequest) -> str:
    """Empty if the server gives none, as on a Unix socket."""
    return str(request.META.get("REMOTE_ADDR") or "")[:45]


def network(request: HttpRequest) -> str:
    """The network that one person has: an IPv4 address, or a /64 of IPv6."""
    try:
        found = ip_address(address(request))
    except ValueError:
        return ""
    if not isinstance(found, IPv6Address):
        return str(found)
    return str(found.ipv4_mapped or ip_network(f"{found}/64", strict=False))


def user_agent(request: HttpRequest) -> str:
    return request.headers.get("User-Agent", "")[:200]


def browser(agent: str) -> str:
    """The browser and its system in a few words: `Firefox on Linux`."""
    name = _first_match(BROWSERS, agent) or _("An unknown browser")
    system = _first_match(SYSTEMS, agent)
    return _("%(name)s on %(system)s") % {"name": name, "system": system} if system else name


def _first_match(names: dict[str, str], agent: str) -> str:
    return next((name for mark, name in names.items() if mark in agent), "")
