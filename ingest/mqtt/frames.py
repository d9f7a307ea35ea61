"""A byte stream cut into MQTT packets (section 2.1, fixed header)."""

from ingest.mqtt.packets import PUBLISH, ProtocolError, ReasonCode
from ingest.mqtt.wire import malformed

Frame = tuple[int, bytes]


MAX_READ_OVER = 16 * 2**20
TOO_LARGE = 0x100  # flag beside the first byte of a PUBLISH of which only topic and packet id are kept


class FrameReader:
    """Collects what a connection receives. `max_size` limits the Remaining Length of a packet. With
    `reads_over` the payload of a larger PUBLISH is skipped: a client that can't be told the limit, and gets
    no acknowledgement, would send the same message for ever, and nothing behind it."""

    __slots__ = ("_max_size", "_rest", "_skipped", "_wanted", "error", "reads_over")

    def __init__(self, max_size: int) -> None:
        self._max_size = max_size
        self.reads_over = False
        self._skipped = 0  # bytes of a packet that is too large, still to come
        self._rest: bytearray | None = None  # of a packet that is not complete
        self._wanted = 0  # bytes from the start of _rest without which parsing it again is useless
        self.error: ProtocolError | None = None  # the frames in front of it have been returned

    @property
    def buffered(self) -> int:
        return len(self._rest) if self._rest else 0

    def feed(self, data: bytes) -> list[Frame]:
        """The frames that `data` completes, as (first byte, body).

        Raises ProtocolError for a bad length. Frames in front of it are returned first; then the next call
        raises, and every one after it.
        """
        if self.error:
            raise self.error
        if self._skipped:
            skipped = min(self._skipped, len(data))
            self._skipped -= skipped
            data = data[skipped:]
        if self._rest:
            self._rest += data
            if len(self._rest) < self._wanted:
                return []
            data = bytes(self._rest)
        frames: list[Frame] = []
        try:
            used = self._cut(data, frames)
        except ProtocolError as error:
            self.error = error
            self._rest = None
            if not frames:
                raise
            return frames
        self._rest = bytearray(data[used:]) if used < len(data) else None
        return frames

    def _cut(self, data: bytes, frames: list[Frame]) -> int:
        """Appends the complete frames of `data`; returns how many bytes they cover."""
        start, size, largest = 0, len(data), self._max_size
        while start + 2 <= size:
            length = data[start + 1]
            body = start + 2
            if length > 0x7F:
                length, body = _long_length(data, start)
                if not body:
                    break
            if largest < length <= MAX_READ_OVER and self.reads_over and data[start] >> 4 == PUBLISH:
                # Behind the topic and packet id; or behind the bytes that are needed to know where they end.
                end = body + 2
                if end <= size:
                    end += int.from_bytes(data[body:end], "big") + 2 * bool(data[start] & 0x06)
                if end - body > length:
                    raise malformed("The topic of a PUBLISH is longer than the packet.")
                if end > size:
                    self._wanted = end - start
                    return start
                frames.append((data[start] | TOO_LARGE, data[body:end]))
                self._skipped = max(body + length - size, 0)
                start = body + length - self._skipped
                continue
            if length > largest:
                sentence = f"A packet of {length} bytes is larger than the limit of {largest}."
                raise ProtocolError(ReasonCode.PACKET_TOO_LARGE, sentence)
            end = body + length
            if end > size:
                self._wanted = end - start
                return start
            frames.append((data[start], data[body:end]))
            start = end
        self._wanted = 0
        return start


def _long_length(data: bytes, start: int) -> tuple[int, int]:
    """Remaining Length of two to four bytes and the position after it, (0, 0) while it is incomplete."""
    length = 0
    for index, byte in enumerate(data[start + 1 : start + 5]):
        length |= (byte & 0x7F) << 7 * index
        if byte < 0x80:
            if not byte:  # [MQTT-1.5.5-1] of MQTT 5
                raise malformed("The remaining length is longer than it needs to be.")
            return length, start + 2 + index
        if index == 3:
            raise malformed("The remaining length has more than four bytes.")
    return 0, 0
