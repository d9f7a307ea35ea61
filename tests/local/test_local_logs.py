"""Log files are bounded, while their process keeps writing too."""

import errno
import shutil
from pathlib import Path
from typing import Any

import pytest

from thingscale.local import logs


@pytest.fixture
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(logs, "MAX_BYTES", 1_000)
    return tmp_path / "web.log"


def test_b8_a_log_and_its_copy_stay_bounded_while_its_process_writes(log: Path) -> None:
    with log.open("ab", buffering=0) as process:
        for number in range(2_000):
            process.write(b"line %06d\n" % number)
            logs.truncate_large(log)
            assert log.stat().st_size <= 1_000
        older = log.with_name("web.log.1")
        assert older.stat().st_size == 1_000
        assert (older.read_bytes() + log.read_bytes()).endswith(b"line 001998\nline 001999\n")


def test_as_many_older_parts_are_kept_as_one_wants(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "OLDER", 3)
    for part in b"abcde":
        log.write_bytes(bytes([part]) * 1_001)
        logs.truncate_large(log)
    kept = {path.name: path.read_bytes()[:1] for path in log.parent.iterdir()}
    assert kept == {"web.log": b"", "web.log.1": b"e", "web.log.2": b"d", "web.log.3": b"c"}


def test_b8_of_a_burst_the_newest_part_is_kept(log: Path) -> None:
    log.write_bytes(b"a" * 50_000 + b"b" * 1_000)
    logs.truncate_large(log)
    assert log.stat().st_size == 0
    assert log.with_name("web.log.1").read_bytes() == b"b" * 1_000


def test_b8_where_there_is_no_room_for_a_copy_the_log_is_cut_all_the_same(
    log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(shutil, "copyfileobj", full)
    log.write_bytes(b"a" * 50_000)
    logs.truncate_large(log)
    assert log.stat().st_size == 0
    assert not log.with_name("web.log.1").exists()


def test_b8_a_small_or_missing_log_is_left_alone(log: Path) -> None:
    logs.truncate_large(log)
    log.write_bytes(b"a" * 1_000)
    logs.truncate_large(log)
    assert log.stat().st_size == 1_000
