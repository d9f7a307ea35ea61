"""Webhooks: a POST of the contract's JSON object, signed with the event's secret.

    X-Signature: sha256=<HMAC-SHA256 of the body, in hexadecimal>

`at` and `delivery_id` are inside of the signed body, so that a receiver can tell an old one, or the same one
again.
"""

import hashlib
import hmac

from thingscale.events.guard import guarded
from thingscale.events.transports import Outcome, by_http
from thingscale.version import VERSION

SECONDS = 10.0


def signature(body: bytes, secret: str) -> str:
    return "sha256=" + hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()


def send(url: str, body: bytes, secret: str, delivery_id: str) -> Outcome:
    from thingscale.events.transports.limited_requests import of_thread

    headers = {
        "Content-Type": "application/json",
        "User-Agent": f"ThingScale/{VERSION}",
        "Connection": "close",
        "X-Delivery-Id": delivery_id,
        "X-Signature": signature(body, secret),
    }
    failed: Exception | None = None
    with guarded(SECONDS) as guard:
        try:
            of_thread.session.post(url, data=body, headers=headers, stream=True)
        except Exception as error:
            failed = error
    return by_http(guard, failed)
