"""A batch of messages in one transaction: which of them are stored, held or rejected."""

import logging
from bisect import bisect_left
from collections.abc import Collection, Sequence
from datetime import datetime
from functools import cached_property
from typing import NamedTuple
from uuid import UUID
from zoneinfo import ZoneInfo

import orjson
import psycopg

from ingest.decode import (
    LOCAL_TIMES,
    MAX_ARRAY,
    MAX_ARRAY_MQTT,
    UTC,
    BadArray,
    decode,
    decode_array,
    is_array,
)
from ingest.device_cache import DeviceCache, DeviceKey, DeviceRoute, TagKey
from ingest.message import DUPLICATE, STORED, Kind, Outcome, RawMessage, Reason, Status
from ingest.quotas import Quotas
from thingscale.accounts.limits import no_more_than, no_room_for_tags
from thingscale.devices import writer as devices
from thingscale.devices.models import RejectedMessage
from thingscale.lib.clock import from_us
from thingscale.lib.ids import ChannelPk, DevicePk, TagPk
from thingscale.lib.json_rules import BadValue
from thingscale.lib.kinds import ENDPOINTS
from thingscale.lib.points import Points
from thingscale.processes.live_feed import MessageEvent
from thingscale.streams import writer as streams
from thingscale.streams.exactly_once import idempotent_requests, keys
from thingscale.streams.exactly_once.idempotent_requests import IdempotentRequest
from thingscale.streams.exactly_once.window import DEDUPE_WINDOW

log = logging.getLogger(__name__)

NO_VALUE = b"null"  # of an item that is rejected, is an array, or has nothing to store
_NO_ROUTES: dict[str, DeviceRoute] = {}
_new = tuple.__new__  # a NamedTuple's own constructor takes twice as long


class Item(NamedTuple):
    """A message with its decoded value, or the reason why there is none."""

    raw: RawMessage
    value: bytes
    reason: Reason | None
    array: Points | None = None  # in place of the value
    detail: str = ""  # of the reason


def prepare(raw: RawMessage) -> Item:
    if raw.refused:
        return Item(raw, NO_VALUE, raw.refused, detail=raw.detail)
    if raw.kind is Kind.MESSAGE or raw.points is not None:
        return Item(raw, NO_VALUE, None, raw.points)
    try:
        # Its own way of making one takes twice as long.
        return tuple.__new__(Item, (raw, decode(raw.kind, raw.payload), None, None, ""))
    except BadValue as error:
        if raw.kind is Kind.JSON and is_array(raw.payload):  # which is no value
            return prepare_array(raw, None)
        return Item(raw, NO_VALUE, error.reason)
    except Exception:  # one payload must not end the process, and come again
        log.exception("A payload of %d bytes could not be read", len(raw.payload))
        return Item(raw, NO_VALUE, Reason.UNSTORABLE)


def prepare_array(raw: RawMessage, zone: ZoneInfo | None) -> Item:
    """`zone` is the user's time zone, once it is known."""
    try:
        most = MAX_ARRAY if raw.source.startswith("http") else MAX_ARRAY_MQTT
        array = decode_array(raw.payload, most, raw.received_at, zone)
        return Item(raw, NO_VALUE, None, array)
    except BadArray as error:
        return Item(raw, NO_VALUE, error.reason, detail=error.detail)
    except Exception:
        log.exception("An array of %d bytes could not be read", len(raw.payload))
        return Item(raw, NO_VALUE, Reason.UNSTORABLE)


def read_local_times(
    connection: psycopg.Connection, items: Sequence[Item], places: Sequence[int]
) -> list[Item]:
    """Reads the arrays with local times at these places. Only the database knows the time zones of users."""
    users = {items[place].raw.user for place in places}
    rows = connection.execute("SELECT id, locale FROM accounts_user WHERE id = ANY (%s)", [list(users)])
    zones = {user: ZoneInfo(locale) for user, locale in rows.fetchall()}
    read = list(items)
    for place in places:
        raw = items[place].raw
        read[place] = prepare_array(raw, zones.get(raw.user, UTC))
    return read


def held_array(array: Points, tag: str | None) -> str:
    """JSON text of an array while it is held: times in microseconds, and the tag that each will have."""
    elements = (
        f'{{"at":{at},"tag":{orjson.dumps(own or tag).decode()},"value":{value.decode()}}}'
        for own, value, at in zip(*array, strict=True)
    )
    return f"[{','.join(elements)}]"


