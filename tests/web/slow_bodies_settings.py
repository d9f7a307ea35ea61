"""The platform's settings, with a large body that takes SLOW_BODY_SECONDS to read, on any machine."""

import os
import time
from functools import wraps

from ingest.connectors import http
from ingest.message import RawMessage
from thingscale.settings import *  # noqa: F403

SECONDS = float(os.environ["SLOW_BODY_SECONDS"])
message = http.message


@wraps(message)
def slow_message(path: str, user: int, headers: http.Headers, body: bytes) -> RawMessage:
    found = message(path, user, headers, body)
    if len(found.payload) > http.READ_AT_ONCE:
        time.sleep(SECONDS)
    return found


http.message = slow_message
