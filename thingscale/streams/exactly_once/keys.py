"""The keys by which what is sent again is recognised: how those of MQTT, HTTP and REST are made. Pure.

A key has 64 bits and is the same in every process. Negative are the keys that clients give
themselves (Idempotency-Key), so that an index can have these only (decision 0020); MQTT's are not.
"""

from hashlib import blake2b
from uuid import UUID

import xxhash


def client_seed(identity: str) -> int:
    """Tells the packets of one MQTT client from the same packets of another."""
    return xxhash.xxh3_64_intdigest(identity.encode())


def of_packet(packet: bytes, seed: int) -> int:
    """Of a PUBLISH at QoS 1 or 2: `packet` has its topic, packet id and payload."""
    return xxhash.xxh3_64_intdigest(packet, seed) >> 1


def of_packet_5(topic: bytes, packet_id: int, payload: bytes, seed: int) -> int:
    """The same in MQTT 5, where the packet's own bytes may differ when it is sent again: a topic alias and
    other properties may change."""
    return xxhash.xxh3_64_intdigest(b"%s\0%d\0%s" % (topic, packet_id, payload), seed) >> 1


def of_http(user: int, device_id: str, key: bytes) -> int:
    """A device may count its keys from 1, as others do whose data go into the same channel."""
    digest = xxhash.xxh3_64()
    for part in (b"%d http" % user, device_id.encode(), key):
        digest.update(len(part).to_bytes(4, "big") + part)
    return ~(digest.intdigest() >> 1)


def of_rest(channel: int, key: str) -> int:
    digest = blake2b(f"rest {channel} {key}".encode(), digest_size=8).digest()
    return ~(int.from_bytes(digest) >> 1)


def fingerprint(*parts: bytes) -> UUID:
    """Of all that was sent under a key: with another one, it is another request."""
    digest = blake2b(digest_size=16)
    for part in parts:
        digest.update(len(part).to_bytes(8, "big") + part)
    return UUID(bytes=digest.digest())
