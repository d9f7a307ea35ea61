"""Which paths belong to intakes. Pure."""

from typing import NamedTuple

PREFIX = "/in/"
INFLUX = ("/write", "/api/v2/write", "/query", "/ping", "/health")
PROMETHEUS = ("/api/v1/write",)
OTLP = ("/v1/metrics",)
PRESETS = {"/api/put": "netdata"}  # paths of one program
# The senders' own paths, with the device token, and by which format.
FORMATS = {
    path: format_
    for format_, paths in {
        "influx": INFLUX,
        "prometheus": PROMETHEUS,
        "otlp": OTLP,
        "mapped": PRESETS,
    }.items()
    for path in paths
}
_LONGEST_FIRST = sorted(FORMATS, key=len, reverse=True)


class Route(NamedTuple):
    key: str | None  # of an intake; None: the device token says whose it is
    endpoint: str  # one of FORMATS, or ""
    device_id: str = ""  # behind the key


def route(path: str) -> Route | None:
    """`path` without its percent signs. None: not an intake's."""
    if path in FORMATS:
        return Route(None, path)
    if not path.startswith(PREFIX):
        return None
    key, _, rest = path.removeprefix(PREFIX).partition("/")
    rest = rest.removesuffix("/")
    if f"/{rest}" in FORMATS:
        return Route(key, f"/{rest}")
    return Route(key, "", rest)


def with_endpoint(found: Route) -> Route:
    """Of /in/KEY/DEVICE_ID/write the endpoint and the device. Not for intakes with a mapping: behind their
    keys there may be any topic."""
    if found.key is None or found.endpoint:
        return found
    endpoint = next((path for path in _LONGEST_FIRST if found.device_id.endswith(path)), "")
    return Route(found.key, endpoint, found.device_id.removesuffix(endpoint))
