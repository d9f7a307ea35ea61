"""Where a request comes from."""

from ipaddress import IPv6Address, ip_address, ip_network

from django.http import HttpRequest

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
    """Empty where the server does not say (a socket)."""
    return str(request.META.get("REMOTE_ADDR") or "")[:45]


def network(request: HttpRequest) -> str:
    """What one person has: of IPv6 a whole network."""
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
    """In a few words: `Firefox on Linux`."""
    name = _first(BROWSERS, agent) or "An unknown browser"
    system = _first(SYSTEMS, agent)
    return f"{name} on {system}" if system else name


def _first(names: dict[str, str], agent: str) -> str:
    return next((name for mark, name in names.items() if mark in agent), "")
