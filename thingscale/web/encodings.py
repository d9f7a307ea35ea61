"""Which compression an answer may have, from the Accept-Encoding of its request (RFC 9110, 12.5.3)."""

from collections.abc import Sequence

IDENTITY = ""


def choose(accept_encoding: str, offered: Sequence[str]) -> str:
    """The first of `offered` that the client takes, else IDENTITY. A client without the header gets
    identity: small ones that can't decompress send none."""
    weights: dict[str, float] = {}
    for item in accept_encoding.lower().split(","):
        name, _, weight = item.partition(";")
        weights[name.strip()] = _weight(weight)
    others = weights.get("*", 0.0)
    return next((name for name in offered if weights.get(name, others) > 0), IDENTITY)


def _weight(text: str) -> float:
    """Of `q=0.5`; one that can't be read counts as a refusal: identity is always understood."""
    if not text.strip():
        return 1.0
    name, _, number = text.partition("=")
    try:
        return float(number) if name.strip() == "q" else 0.0
    except ValueError:
        return 0.0
