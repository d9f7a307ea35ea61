"""What the log says of what clients send: one short line each."""

import logging
import sys
from typing import Any

import pytest
from django.conf import settings
from django.core.exceptions import DisallowedHost
from django.test import Client
from pytest_django import Settings

from thingscale.lib.log_lines import MAX_LINE, MAX_TRACEBACK, LineFormatter

FORMAT = LineFormatter("%(levelname)s %(name)s: %(message)s")


def line(name: str, message: str, *arguments: Any, error: Exception | None = None, **extra: Any) -> str:
    record = logging.LogRecord(name, logging.ERROR, __file__, 1, message, arguments, None)
    if error is not None:
        try:
            raise error
        except Exception:
            record.exc_info = sys.exc_info()
    record.__dict__.update(extra)
    return FORMAT.format(record)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        pytest.param("a\nERROR root: forged", "a\\nERROR root: forged", id="a second line"),
        pytest.param("\x1b[2J", "\\x1b[2J", id="a terminal's escape"),
        pytest.param("\x00\x85", "\\x00\\x85", id="NUL and NEL"),
        pytest.param("\u2028é", "\\u2028é", id="a line separator"),
        pytest.param("/in/" + "a" * 26 + "/write", "/in/***/write", id="an intake's key"),
        pytest.param("/0123456789ABCDEF0123456789ABCDEF/json", "/***/json", id="a token"),
        pytest.param("0123456789abcdef0123456789abcdef", "0123456789abcdef0123456789abcdef", id="no token"),
    ],
)
def test_b8_control_characters_are_escaped(text: str, shown: str) -> None:
    assert line("x", "Bad %s", text) == f"ERROR x: Bad {shown}"


def test_b8_a_message_is_cut() -> None:
    assert len(line("x", "Bad %s", "h" * 100_000)) < MAX_LINE + 50


@pytest.mark.parametrize(
    ("name", "extra"), [("django.security.DisallowedHost", {}), ("django.request", {"status_code": 400})]
)
def test_b8_a_refused_request_has_no_traceback(name: str, extra: dict[str, Any]) -> None:
    assert line(name, "Bad", error=DisallowedHost("x"), **extra) == f"ERROR {name}: Bad"


def test_b8_our_own_failures_keep_theirs() -> None:
    text = line("django.request", "Failed", error=ValueError("a\x1b\n" + "b" * 100_000), status_code=500)
    assert text.startswith("ERROR django.request: Failed\nTraceback")
    assert "\x1b" not in text
    assert len(text) < MAX_TRACEBACK + 200


@pytest.mark.parametrize("host", ["evil.example", "a" * 5_000, "x\x1b[31m", "[::1", "a b"])
def test_b8_a_bad_host_is_one_short_line(
    settings: Settings, caplog: pytest.LogCaptureFixture, host: str
) -> None:
    settings.ALLOWED_HOSTS = ["iot.example"]
    settings.PUBLIC_URL = ""
    assert Client().get("/signin/", headers={"Host": host}).status_code == 400
    lines = [FORMAT.format(record) for record in caplog.records]
    assert lines
    assert all(len(each) < MAX_LINE + 100 and "\n" not in each for each in lines)


def test_b8_the_settings_use_it() -> None:
    formatters: Any = settings.LOGGING["formatters"]
    assert formatters["line"]["()"] == f"{LineFormatter.__module__}.LineFormatter"
