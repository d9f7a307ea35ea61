"""What the parser of heads remembers. How it reads them: test_http_door.py, drills/test_http_fuzz.py."""

import pytest

from thingscale.web import http_parser
from thingscale.web.http_parser import MAX_NAMES, parse_head


def test_b4_names_that_a_client_makes_up_do_not_keep_out_those_of_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    names: dict[bytes, bytes] = {}
    monkeypatch.setattr(http_parser, "_known_names", names)
    made_up = [b"GET / HTTP/1.1\r\nHost: a\r\nX-Made-Up-%d: 1\r\n\r\n" % number for number in range(5_000)]
    for head in made_up:
        parse_head(head)
        assert len(names) <= MAX_NAMES
    request = parse_head(b"GET / HTTP/1.1\r\nHost: a\r\nX-DeviceToken: T\r\n\r\n")
    assert request.fields[b"x-devicetoken"] == b"T"
    assert names[b"X-DeviceToken"] == b"x-devicetoken"
