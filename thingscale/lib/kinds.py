"""How a payload of a device is to be read, and by which topic and path it comes: one row for each kind.

Which topics are understood (ingest/topics.py) and subscribed to in broker mode, and which paths the HTTP
connector has (ingest/connectors/http.py), follows from this table. A new kind needs a row here, the function
that reads it in ingest/decode.py, and for people a row in docs/contract.md, and in api/v2/connector.py if it
has a path: tests/ingest/test_kinds.py and tests/test_contract.py look for those.
"""

from enum import StrEnum
from typing import NamedTuple


class Kind(StrEnum):
    """The values name it to people."""

    JSON = "json"
    BINARY = "binary"
    FORM = "v1"
    STATE = "state"
    INTAKE = "intake"  # readings that a format of ingest/formats has made
    MESSAGE = "message"  # no datapoint: for subscribers only


class Endpoint(NamedTuple):
    """Where devices send a kind. By MQTT to `TOKEN/first_level/DEVICE_ID[/TAG]`; where the first level is
    empty, the device id comes at once."""

    first_level: str
    tagged: bool
    http_paths: tuple[str, ...] = ()  # without the slash at their end; the one to use comes first

    @property
    def broker_filter(self) -> str:
        """What broker mode subscribes to. No topic matches two of them; a tag may have levels of its own."""
        device = f"+/{self.first_level}/+" if self.first_level else "+/+"
        return f"{device}/#" if self.tagged else device

    def topic(self, device_id: str, tag: str | None = None) -> str:
        """Behind the token."""
        return "/".join(filter(None, (self.first_level, device_id, tag)))


# Of every kind that devices send.
ENDPOINTS: dict[Kind, Endpoint] = {
    Kind.JSON: Endpoint("json", tagged=True, http_paths=("/post_v2",)),
    Kind.BINARY: Endpoint("binary", tagged=True),
    Kind.STATE: Endpoint("state", tagged=False),
    Kind.FORM: Endpoint("", tagged=False, http_paths=("/post_v1", "/post")),
}
