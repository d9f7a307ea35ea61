"""Dedupe keys, by which a message that is sent again is recognised.

A key has 64 bits and is the same in every process. Keys made from an Idempotency-Key are negative, so that an
index can have these only (decision 0020); those of MQTT are not.
"""

from hashlib import blake2b
from uuid import UUID

import xxhash


def client_seed(identity: str) -> int:
    """Makes the keys of one MQTT client differ from those that another one has for the same packets."""
    return xxhash.xxh3_64_intdigest(identity.encode())


def of_packet(packet: bytes, seed: int) -> int:
    """Of a PUBLISH at QoS 1 or 2; `packet` consists of topic, packet id and payload."""
    return xxhash.xxh3_64_intdigest(packet, seed) >> 1


def of_packet_5(topic: bytes, packet_id: int, payload: bytes, seed: int) -> int:
    """As of_packet(), for MQTT 5: there, a packet that is sent again may have another topic alias and other
    properties, so its own bytes may differ."""
    return xxhash.xxh3_64_intdigest(b"%s\0%d\0%s" % (topic, packet_id, payload), seed) >> 1


def of_http(user: int, device_id: str, key: bytes) -> int:
    """Of a device's Idempotency-Key. Devices may all count their keys from 1, also where they share a
    channel."""
    digest = xxhash.xxh3_64()
    for part in (b"%d http" % user, device_id.encode(), key):
        digest.update(len(part).to_bytes(4, "big") + part)
    return ~(digest.intdigest() >> 1)


def of_rest(channel: int, key: str) -> int:
    digest = blake2b(f"rest {channel} {key}".encode(), digest_size=8).digest()
    return ~(int.from_bytes(digest) >> 1)


def fingerprint(*parts: bytes) -> UUID:
    """Of all that was sent under a key. The same key with another fingerprint is another request."""
    digest = blake2b(digest_size=16)
    for part in parts:
        digest.update(len(part).to_bytes(8, "big") + part)
    return UUID(bytes=digest.digest())
