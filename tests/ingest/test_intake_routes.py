import base64
import gzip

import pytest

from ingest.connectors.intake.request import (
    Credential,
    device_token,
    query_of,
    refusal_of,
    refusal_of_taken,
    unpacked,
)
from ingest.connectors.intake.routes import Route, route, with_endpoint
from ingest.intake_messages import Taken
from thingscale.intakes.formats.readings import BadBody
from thingscale.lib.reasons import Reason

BASIC = b"Basic " + base64.b64encode(b"U000001:T:1")


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/write", Route(None, "/write")),
        ("/api/v1/write", Route(None, "/api/v1/write")),
        ("/v1/metrics", Route(None, "/v1/metrics")),
        ("/api/put", Route(None, "/api/put")),
        ("/in/KEY", Route("KEY", "")),
        ("/in/KEY/", Route("KEY", "")),
        ("/in/KEY/boiler-1", Route("KEY", "", "boiler-1")),
        ("/in/KEY/a/b", Route("KEY", "", "a/b")),
        ("/in/KEY/50%25", Route("KEY", "", "50%25")),  # the server has decoded it
        ("/in/KEY/api/v2/write", Route("KEY", "/api/v2/write")),
        ("/in/KEY/v1/metrics", Route("KEY", "/v1/metrics")),
        ("/in/", Route("", "")),  # an empty key, which nobody has
        ("/in//write", Route("", "/write")),
        ("/in", None),
        ("/v2/device", None),
        ("/v1/device", None),
        ("/write/", None),
    ],
)
def test_paths(path: str, expected: Route | None) -> None:
    assert route(path) == expected


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/in/KEY/d/write", Route("KEY", "/write", "d")),
        ("/in/KEY/d/write/", Route("KEY", "/write", "d")),
        ("/in/KEY/d/api/v2/write", Route("KEY", "/api/v2/write", "d")),
        ("/in/KEY/d/api/v1/write", Route("KEY", "/api/v1/write", "d")),
        ("/in/KEY/d/v1/metrics", Route("KEY", "/v1/metrics", "d")),
        ("/in/KEY/d/ping", Route("KEY", "/ping", "d")),
        ("/in/KEY/d", Route("KEY", "", "d")),
        ("/in/KEY/writes", Route("KEY", "", "writes")),
        ("/in/KEY/a/b/write", Route("KEY", "/write", "a/b")),  # no device is called like that
        ("/in/KEY/write", Route("KEY", "/write", "")),
        ("/in/KEY//write", Route("KEY", "/write", "")),
        ("/write", Route(None, "/write", "")),
    ],
)
def test_a_device_between_the_key_and_the_path(path: str, expected: Route) -> None:
    found = route(path)
    assert found is not None
    assert with_endpoint(found) == expected


@pytest.mark.parametrize(
    ("headers", "query", "expected"),
    [
        ({b"authorization": b"Token T"}, {}, ("T", Credential.HEADER)),
        ({b"authorization": b"Token U000001:T"}, {}, ("T", Credential.HEADER)),
        ({b"authorization": b"bearer  T "}, {}, ("T", Credential.HEADER)),
        ({b"authorization": BASIC}, {}, ("T:1", Credential.BASIC)),
        ({b"authorization": b"Basic %%%"}, {"p": "T"}, ("", Credential.NONE)),
        ({b"x-devicetoken": b"T"}, {"p": "other"}, ("T", Credential.HEADER)),
        ({}, {"u": "x", "p": "T"}, ("T", Credential.QUERY)),
        ({}, {}, ("", Credential.NONE)),
    ],
)
def test_tokens(headers: dict[bytes, bytes], query: dict[str, str], expected: tuple[str, Credential]) -> None:
    assert device_token(headers, query) == expected


def test_the_query_is_bounded() -> None:
    assert query_of(b"precision=s&db=x&db=y&empty=") == {"precision": "s", "db": "x", "empty": ""}
    with pytest.raises(ValueError, match="fields"):
        query_of(b"&".join(b"a%d=1" % number for number in range(100)))


def test_what_is_refused_in_part_is_not_sent_again_for_ever() -> None:
    assert refusal_of_taken(Taken(3)) is None
    part = refusal_of_taken(Taken(2, Reason.DEVICE_DISABLED, "d1", "The device is not enabled."))
    assert part is not None
    assert (part.status, part.detail) == (400, "Device d1: The device is not enabled.")
    whole = refusal_of_taken(Taken(0, Reason.DEVICE_DISABLED, "d1", "The device is not enabled."))
    assert whole is not None
    assert whole.status == 403
    failed = refusal_of_taken(Taken(failed=True))
    assert failed is not None
    assert (failed.status, failed.retry_after) == (503, 1)
    assert all(refusal_of(reason).status >= 400 for reason in Reason)


def test_a_body_is_unpacked_within_its_limit() -> None:
    headers = {b"content-encoding": b"gzip"}
    assert unpacked(headers, gzip.compress(b"x" * 100), 100) == b"x" * 100
    for body in (gzip.compress(b"x" * 10**7), b"no gzip", gzip.compress(b"x")[:-1]):
        with pytest.raises(BadBody):
            unpacked(headers, body, 2**20)