class AccountLimits(NamedTuple):
    """How many devices and tags an account may have: its messages can create both."""

    max_devices: int
    max_tags: int


class Batch:
    """`rows` are the datapoints, `outcomes` the answers in the order of the items. A batch is for one attempt
    to store it."""

    def __init__(self, items: Sequence[Item], device_cache: DeviceCache, quotas: Quotas) -> None:
        self.items = items
        self.outcomes: list[Outcome] = [STORED] * len(items)
        self.rows: list[streams.Row] = []
        self.users: set[int] = set()  # whose messages are in it
        self.first_contacts: list[int] = []  # primary keys of the devices created
        self.device_cache = device_cache
        self.quotas = quotas
        self._generation = device_cache.generation
        self._new_routes: dict[DeviceKey, DeviceRoute] = {}
        self._tags: dict[TagKey, TagPk] = {}
        self._tags_by_user: dict[int, dict[TagKey, TagPk]] = {}
        self._first_contact: set[DeviceKey] = set()
        # Each with the time since when the same may be held already.
        self._held: list[tuple[devices.Held, datetime | None]] = []
        # By keys: the requests of before and of this batch, those of this batch, places of their repetitions.
        self._known_requests: dict[idempotent_requests.Key, IdempotentRequest] = {}
        self._new_requests: dict[idempotent_requests.Key, IdempotentRequest] = {}
        self._again: dict[idempotent_requests.Key, list[int]] = {}
        self._without_room: list[tuple[int, devices.Held]] = []  # by place: the account has no room for it
        self.rejected: list[devices.Rejected] = []
        self._limits: dict[int, AccountLimits] = {}  # of accounts that have too many of something
        self._states: dict[DevicePk, tuple[str, datetime]] = {}
        self.slow: list[int] = []  # places of the items that need a look at the database, in order
        self._late: dict[int, streams.Row] = {}  # the datapoints among those
        self._newest_rows: dict[int, dict[str | None, streams.Row]] = {}  # of arrays, by tag
        self._there_already: dict[int, int] = {}  # readings of an intake that are stored, by place
        self.kept: list[int] = []  # places of messages to be retained, or copied into queues
        self._route_known()
        self.simple = not self.slow and not self.kept  # only datapoints are to be written

    @cached_property
    def _recent(self) -> int:
        """A datapoint that was stored since then may be the same as one that is sent again."""
        return DEDUPE_WINDOW.start()

    @property
    def repeats(self) -> list[idempotent_requests.Key]:
        """Messages that another process may be storing, which does not know that they were sent again."""
        slow = (self.items[place].raw for place in self.slow)
        return [
            (raw.user, raw.dedupe)
            for raw in slow
            if raw.repeated and raw.connected_at and raw.dedupe is not None
        ]

    @property
    def local_times(self) -> list[int]:
        """Places of arrays that first have to be read in the time zone of their user."""
        return [place for place in self.slow if self.items[place].array is LOCAL_TIMES]

    @property
    def own_times(self) -> list[int]:
        """Times of the datapoints of arrays."""
        arrays = [array for place in self.slow if (array := self.items[place].array)]
        return [at for array in arrays for at in array.times]

    def with_possible_duplicates(self, places: Collection[int]) -> "Batch":
        """The same batch, in which the messages at these places may be stored already."""
        items = [
            item._replace(raw=item.raw._replace(repeated=True)) if place in places else item
            for place, item in enumerate(self.items)
        ]
        return Batch(items, self.device_cache, self.quotas)

    @property
    def ordinary(self) -> list[streams.Row]:
        """The datapoints of the hot path."""
        return self.rows[: len(self.items) - len(self.slow)]

    def device_ids(self) -> dict[DevicePk, str]:
        """Of the devices of its datapoints."""
        slow = set(self.slow)
        fast = (item.raw.device_id for place, item in enumerate(self.items) if place not in slow)
        found = {
            row.device: device_id for row, device_id in zip(self.ordinary, fast, strict=True) if row.device
        }
        return found | {route.device: device_id for (_, device_id), route in self._new_routes.items()}

    @property
    def exceptions(self) -> list[tuple[RawMessage, Outcome, int]]:
        """Messages off the hot path, what became of each, and how many datapoints it has."""
        return [
            (raw, self.outcomes[place], self.points(place))
            for place in self.slow
            if (raw := self.items[place].raw).kind is not Kind.MESSAGE
        ]

    def points(self, place: int) -> int:
        """How many datapoints an item has."""
        array = self.items[place].array
        return len(array.times) - self._there_already.get(place, 0) if array else 1

    def store_routes(self) -> None:
        """In the cache, after the commit."""
        if self._new_routes or self._tags:
            self.device_cache.store(self._generation, self._new_routes, self._tags_by_user)

    def events(self, place: int) -> list[MessageEvent]:
        """What became of an item, for open pages; after the commit. Of an array, the newest datapoint of each
        tag."""
        raw, value, _, _, _ = self.items[place]
        status, reason, detail = self.outcomes[place]
        rejected = status is Status.REJECTED
        before = bisect_left(self.slow, place)
        row: streams.Row | None
        if before < len(self.slow) and self.slow[before] == place:
            row = self._late.get(place)
        else:  # those of the hot path come first, in order
            row = self.rows[place - before]
        found = []
        for tag, newest in self._newest_rows.get(place, {raw.tag: row}).items():
            if self.items[place].array:
                value = newest.value if newest else raw.payload
            found.append(
                MessageEvent(
                    newest.at if newest else raw.received_at,
                    raw.device_id or None,
                    tag,
                    self._source(raw) if rejected else raw.kind.value,
                    status.value,
                    reason.value if reason else None,
                    newest.channel if newest else None,
                    raw.payload if rejected else value,
                    detail,
                )
            )
        return found

    def _route_known(self) -> None:
        """The hot path: a known device, with a known tag or none, and no repetition. Messages of a full
        account do not take it."""
        devices, tags, full, rows = (
            self.device_cache.devices.accounts,
            self.device_cache.tags.accounts,
            self.quotas.full,
            self.rows,
        )
        last = -1
        known: dict[str, DeviceRoute] = {}
        for place, (raw, value, reason, array, _) in enumerate(self.items):
            user, device_id, tag, kind, _, received_at, dedupe, repeated, _, _, _, kept, _, _, _ = raw
            if kept:
                self.kept.append(place)
            if user != last:
                last, known = user, _NO_ROUTES if user in full else devices.get(user, _NO_ROUTES)
                self.users.add(user)
            route = known.get(device_id)
            if route is None or route.channel is None or reason or repeated or array or kind is Kind.STATE:
                self.slow.append(place)
                continue
            tag_key = None
            if tag is not None:
                tag_key = tags[user].get((route.channel, tag)) if user in tags else None
                if tag_key is None:
                    self.slow.append(place)
                    continue
            rows.append(_new(streams.Row, (route.channel, received_at, route.device, tag_key, value, dedupe)))

    def route_unknown(self, cursor: psycopg.Cursor) -> None:
        """Decides about the messages that need a look at the database."""
        places = []
        for place in self.slow:
            raw, _, reason, _, detail = self.items[place]
            if raw.kind is Kind.MESSAGE:
                continue
            route = self.device_cache.devices.get(*self._key(place))
            if reason is None and route is not None:
                if route.channel is None:
                    reason = Reason.DEVICE_DISABLED
                elif raw.user in self.quotas.full and not raw.repeated and raw.kind is not Kind.STATE:
                    reason, detail = Reason.QUOTA_EXCEEDED, self.quotas.full[raw.user]
            if reason is None:
                places.append(place)
            else:
                self.reject(place, raw, reason, detail)
        keys = {self._key(place) for place in places}
        found = devices.lock(cursor, keys) if keys else {}
        if missing := keys - found.keys():
            self._first_contact = devices.create(cursor, missing)
            found |= devices.lock(cursor, missing)
            self.first_contacts = [found[key].pk for key in self._first_contact]
        self._find_known_requests(cursor, places, found)
        storable = [place for place in places if self._place_item(cursor, place, found)]
        storable = self._without_duplicates(cursor, storable, found)
        for place in storable:
            if (user := self.items[place].raw.user) in self.quotas.full:
                self._reject_for_quota(place, self.quotas.full[user])
        storable = [place for place in storable if self.items[place].raw.user not in self.quotas.full]
        self._append_rows(cursor, storable, found)

    def _reject_for_tags(self, cursor: psycopg.Cursor, place: int, missing: int) -> None:
        raw = self.items[place].raw
        self._reject_for_quota(place, no_room_for_tags(missing, self._limits_of(cursor, raw.user).max_tags))

    def _reject_for_quota(self, place: int, detail: str) -> None:
        """With its repetitions in this batch. The same key may come again later, when there is room."""
        places = [place]
        if self.items[place].raw.dedupe is not None:
            key = self._key_of_sending(place)
            self._known_requests.pop(key, None)
            self._new_requests.pop(key, None)
            places += self._again.pop(key, ())
        for each in places:
            self.reject(each, self.items[each].raw, Reason.QUOTA_EXCEEDED, detail)

    def _limits_of(self, cursor: psycopg.Cursor, user: int) -> AccountLimits:
        """Called only where something is refused."""
        if user not in self._limits:
            cursor.execute("SELECT max_devices, max_tags FROM accounts_user WHERE id = %s", [user])
            # Nothing, should the account have just been deleted.
            self._limits[user] = AccountLimits(*(cursor.fetchone() or (0, 0)))
        return self._limits[user]

    def _place_item(
        self, cursor: psycopg.Cursor, place: int, found: dict[DeviceKey, devices.DeviceRow]
    ) -> bool:
        """True if the item is to be stored as a datapoint; else it is held, rejected or a state."""
        key = self._key(place)
        raw, value, _, array, _ = self.items[place]
        device = found.get(key)
        if device is None:
            most = self._limits_of(cursor, raw.user).max_devices
            self.reject(place, raw, Reason.MAX_DEVICE_REACH, no_more_than(most, "device"))
            return False
        if not device.enabled and not device.new:
            self._new_routes[key] = DeviceRoute(device.pk, None)
            self.reject(place, raw, Reason.DEVICE_DISABLED)
            return False
        if self._has_own_key(place) and self._came_before(place):
            return False
        if raw.kind is Kind.STATE:
            self._states[device.pk] = (value.decode(), from_us(raw.received_at))
            return False
        if device.enabled and device.channel is not None:
            self._new_routes[key] = DeviceRoute(device.pk, device.channel)
            self._record_request(place)
            return True
        reason = Reason.NO_MAPPED_CH if device.enabled else Reason.DEVICE_DISABLED
        if key in self._first_contact:
            reason = Reason.NEW_DEVICE_FOUND
        self.outcomes[place] = Outcome(Status.HELD, reason)
        text = held_array(array, raw.tag) if array else value.decode()
        at = from_us(raw.received_at)
        held = devices.Held(device.pk, raw.tag, text, at, raw.dedupe, array is not None, len(text))
        if raw.user in self.quotas.full or raw.user in self.quotas.held_full:
            self._without_room.append((place, held))
        else:
            self._record_request(place, reason)
            again = raw.repeated and (array is None or raw.kind is Kind.INTAKE)
            self._held.append((held, from_us(self._since(place)) if again else None))
        return False

    # Messages with a key of their own (exactly_once/idempotent_requests.py). The device is locked

    def _has_own_key(self, place: int) -> bool:
        raw, _, _, array, _ = self.items[place]
        if raw.kind is Kind.INTAKE:  # each of its readings is looked for
            return False
        return raw.dedupe is not None and (raw.dedupe < 0 or array is not None)

    def _find_known_requests(
        self, cursor: psycopg.Cursor, places: list[int], found: dict[DeviceKey, devices.DeviceRow]
    ) -> None:
        asked = {
            self._key_of_sending(place): place
            for place in places
            if self._has_own_key(place) and self.items[place].raw.repeated
        }
        if not asked:
            return
        self._known_requests = idempotent_requests.find(
            cursor, {key: self._since(place) for key, place in asked.items()}
        )
        # The release before recorded no requests, but its datapoints have the key.
        stored: dict[tuple[int, int], idempotent_requests.Key] = {}
        values: dict[tuple[int, int], bytes] = {}
        for key, place in asked.items():
            device = found.get(self._key(place))
            array = self.items[place].array
            if key not in self._known_requests and not array and device and device.channel is not None:
                stored[device.channel, key[1]] = key
                values[device.channel, key[1]] = self.items[place].value
        if values:
            for each in streams.stored_by_the_release_before(cursor, values, from_us(self._recent)):
                key = stored[each]
                body = self._fingerprint(self.items[asked[key]].raw)
                self._known_requests[key] = IdempotentRequest(*key, body, "")

    def _since(self, place: int) -> int:
        """When, at the earliest, a message that is sent again can have come for the first time."""
        return max(self._recent, self.items[place].raw.confirmed_at)

    def _came_before(self, place: int) -> bool:
        """In an earlier batch or in this one. Then it gets the same answer; with another body it is
        refused."""
        raw = self.items[place].raw
        before = self._known_requests.get(self._key_of_sending(place)) if raw.repeated else None
        if before is None:
            return False
        if before.body != self._fingerprint(raw):
            self.reject(place, raw, Reason.IDEMPOTENCY_KEY_REUSED)
        else:
            reason = Reason(before.answer) if before.answer else None
            self.outcomes[place] = Outcome(Status.DUPLICATE, reason) if reason else DUPLICATE
            self._again.setdefault(self._key_of_sending(place), []).append(place)
        return True

    def _record_request(self, place: int, held: Reason | None = None) -> None:
        if self._has_own_key(place):
            key, body = self._key_of_sending(place), self._fingerprint(self.items[place].raw)
            new = IdempotentRequest(*key, body, held.value if held else "")
            self._known_requests[key] = self._new_requests[key] = new

    def _key_of_sending(self, place: int) -> idempotent_requests.Key:
        raw = self.items[place].raw
        assert raw.dedupe is not None
        return raw.user, raw.dedupe

    def _fingerprint(self, raw: RawMessage) -> UUID:
        return keys.fingerprint(raw.kind.encode(), (raw.tag or "").encode(), raw.payload)

    def _without_duplicates(
        self, cursor: psycopg.Cursor, places: list[int], found: dict[DeviceKey, devices.DeviceRow]
    ) -> list[int]:
        """Leaves out messages that MQTT sends again and that are stored already, or are in this batch."""
        asked = [(self._channel(p, found), p) for p in places if self._may_be_redelivered(p)]
        if not asked:
            return places
        keys = [(channel, self.items[p].raw.dedupe or 0, from_us(self._since(p))) for channel, p in asked]
        seen = streams.stored_before(cursor, keys)
        seen |= {(row.channel, row.dedupe) for row in self.rows if row.dedupe is not None}
        new = []
        for place in places:
            raw = self.items[place].raw
            if raw.dedupe is None or self._has_own_key(place) or raw.kind is Kind.INTAKE:
                new.append(place)
                continue
            key = self._channel(place, found), raw.dedupe
            if raw.repeated and key in seen:
                self.outcomes[place] = DUPLICATE
                self._again.setdefault(self._key_of_sending(place), []).append(place)
            else:
                seen.add(key)
                new.append(place)
        return new

    def _append_rows(
        self, cursor: psycopg.Cursor, places: list[int], found: dict[DeviceKey, devices.DeviceRow]
    ) -> None:
        wanted = {
            (self._channel(place, found), tag)
            for place in places
            for tag in self._tag_names(place)
            if tag is not None
        }
        if wanted:
            self._tags = streams.tag_keys(cursor, list(wanted))
        readings: dict[int, list[streams.Row]] = {}  # of intakes, by place
        for place in places:
            raw, value, _, array, _ = self.items[place]
            channel, device = self._channel(place, found), found[self._key(place)].pk
            if array:
                missing = sum(
                    (channel, tag) not in self._tags for tag in self._tag_names(place) if tag is not None
                )
                if missing:
                    self._reject_for_tags(cursor, place, missing)  # all or nothing
                    continue
                # The tag of an element takes precedence over that of the message.
                keys_of: dict[str | None, TagPk | None] = {
                    tag: self._tags[channel, name] if (name := tag or raw.tag) else None
                    for tag in set(array.tags)
                }
                rows = [
                    _new(streams.Row, (channel, at, device, keys_of[tag], value, None))
                    for tag, value, at in zip(*array, strict=True)
                ]
                if raw.kind is Kind.INTAKE:
                    readings[place] = rows  # each may be there already
                    continue
                self.rows += rows
                newest: dict[str | None, streams.Row] = {}
                for tag, row in sorted(zip(array.tags, rows, strict=True), key=lambda each: each[1].at):
                    newest[tag or raw.tag] = row
                self._newest_rows[place] = newest
                continue
            tag_key = None
            if raw.tag is not None:
                tag_key = self._tags.get((channel, raw.tag))
                if tag_key is None:  # the account has as many as it may
                    self._reject_for_tags(cursor, place, 1)
                    continue
                self._tags_by_user.setdefault(raw.user, {})[channel, raw.tag] = tag_key
            row = streams.Row(channel, raw.received_at, device, tag_key, value, raw.dedupe)
            self.rows.append(row)
            self._late[place] = row
        if readings:
            self._append_readings(cursor, readings)

    def _append_readings(self, cursor: psycopg.Cursor, readings: dict[int, list[streams.Row]]) -> None:
        """Leaves out what is stored already, or came before in this batch: programs send again what they got
        no answer for, together with what is new."""
        asked = [row for place, rows in readings.items() if self.items[place].raw.repeated for row in rows]
        seen = streams.stored_readings(cursor, asked) if asked else set()
        names = {key: name for (_, name), key in self._tags.items()}
        for place, rows in readings.items():
            new = rows
            if self.items[place].raw.repeated:
                new = [row for row in dict.fromkeys(rows) if row not in seen]
                seen.update(new)
            self._there_already[place] = len(rows) - len(new)
            if not new:
                self.outcomes[place] = DUPLICATE
            self.rows += new
            newest = sorted(new, key=lambda row: row.at)
            self._newest_rows[place] = {names[row.tag] if row.tag else None: row for row in newest}

    def _may_be_redelivered(self, place: int) -> bool:
        raw = self.items[place].raw
        return raw.repeated and raw.kind is not Kind.INTAKE and not self._has_own_key(place)

    def _tag_names(self, place: int) -> set[str | None]:
        raw, _, _, array, _ = self.items[place]
        return {tag or raw.tag for tag in set(array.tags)} if array else {raw.tag}

    def write_exceptions(self, cursor: psycopg.Cursor) -> None:
        """Writes what is no datapoint: held messages, states and requests with a key."""
        if self._without_room:
            # What is held already, and is sent again, stays held; there is no room for the rest.
            asked = [
                (held.device, held.dedupe, held.value, from_us(self._since(place)))
                for place, held in self._without_room
                if self.items[place].raw.repeated and held.dedupe is not None
            ]
            seen = devices.held_before(cursor, asked) if asked else set()
            for place, held in self._without_room:
                raw = self.items[place].raw
                if not (raw.repeated and (held.device, held.dedupe) in seen):
                    detail = self.quotas.full.get(raw.user) or self.quotas.held_full[raw.user]
                    self.reject(place, raw, Reason.QUOTA_EXCEEDED, detail)
        if self._held:
            devices.hold(cursor, self._held_once(cursor))
        if self._states:
            devices.set_states(cursor, self._states)
        if self._new_requests:
            idempotent_requests.record(cursor, list(self._new_requests.values()))

    def _held_once(self, cursor: psycopg.Cursor) -> list[devices.Held]:
        """Leaves out messages that are sent again and held already, or are in this batch."""
        asked = [
            (held.device, held.dedupe, held.value, since)
            for held, since in self._held
            if since and held.dedupe is not None
        ]
        seen = set(devices.held_before(cursor, asked)) if asked else set()
        kept = []
        for held, since in self._held:
            if since and (held.device, held.dedupe) in seen:
                continue
            kept.append(held)
            if held.dedupe is not None:
                seen.add((held.device, held.dedupe))
        return kept

    def reject(self, place: int, raw: RawMessage, reason: Reason, detail: str = "") -> None:
        self.outcomes[place] = Outcome(Status.REJECTED, reason, detail)
        payload = held_array(raw.points, raw.tag).encode() if raw.points else raw.payload
        excerpt = payload[: RejectedMessage.EXCERPT]
        source = self._source(raw)
        at = from_us(raw.received_at)
        self.rejected.append(
            devices.Rejected(raw.user, raw.device_id, source, reason.value, excerpt, len(payload), at, detail)
        )

    def _source(self, raw: RawMessage) -> str:
        """Where the message came from: as the connector says, or its topic."""
        if raw.kept:
            return f"TOKEN/{raw.kept.topic}"[: RejectedMessage.SOURCE]
        endpoint = ENDPOINTS.get(raw.kind)
        topic = f"TOKEN/{endpoint.topic(raw.device_id, raw.tag)}" if endpoint else raw.kind.value
        return (raw.source or topic)[: RejectedMessage.SOURCE]

    def _key(self, place: int) -> DeviceKey:
        raw = self.items[place].raw
        return raw.user, raw.device_id

    def _channel(self, place: int, found: dict[DeviceKey, devices.DeviceRow]) -> ChannelPk:
        channel = found[self._key(place)].channel
        assert channel is not None  # see _place_item
        return channel
