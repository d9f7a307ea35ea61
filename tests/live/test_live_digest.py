"""What comes together for one update stays small, however much is stored."""

import tracemalloc
from collections import Counter

from thingscale.lib.clock import now_us
from thingscale.watch import MAX_BYTES, MAX_LATEST, MAX_MESSAGES, PREVIEW, Digest, Told


def told(value: bytes = b"1", channel: int | None = 7, status: str = "stored", **fields: object) -> Told:
    given: dict[str, object] = {"at": 1_000_000, "device": "d1", "tag": None, "kind": "json", "reason": None}
    return Told(channel=channel, status=status, value=value, **(given | fields))  # type: ignore[arg-type]


def digest(*messages: Told) -> Digest:
    made = Digest()
    made.add(Counter(message.status for message in messages), messages)
    return made


def test_an_update_has_counts_newest_values_and_messages() -> None:
    update = digest(
        told(b'{"t": 23.40}', at=1_500_000),
        told(b"oops", None, "rejected", reason="BAD_JSON_FORMAT", at=2_000_000),
    ).update()
    assert update == {
        "counts": {"stored": 1, "held": 0, "rejected": 1, "duplicate": 0},
        "latest": [
            {
                "channel": 7,
                "tag": None,
                "device": "d1",
                "at": "1970-01-01T00:00:01.500Z",
                "value": '{"t": 23.40}',
            }
        ],
        "messages": [
            {
                "at": "1970-01-01T00:00:01.500Z",
                "device": "d1",
                "tag": None,
                "kind": "json",
                "status": "stored",
                "reason": None,
                "channel": 7,
                "value": '{"t": 23.40}',
            },
            {
                "at": "1970-01-01T00:00:02.000Z",
                "device": "d1",
                "tag": None,
                "kind": "json",
                "status": "rejected",
                "reason": "BAD_JSON_FORMAT",
                "channel": None,
                "value": "oops",
            },
        ],
        "dropped": 0,
    }


def test_only_the_newest_of_a_stream_is_told_and_the_first_messages_are_dropped() -> None:
    update = digest(*(told(b"%d" % n, at=n) for n in range(1_000)), told(b"old", at=5)).update()
    assert [entry["value"] for entry in update["latest"]] == ["999"]
    assert [line["value"] for line in update["messages"]][-2:] == ["999", "old"]
    assert len(update["messages"]) == MAX_MESSAGES
    assert update["dropped"] == 1_001 - MAX_MESSAGES
    assert update["counts"]["stored"] == 1_001


def test_a_tag_is_a_stream_of_its_own() -> None:
    update = digest(told(b"1"), told(b"2", tag="a"), told(b"3", tag="a"), told(b"4", 8)).update()
    assert [(e["channel"], e["tag"], e["value"]) for e in update["latest"]] == [
        (7, None, "1"),
        (7, "a", "3"),
        (8, None, "4"),
    ]


def test_what_has_no_room_is_told_without_its_value() -> None:
    large = b'"%s"' % (b"x" * MAX_BYTES)
    update = digest(told(b"1"), told(large, 8), told(b"2", 9)).update()
    assert [entry["value"] for entry in update["latest"]] == ["1", None, "2"]


def test_a_preview_is_cut_and_is_always_text() -> None:
    lines = digest(
        told("€".encode() * 300), told("😀".encode() * 300), told(b"\xff\x00", None, "rejected")
    ).update()["messages"]
    assert [line["value"] for line in lines] == ["€" * PREVIEW, "😀" * PREVIEW, "\ufffd\0"]


def test_memory_stays_flat() -> None:
    made = Digest()
    tracemalloc.start()
    for number in range(20_000):
        made.add({"stored": 1}, [told(b"%d" % number, channel=number, at=now_us())])
    size, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(made.update()["latest"]) == MAX_LATEST
    assert size < 2**20
