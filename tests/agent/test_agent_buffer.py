"""What the agent keeps: whole, in order, once, within its bytes, whatever the disk does."""

import errno
import json
import os
from pathlib import Path
from random import Random

import pytest
from servwatch_agent import buffer as module
from servwatch_agent.buffer import Batch, Buffer, InUse

MIB = 1 << 20
NOW = 1_790_000_000.0


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a kill leaves is the same without it."""
    monkeypatch.setattr(os, "fdatasync", lambda file: None)
    monkeypatch.setattr(os, "fsync", lambda file: None)


def line(number: int, size: int = 0) -> bytes:
    return json.dumps({"at": f"t{number}", "value": {"n": number, "x": "x" * size}}).encode()


def numbers(batch: Batch | None) -> list[int]:
    return [] if batch is None else [each["value"]["n"] for each in json.loads(batch.body)]


def filled(folder: Path, count: int, most: int = MIB, size: int = 0) -> Buffer:
    buffer = Buffer(folder, most)
    for number in range(count):
        buffer.append(line(number, size))
    return buffer


def drain(buffer: Buffer, connector: str = "mqtt", now: float = 0) -> list[int]:
    found = []
    while batch := buffer.next_batch(connector, now):
        found += numbers(batch)
        buffer.confirm(batch)
    return found


def test_samples_come_out_in_order_once_in_bounded_batches(tmp_path: Path) -> None:
    buffer = filled(tmp_path, 1000, size=3000, most=8 * MIB)
    assert buffer.waiting == 1000
    found = []
    while batch := buffer.next_batch("mqtt", 0):
        assert len(batch.body) <= module.BATCH_BYTES
        assert batch.end - batch.first <= module.BATCH_SAMPLES
        found += numbers(batch)
        buffer.confirm(batch)
    assert found == list(range(1000))
    assert buffer.waiting == 0
    assert len(list(tmp_path.glob("*.samples"))) == 1, "what has arrived leaves the disk"


def test_an_unsure_batch_is_sent_again_with_the_same_bytes_and_packet_id_after_a_kill(tmp_path: Path) -> None:
    first = filled(tmp_path, 3)
    sent = first.next_batch("mqtt", 100)
    assert sent
    assert not sent.again
    first.append(line(3))
    os.close(first._lock)  # a kill: nothing else is done
    second = Buffer(tmp_path, MIB)
    again = second.next_batch("mqtt", 200)
    assert again == sent._replace(again=True)
    second.confirm(again)
    following = second.next_batch("mqtt", 300)
    assert numbers(following) == [3]
    assert following
    assert following.packet_id == sent.packet_id + 1
    assert second.client == first.client


def test_packet_ids_begin_again_above_those_of_subscriptions(tmp_path: Path) -> None:
    buffer = filled(tmp_path, 0)
    buffer.packet_id = module.LAST_PACKET_ID - 1
    found = []
    for number in range(3):
        buffer.append(line(number))
        batch = buffer.next_batch("mqtt", 0)
        assert batch
        found.append(batch.packet_id)
        buffer.confirm(batch)
    assert found == [module.LAST_PACKET_ID, module.FIRST_PACKET_ID, module.FIRST_PACKET_ID + 1]


def test_what_one_connector_has_sent_waits_for_it_an_hour(tmp_path: Path) -> None:
    buffer = filled(tmp_path, 70)
    unsure = buffer.next_batch("mqtt", 1000)
    assert numbers(buffer.next_batch("http", 1001)) == list(range(64, 70))
    assert drain(buffer, "http", 1001) == list(range(64, 70))
    assert buffer.next_batch("http", 1002) is None
    late = buffer.next_batch("http", 1000 + module.SAME_SECONDS)
    assert numbers(late) == numbers(unsure) == list(range(64))


def test_what_was_surely_not_stored_goes_by_the_other_connector_at_once(tmp_path: Path) -> None:
    buffer = filled(tmp_path, 2)
    refused = buffer.next_batch("http", NOW)
    assert refused
    buffer.release(refused)
    assert numbers(buffer.next_batch("mqtt", NOW + 1)) == [0, 1]
    assert buffer.next_batch("http", NOW + 2) is None


def test_at_its_cap_the_oldest_go_and_are_counted(tmp_path: Path) -> None:
    buffer = filled(tmp_path, 2000, size=1000)
    assert sum(path.stat().st_size for path in tmp_path.glob("*.samples")) <= MIB
    dropped = buffer.dropped
    assert dropped > 900
    buffer.append_telling(lambda waiting, dropped: line(dropped))
    assert buffer.dropped == 0
    assert drain(buffer) == [*range(dropped, 2000), dropped]
    kept = (2000 - dropped) * len(line(1000, 1000))
    assert kept > MIB - 2 * buffer.segment_bytes, "no more than needed goes"


def test_a_dropped_sample_that_told_of_dropped_ones_leaves_their_number_to_the_next(tmp_path: Path) -> None:
    buffer = filled(tmp_path, 0)
    told = b'{"at":"t","value":{"agent":{"waiting":5,"dropped":37},"x":"%s"}}' % (b"x" * 1000)
    plain = b'{"at":"t","value":{"agent":{"waiting":5},"x":"%s"}}' % (b"x" * 1000)
    buffer.append(told)
    for _ in range(1000):
        buffer.append(plain)
    count = 0
    while batch := buffer.next_batch("mqtt", 0):
        count += batch.end - batch.first
        buffer.confirm(batch)
    assert buffer.dropped == 1001 - count + 37


def test_what_is_on_its_way_when_the_cap_is_reached_is_not_counted_as_lost(tmp_path: Path) -> None:
    buffer = filled(tmp_path, 10, size=1000)
    sent = buffer.next_batch("mqtt", 0)
    for number in range(10, 2000):
        buffer.append(line(number, 1000))
    dropped = buffer.dropped
    assert sent
    assert buffer.next_batch("mqtt", 0) == sent._replace(again=True)
    found = drain(buffer)
    assert found[:10] == list(range(10))
    assert len(found) == len(set(found)) == 2000 - dropped
    assert found == sorted(found)
    assert found[-700:] == list(range(1300, 2000))


@pytest.mark.parametrize("tail", [b'{"at":"t9","val', b"\0" * 50, b'{"at":"t9","value":1}\0\n', b"garbage\n"])
def test_a_torn_end_is_left_out(tmp_path: Path, tail: bytes) -> None:
    buffer = filled(tmp_path, 3)
    buffer.close()
    (path,) = tmp_path.glob("*.samples")
    with path.open("ab") as file:
        file.write(tail)
    again = Buffer(tmp_path, MIB)
    again.append(line(3))
    assert drain(again) == [0, 1, 2, 3]


@pytest.mark.parametrize("half", [0, 1])
def test_a_state_of_which_one_half_is_torn_is_that_of_the_other(tmp_path: Path, half: int) -> None:
    buffer = filled(tmp_path, 100)
    batch = buffer.next_batch("mqtt", 0)
    assert batch
    buffer.confirm(batch)
    buffer.close()
    state = bytearray((tmp_path / "state").read_bytes())
    state[half * 4096 + 20 : half * 4096 + 40] = b"\0" * 20
    (tmp_path / "state").write_bytes(state)
    again = Buffer(tmp_path, MIB)
    found = drain(again)
    assert found[-36:] == list(range(64, 100))  # of the batch, one half may not know the answer yet
    assert len(found) in (36, 100)


def test_without_a_state_all_is_sent(tmp_path: Path) -> None:
    filled(tmp_path, 5).close()
    (tmp_path / "state").unlink()
    assert drain(Buffer(tmp_path, MIB)) == [0, 1, 2, 3, 4]


def test_two_agents_do_not_share_a_buffer(tmp_path: Path) -> None:
    buffer = Buffer(tmp_path, MIB)
    with pytest.raises(InUse, match="Another agent"):
        Buffer(tmp_path, MIB)
    buffer.close()
    Buffer(tmp_path, MIB)


@pytest.fixture
def full(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """While it has an element, the disk takes a part of what is written, and then nothing."""
    is_full: list[bool] = []
    write = os.pwrite

    def pwrite(file: int, data: bytes, at: int) -> int:
        if not is_full or len(data) == 4096:  # the state is written over itself
            return write(file, data, at)
        write(file, data[: len(data) // 2], at)
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "pwrite", pwrite)
    return is_full


def test_on_a_full_disk_samples_wait_in_memory_and_come_in_order(
    tmp_path: Path, full: list[bool], caplog: pytest.LogCaptureFixture
) -> None:
    buffer = filled(tmp_path, 10)
    full.append(True)
    for number in range(10, 20):
        buffer.append(line(number))
    assert [each.getMessage() for each in caplog.records] == [
        f"The buffer at {tmp_path} can't be written (No space left on device). Samples are kept in memory, "
        "up to 1024 KiB of them."
    ]
    first = buffer.next_batch("mqtt", 0)
    assert numbers(first) == list(range(10)), "a batch is of one place"
    assert first
    buffer.confirm(first)
    second = buffer.next_batch("mqtt", 0)
    assert numbers(second) == list(range(10, 20))
    full.clear()
    buffer.append(line(20))
    os.close(buffer._lock)  # a kill
    assert drain(Buffer(tmp_path, MIB)) == list(range(10, 21)), "on disk as soon as there was room"


def test_in_memory_too_the_oldest_go_and_are_counted(tmp_path: Path, full: list[bool]) -> None:
    buffer = filled(tmp_path, 5, size=1000, most=8 * MIB)
    full.append(True)
    for number in range(5, 3000):
        buffer.append(line(number, 1000))
    assert sum(len(each.memory) for each in buffer.segments) <= module.MEMORY_BYTES
    dropped = buffer.dropped
    full.clear()
    buffer.append(line(3000, 1000))
    assert drain(buffer) == [*range(5), *range(5 + dropped, 3001)]


def test_a_folder_that_can_not_be_made_leaves_memory(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    buffer = filled(tmp_path / "file" / "folder", 70)
    assert drain(buffer) == list(range(70))
    buffer.close()


def test_whatever_happens_in_which_order_each_sample_arrives_once(tmp_path: Path, full: list[bool]) -> None:
    """Kills, full disks, answers that are lost, both connectors: a platform that knows what is sent again has
    each sample once, but those that were in memory at a kill."""
    random = Random(20260131)
    buffer, number, now = Buffer(tmp_path, 64 * MIB), 0, NOW
    stored: list[int] = []
    known: set[tuple[str, int, bytes]] = set()
    maybe_lost: set[int] = set()
    for _ in range(2000):
        now += random.uniform(0, 5)  # of the platform's hour, nothing ends
        what = random.random()
        if what < 0.5:
            buffer.append(line(number, random.randrange(3000)))
            number += 1
        elif what < 0.9:
            connector = "mqtt" if int(now) % 600 < 400 else "http"
            if batch := buffer.next_batch(connector, now):
                arrived, answered = random.random() < 0.8, random.random() < 0.8
                if arrived and (connector, batch.packet_id, batch.body) not in known:
                    known.add((connector, batch.packet_id, batch.body))
                    stored += numbers(batch)
                if arrived and answered:
                    buffer.confirm(batch)
        elif what < 0.93:
            full[:] = [] if full else [True]
        elif what < 0.95:
            for segment in buffer.segments:
                if not segment.path:
                    maybe_lost |= {json.loads(each)["value"]["n"] for each in segment.memory.splitlines()}
            os.close(buffer._lock)
            buffer = Buffer(tmp_path, 64 * MIB)
    full.clear()
    for connector in ("mqtt", "http"):
        while batch := buffer.next_batch(connector, now):
            if (connector, batch.packet_id, batch.body) not in known:
                stored += numbers(batch)
            buffer.confirm(batch)
    assert len(stored) == len(set(stored)), "nothing twice"
    assert set(range(number)) - set(stored) <= maybe_lost
    assert len(maybe_lost) < number / 2
