"""Keeps samples until the platform has acknowledged them: on disk, in order, within a number of bytes.

A folder with the files

    0000000000000042.samples   one sample a line, exactly as it is sent; the name is the number of the first
    state                      which number comes next, and what was sent without an answer so far
    lock                       held by the agent that uses the folder

Plain files, and no database, for what happens on a full disk: a sample that does not fit whole is cut off
again, old samples are removed by removing their file, and the state is written over itself, all of which
needs no room. Each sample and state is on the disk (fdatasync) before it counts, so kill -9 and a power cut
cost nothing that counted; a last line that was cut is known by its missing end, and left out.

A batch is recorded before it is sent. Whatever happens then, the same bytes are sent again by the same
connector, with the same packet id, until there is an answer: by that the platform knows them, for an hour.
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
import re
import secrets
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

log = logging.getLogger(__name__)

BATCH_SAMPLES, BATCH_BYTES = 64, 64 * 1024
SEGMENT_BYTES = 256 * 1024
MEMORY_BYTES = 1 << 20  # while the disk takes nothing
SAME_SECONDS = 3600.0  # for which the platform knows what is sent again
FIRST_PACKET_ID, LAST_PACKET_ID = 16, 65534  # below: subscriptions; above: gmqtt begins again
_SLOT = 4096
_TOLD = re.compile(rb'"agent":\{"waiting":\d+,"dropped":(\d+)\}')


class InUse(Exception):
    """Another agent has the folder."""


class Batch(NamedTuple):
    """Samples that are sent together. As an array of JSON it is always the same bytes."""

    connector: str
    first: int
    end: int  # the number behind its last sample
    packet_id: int
    sent_at: float  # wall clock; 0: surely not arrived
    body: bytes = b""
    again: bool = False  # it may have arrived


class Segment:
    """Samples whose numbers follow each other: a file, or memory while the disk is full."""

    def __init__(self, first: int, path: Path | None = None, lines: bytes = b"") -> None:
        self.first = first
        self.path = path
        self.memory = bytearray() if path else bytearray(lines)
        self.offsets = [0]  # where each line ends
        for line in lines.splitlines(keepends=True):
            self.offsets.append(self.offsets[-1] + len(line))

    @property
    def end(self) -> int:
        return self.first + len(self.offsets) - 1

    @property
    def size(self) -> int:
        return self.offsets[-1]

    def append(self, line: bytes) -> None:
        """Whole or not at all; raises OSError."""
        if self.path:
            _append(self.path, self.size, line)
        else:
            self.memory += line
        self.offsets.append(self.size + len(line))

    def read(self, first: int, end: int) -> bytes:
        start, stop = self.offsets[first - self.first], self.offsets[end - self.first]
        if not self.path:
            return bytes(self.memory[start:stop])
        with self.path.open("rb") as file:
            file.seek(start)
            return file.read(stop - start)


class Buffer:
    """For one thread."""

    def __init__(self, folder: Path, most_bytes: int) -> None:
        self.folder = folder
        self.most_bytes = most_bytes
        self.segment_bytes = min(SEGMENT_BYTES, most_bytes // 8)
        self.segments: list[Segment] = []
        self.sent: dict[str, Batch] = {}  # without an answer, by connector
        self.next = 1  # the first sample that was not sent yet
        self.packet_id = FIRST_PACKET_ID - 1
        self.client = secrets.token_hex(4)  # of the MQTT client id
        self.dropped = 0
        self._written = 0  # states
        self._state: int | None = None  # file descriptor
        self._lock = -1
        self._failed = False
        try:
            self._open()
        except OSError as error:
            self._say_failed(error)

    @property
    def end(self) -> int:
        """The number of the next sample to be kept. What was in memory at a kill leaves a gap before it."""
        return max(self.next, self.segments[-1].end if self.segments else 0)

    @property
    def waiting(self) -> int:
        """Samples without an acknowledgement."""
        unsent = sum(max(0, each.end - max(each.first, self.next)) for each in self.segments)
        return unsent + sum(batch.end - batch.first for batch in self.sent.values())

    def append_telling(self, make: Callable[[int, int], bytes]) -> None:
        """A sample that tells how many wait, and how many were lost since the one before."""
        dropped, self.dropped = self.dropped, 0
        self.append(make(self.waiting, dropped))

    def append(self, line: bytes) -> None:
        """A sample: one line of JSON, without its end."""
        line += b"\n"
        while self.segments and sum(each.size for each in self.segments) + len(line) > self.most_bytes:
            # What has no answer yet may have arrived, so nobody could say whether it is lost.
            sure = [each for each in self.segments if not self._unanswered(each)]
            self._drop((sure or self.segments)[0])
        try:
            self._save_memory()
            if self._last_has_room(line, self.segment_bytes):
                self.segments[-1].append(line)
            else:
                self.segments.append(self._make_file(self.end, line))
            if self._failed:
                self._failed = False
                log.info("The buffer at %s can be written again.", self.folder)
        except OSError as error:
            self._say_failed(error)
            self._append_to_memory(line)

    def next_batch(self, connector: str, now: float) -> Batch | None:
        """What to send by this connector: first, what it has sent without an answer."""
        batch = self.sent.get(connector) or self._from_other(now) or self._cut()
        if batch is None:
            return None
        segment = next(each for each in self.segments if each.first <= batch.first < each.end)
        try:
            lines = segment.read(batch.first, batch.end)
        except OSError as error:
            log.error("Samples in %s can't be read, and are lost: %s", self.folder, error)
            self._drop(segment)
            return self.next_batch(connector, now)
        if connector not in self.sent:
            self.packet_id = self.packet_id + 1 if self.packet_id < LAST_PACKET_ID else FIRST_PACKET_ID
            batch = batch._replace(connector=connector, packet_id=self.packet_id, sent_at=now)
            self.sent[connector] = batch._replace(again=True)
            self.next = max(self.next, batch.end)
            self._write_state(sync=True)
        return batch._replace(body=b"[" + lines[:-1].replace(b"\n", b",") + b"]")

    def confirm(self, batch: Batch) -> None:
        """It has arrived, or is not to be sent again. Should this be forgotten, it is sent again."""
        if self.sent.pop(batch.connector, None):
            self._remove_confirmed()
            self._write_state()

    def release(self, batch: Batch) -> None:
        """It was refused for now, so any connector may send it."""
        if known := self.sent.get(batch.connector):
            self.sent[batch.connector] = known._replace(sent_at=0.0)
            self._write_state()

    def close(self) -> None:
        if self._state is not None:
            self._write_state(sync=True)
            os.close(self._state)
            os.close(self._lock)
            self._state = None

    def _from_other(self, now: float) -> Batch | None:
        """What the other connector, which is away, has sent. It may have arrived, and only that connector can
        tell; so it waits for it until the platform does not know it any more either."""
        for other in self.sent.values():
            if abs(now - other.sent_at) >= SAME_SECONDS:
                del self.sent[other.connector]
                return other._replace(again=False)
        return None

    def _cut(self) -> Batch | None:
        """The next samples. A batch is within one segment, so that it can't be lost in part."""
        segment = next((each for each in self.segments if each.end > self.next), None)
        if segment is None:
            return None
        first = max(segment.first, self.next)
        start = segment.offsets[first - segment.first]
        end = first + 1
        while (
            end < min(segment.end, first + BATCH_SAMPLES)
            and segment.offsets[end + 1 - segment.first] - start <= BATCH_BYTES
        ):
            end += 1
        return Batch("", first, end, 0, 0.0)

    def _last_has_room(self, line: bytes, most: int) -> bool:
        if not self.segments or self.segments[-1].end != self.end:
            return False
        return self.segments[-1].size + len(line) <= most

    def _make_file(self, first: int, lines: bytes) -> Segment:
        """Whole or not at all; raises OSError."""
        if self._state is None:
            raise OSError("it could not be opened")
        path = self.folder / f"{first:016d}.samples"
        path.write_bytes(b"")
        try:
            _append(path, 0, lines)
            _sync_folder(self.folder)
        except OSError:
            path.unlink()
            raise
        return Segment(first, path, lines)

    def _append_to_memory(self, line: bytes) -> None:
        memory = [each for each in self.segments if not each.path]
        while memory and sum(each.size for each in memory) + len(line) > MEMORY_BYTES:
            self._drop(memory.pop(0))
        if not memory or not self._last_has_room(line, MEMORY_BYTES // 16):
            self.segments.append(Segment(self.end))
        self.segments[-1].append(line)

    def _save_memory(self) -> None:
        """To disk, as soon as it can be written again. Raises OSError."""
        for place, segment in enumerate(self.segments):
            if not segment.path:
                self.segments[place] = self._make_file(segment.first, bytes(segment.memory))

    def _drop(self, segment: Segment) -> None:
        """With what was sent of it: that is whole, and will not be sent again."""
        for batch in self._unanswered(segment):
            del self.sent[batch.connector]
            self.dropped += batch.end - batch.first
        lost = segment.end - max(segment.first, self.next)
        if lost > 0:
            self.dropped += lost
            try:
                # What they would have said was lost before them is lost still.
                lines = segment.read(segment.end - lost, segment.end)
                self.dropped += sum(map(int, _TOLD.findall(lines)))
            except OSError:
                pass
        if segment is self.segments[0]:
            self.next = max(self.next, segment.end)
        self._remove(segment)
        self._write_state()
        if self.dropped:
            log.warning("The buffer is full: %d samples are lost, the oldest.", self.dropped)

    def _remove(self, segment: Segment) -> None:
        self.segments.remove(segment)
        if segment.path:
            try:
                segment.path.unlink()
            except OSError as error:
                log.error("%s can't be removed: %s", segment.path, error)

    def _remove_confirmed(self) -> None:
        """But the last one, which is written on."""
        for segment in self.segments[:-1]:
            if segment.end <= self.next and not self._unanswered(segment):
                self._remove(segment)

    def _unanswered(self, segment: Segment) -> list[Batch]:
        return [batch for batch in self.sent.values() if segment.first <= batch.first < segment.end]

    def _say_failed(self, error: OSError) -> None:
        if not self._failed:
            self._failed = True
            log.error(
                "The buffer at %s can't be written (%s). Samples are kept in memory, up to %d KiB of them%s.",
                self.folder,
                error.strerror or error,
                MEMORY_BYTES // 1024,
                ", until the agent starts again" if self._state is None else "",
            )

    def _open(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._lock = os.open(self.folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._lock)
            raise InUse(f"Another agent uses {self.folder}.") from None
        state = os.open(self.folder / "state", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        if os.fstat(state).st_size < 2 * _SLOT:
            os.pwrite(state, b"\0" * 2 * _SLOT, 0)  # so that it needs no room later
        known = max(filter(None, map(_read_slot, (os.pread(state, _SLOT, at) for at in (0, _SLOT)))),
                    key=lambda each: each["written"], default=None)  # fmt: skip
        self._state = state
        for path in sorted(self.folder.glob("[0-9]" * 16 + ".samples")):
            lines = _whole_lines(path)
            segment = Segment(int(path.stem), path, lines)
            if lines and (not self.segments or segment.first >= self.segments[-1].end):
                self.segments.append(segment)
            else:
                path.unlink()
        if known:
            self._written, self.next, self.packet_id = known["written"], known["next"], known["packet_id"]
            self.client, self.dropped = known["client"], known["dropped"]
            batches = [Batch(*each)._replace(again=True) for each in known["sent"]]
            self.sent = {each.connector: each for each in batches if self._has(each)}
        elif self.segments:
            self.next = self.segments[0].first
        self._remove_confirmed()
        self._write_state(sync=True)

    def _has(self, batch: Batch) -> bool:
        return any(each.first <= batch.first and batch.end <= each.end for each in self.segments)

    def _write_state(self, sync: bool = False) -> None:
        """Into the two halves of the file by turns, so that one of them is always whole."""
        if self._state is None:
            return
        self._written += 1
        state: dict[str, Any] = {
            "written": self._written,
            "next": self.next,
            "packet_id": self.packet_id,
            "client": self.client,
            "dropped": self.dropped,
            "sent": [batch[:5] for batch in self.sent.values()],
        }
        text = json.dumps(state).encode()
        try:
            line = b"%08x %s\n" % (zlib.crc32(text), text)
            os.pwrite(self._state, line.ljust(_SLOT, b" "), self._written % 2 * _SLOT)
            if sync:
                os.fdatasync(self._state)
        except OSError as error:
            log.error("The state of the buffer can't be written: %s. Should the agent end now, some samples "
                      "are sent twice.", error)  # fmt: skip


def _append(path: Path, size: int, lines: bytes) -> None:
    """Raises OSError, and then the file is as it was."""
    file = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        try:
            if os.pwrite(file, lines, size) < len(lines):
                raise OSError("no room for all of it")
            os.fdatasync(file)
        except OSError:
            os.ftruncate(file, size)
            raise
    finally:
        os.close(file)


def _sync_folder(folder: Path) -> None:
    file = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(file)
    finally:
        os.close(file)


def _whole_lines(path: Path) -> bytes:
    """Up to the first one that is not whole, with which the file is then cut."""
    content = path.read_bytes()
    good = 0
    for line in content.splitlines(keepends=True):
        if not (line.startswith(b'{"at":') and line.endswith(b"}\n")) or b"\0" in line:
            log.warning("%s ends with a line that is not whole. It is left out.", path)
            os.truncate(path, good)
            break
        good += len(line)
    return content[:good]


def _read_slot(slot: bytes) -> dict[str, Any] | None:
    checksum, _, text = slot.strip().partition(b" ")
    if not text or checksum != b"%08x" % zlib.crc32(text):
        return None
    return json.loads(text)  # type: ignore[no-any-return]
