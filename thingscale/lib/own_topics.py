"""Topics without a token, which an account may switch on for its signed-in clients (docs/contract.md, MQTT
without a token): `cmnd/plug/POWER` is the account's own, and has nothing to do with TOKEN/cmnd/plug/POWER.

Names of topics and filters are kept relative to the account: what follows the token. A topic without one has
a level in front, which no client can name (ingest/gateway/topic_owner.py), and for which no wildcard stands.
"""

import re

from thingscale.lib.kinds import ENDPOINTS
from thingscale.lib.names import EVENTS, FROM_PLATFORM

MARK = "\2"  # PostgreSQL takes it in texts, unlike \0; \1 is a response topic's (ingest/stored_packet.py)
PREFIX = f"{MARK}/"
BEHIND_PREFIX = f"{MARK}0"  # the first text that sorts behind all that begins with it
MAX_BYTES = 1_024  # of a topic: it is in keys of the database
MAX_LEVELS = 64
_TOKEN = re.compile(r"[0-9A-Fa-f]{32}")
_FIRST_LEVELS = frozenset(each.first_level for each in ENDPOINTS.values() if each.first_level) | {EVENTS}


def has_form(topic: str) -> bool:
    """Of a topic or a filter, of any length: its first level is neither `$...` nor of a token's form."""
    return not topic.startswith("$") and not _TOKEN.fullmatch(topic.partition("/")[0])


def too_long(topic: str) -> bool:
    return len(topic.encode()) > MAX_BYTES or topic.count("/") >= MAX_LEVELS


def kept(topic: str) -> str:
    """As it is kept, relative to the account."""
    return PREFIX + topic


def sent(prefix: str, kept_topic: str) -> str:
    """As a client gets it, whose account's other topics begin with `prefix`."""
    return kept_topic[len(PREFIX) :] if kept_topic.startswith(PREFIX) else prefix + kept_topic


def of_command(topic: str) -> str:
    """What an app publishes to for an account that has them, relative to it: the topic is the firmware's own,
    unless it has a form that means something below the token."""
    first, *behind = topic.split("/")
    below_token = (first in _FIRST_LEVELS and behind) or (len(behind) == 1 and behind[0] in FROM_PLATFORM)
    return topic if below_token or not has_form(topic) or too_long(topic) else kept(topic)
