"""The platform's settings, with little time to begin to read an answer, and enough for its size."""

from thingscale.settings import *  # noqa: F403
from thingscale.web import http_protocol

http_protocol.UNREAD_SECONDS = 2.0
http_protocol.READ_RATE = 20_000
