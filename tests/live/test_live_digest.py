"""What comes together for one update stays small, however much is stored."""

import tracemalloc
from collections import Counter

from thingscale.lib.clock import now_us
from thingscale.processes.live_feed import MAX_MESSAGES, MAX_NAMES, PREVIEW, MessageEvent, Update


def told(
    value: bytes = b"1", channel: int | None = 7, status: str = "stored", **fields: object
) -> MessageEvent:
    given: dict[str, object] = {"at": 1_000_000, "device": "d1", "tag": None, "kind": "json", "reason": None}
    return MessageEvent(channel=channel, status=status, value=value, **(given | fields))  # type: ignore[arg-type]


def digest(*messages: MessageEvent) -> Update:
    made = Update()
    made.add(Counter(message.status for message in messages), messages)
    return made


def test_an_update_has_counts_names_and_messages() -> None:
    update = digest(
        told(b'{"t": 23.40}', at=1_500_000),
        told(b"oops", None, "rejected", reason="BAD_JSON_FORMAT", at=2_000_000),
    ).as_json()
    assert update == {
        "counts": {"stored": 1, "held": 0, "rejected": 1, "duplicate": 0},
        "channels": [7],
        "devices": ["d1"],
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
                "detail": "",
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
                "detail": "",
            },
        ],
        "dropped": 0,
    }


def test_of_many_messages_the_first_are_dropped() -> None:
    update = digest(*(told(b"%d" % n, at=n) for n in range(1_000)), told(b"old", at=5)).as_json()
    assert [line["value"] for line in update["messages"]][-2:] == ["999", "old"]
    assert len(update["messages"]) == MAX_MESSAGES
    assert update["dropped"] == 1_001 - MAX_MESSAGES
    assert update["counts"]["stored"] == 1_001


def test_each_channel_and_device_is_named_once() -> None:
    update = digest(
        told(), told(tag="a"), told(channel=8, device="d2"), told(channel=None, device=None)
    ).as_json()
    assert (update["channels"], update["devices"]) == ([7, 8], ["d1", "d2"])


def test_too_many_names_are_any() -> None:
    update = digest(*(told(channel=n) for n in range(MAX_NAMES + 1))).as_json()
    assert (update["channels"], update["devices"]) == (None, ["d1"])


def test_c14_a_preview_is_cut_and_is_text_or_hex() -> None:
    lines = digest(
        told("€".encode() * 300), told("😀".encode() * 300), told(b"\xff\x00", None, "rejected")
    ).as_json()["messages"]
    assert [line["value"] for line in lines] == ["€" * PREVIEW, "😀" * PREVIEW, "ff 00"]


def test_memory_stays_flat() -> None:
    made = Update()
    tracemalloc.start()
    for number in range(20_000):
        made.add({"stored": 1}, [told(b"%d" % number, channel=number, device=f"d{number}", at=now_us())])
    size, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert made.as_json()["channels"] is made.as_json()["devices"] is None
    assert size < 2**20
