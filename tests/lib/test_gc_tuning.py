"""What a failed attempt to connect leaves behind."""

import contextlib
import gc

import psycopg
import pytest
from django.db import connection

from ingest.service import connect

ATTEMPTS = 20


def attempt() -> None:
    with contextlib.suppress(psycopg.OperationalError):
        connect()


def test_attempts_to_connect_leave_nothing_to_the_collector(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(connection.settings_dict, "HOST", "/nowhere")
    attempt()
    gc.collect()
    gc.disable()
    try:
        for _ in range(ATTEMPTS):
            attempt()
        assert gc.collect() < ATTEMPTS
    finally:
        gc.enable()
