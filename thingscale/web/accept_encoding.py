"""Chooses the compression of an answer by the Accept-Encoding of its request (RFC 9110, 12.5.3).

How compressed requests are read is in thingscale/lib/content_encoding.py.
"""

from collections.abc import Sequence

IDENTITY = ""


def choose_encoding(accept_encoding: str, offered: Sequence[str]) -> str:
    """The first of `offered` that the client accepts, else IDENTITY. Without the header it is IDENTITY: small
    clients that can't decompress send none."""
    weights: dict[str, float] = {}
    for item in accept_encoding.lower().split(","):
        name, _, weight = item.partition(";")
        key, _, number = weight.partition("=")
        try:
            weights[name.strip()] = float(number) if key.strip() == "q" else float(not weight.strip())
        except ValueError:  # counts as a refusal: IDENTITY is always understood
            weights[name.strip()] = 0.0
    others = weights.get("*", 0.0)
    return next((name for name in offered if weights.get(name, others) > 0), IDENTITY)
