"""The HTTP door against the real server, by bytes on sockets: one table, row by row."""

import contextlib
import gzip
import json
import socket
import time
import zlib
from collections.abc import Callable, Iterator

import pytest
import raw_http
from raw_http import Answer, ask, connected, request
from stack import Stack, wait_until
from support import Account

pytestmark = pytest.mark.e2e
LARGE = 16 * 2**20


@pytest.fixture
def port(stack: Callable[..., Stack], account: Account) -> int:
    account.device("d1")
    return stack("web").http


def device(account: Account, **more: str) -> dict[str, str]:
    own = {"X-DEVICETOKEN": account.device_token, "X-DEVICEID": "d1"}
    return own | {name.replace("_", "-"): value for name, value in more.items()}


def post(account: Account, body: bytes = b'{"t": 1}', **headers: str) -> bytes:
    return request("POST", "/post_v2/", device(account, **headers), body)


def api(account: Account, method: str, path: str, body: bytes | None = None, **headers: str) -> bytes:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return request(method, path, {"X-APITOKEN": account.api_token} | named, body)


def code(answer: Answer) -> tuple[int, str]:
    text = answer.body.decode()
    return answer.status, json.loads(text)["error"] if text.startswith("{") else text.partition(":")[0]


@pytest.mark.parametrize("upgrade", ["h2c", "TLS/1.3", "foo", "websocket"])
@pytest.mark.parametrize("segments", [1, 2])
def test_h1_an_upgrade_that_is_not_offered_is_ignored(
    port: int, account: Account, upgrade: str, segments: int
) -> None:
    offer = {"Connection": "Upgrade, HTTP2-Settings", "Upgrade": upgrade, "HTTP2_Settings": "AAMAAABkAAQ"}
    whole = post(account, b'{"t": 2}', **offer)
    with connected(port) as client:
        if segments == 1:
            client.send(whole)
        else:
            head, _, body = whole.partition(b"\r\n\r\n")
            client.send(head + b"\r\n\r\n")
            client.send(body)
        assert code(client.answer()) == (200, "OK")
        put = api(account, "PUT", "/v2/device/d1", b'{"description": "kitchen"}', **offer)
        client.send(put)
        assert client.answer().status == 200
        client.send(api(account, "GET", "/v2/device/d1"))
        assert json.loads(client.answer().body)[0]["description"] == "kitchen"
    assert account.stored() == [('{"t": 2}', None)]


@pytest.mark.parametrize(
    "path", ["/v2/device", "/v2/stream/0?endtime=2999-01-01+00:00", "/signin/", "/static/nothing.css"]
)
def test_h3_http_1_0_is_never_answered_in_chunks(port: int, account: Account, path: str) -> None:

    for accept in ("*/*", "text/csv", "application/x-ndjson"):
        with connected(port) as client:
            line = f"GET {path} HTTP/1.0\r\nX-APITOKEN: {account.api_token}\r\nAccept: {accept}\r\n\r\n"
            client.send(line.encode())
            answer = client.answer()
            assert answer.header("Transfer-Encoding") is None
            assert answer.header("Connection") == b"close"
            assert client.until_closed() == b""


def test_h3_http_1_0_may_keep_its_connection(port: int, account: Account) -> None:
    body = b'{"t": 1}'
    asked = post(account, body, Connection="keep-alive").replace(b"HTTP/1.1", b"HTTP/1.0")
    with connected(port) as client:
        for _ in range(3):
            client.send(asked)
            answer = client.answer()
            assert (answer.status, answer.header("Connection")) == (200, b"keep-alive")


@pytest.mark.parametrize("blanks", [" ", "\t", "  \t "])
def test_h4_blanks_around_a_header_value_are_not_part_of_it(port: int, account: Account, blanks: str) -> None:
    lines = {name: blanks + value + blanks for name, value in device(account, X_TAGNAME="k").items()}
    assert code(ask(port, request("POST", "/post_v2/", lines, b"1"))) == (200, "OK")
    assert account.stored() == [("1", "k")]
    token = {"X-APITOKEN": account.api_token + blanks}
    assert len(json.loads(ask(port, request("GET", "/v2/device", token)).body)) == 1


def test_h5_header_names_have_their_usual_spelling(port: int, account: Account) -> None:
    for asked in (post(account), api(account, "GET", "/v2/device"), request("GET", "/healthz")):
        answer = ask(port, asked)
        assert answer.header("Content-Length") == str(len(answer.body)).encode()
        assert answer.header("Content-Type")
        assert answer.header("Date")
    names = {name for name, _ in ask(port, api(account, "GET", "/v2/device")).headers}
    assert {b"RateLimit", b"RateLimit-Policy"} <= names
    assert not [name for name in names if name[:1].islower()]


def test_h7_a_head_is_bounded(port: int) -> None:
    line = b"GET / HTTP/1.1\r\nHost: localhost\r\n"
    assert ask(port, line + b"X-Long: " + b"x" * 70_000).status == 431
    assert (
        ask(port, line + b"".join(b"X-%d: 1\r\n" % number for number in range(101)) + b"\r\n").status == 431
    )
    assert ask(port, line + b"X: 1\r\n" * 12_000).status == 431
    assert ask(port, b"GET /" + b"a" * 70_000).status == 414
    assert ask(port, b"GET /" + b"a" * 17_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n").status == 414
    fits = line + b"".join(b"X-%d: 1\r\n" % number for number in range(99)) + b"\r\n"
    assert ask(port, fits).status in {200, 302}


def test_h8_a_large_body_is_not_taken_from_anybody(port: int, account: Account) -> None:
    """Path and credentials are looked at first, whatever the length says."""
    stranger = {"X-DEVICETOKEN": "0" * 32, "X-DEVICEID": "d1", "X-APITOKEN": "0" * 32}
    for method, path, status in (
        ("POST", "/post_v2/", 401),
        ("POST", "/v2/stream/0", 401),
        ("PUT", "/v2/channel/0", 401),
        ("POST", "/nothing/here", 404),
        ("POST", "/signin/", 403),
    ):
        for framing in (f"Content-Length: {LARGE}", "Transfer-Encoding: chunked"):
            name, _, value = framing.partition(": ")
            with connected(port) as client:
                client.send(request(method, path, stranger | {name: value}))
                if "chunked" in framing and path != "/post_v2/":
                    client.send(b"%x\r\n" % LARGE + b"x" * 70_000)
                answer = client.answer()
                assert answer.status == status, (method, path, framing)
                assert answer.header("Connection") == b"close"


def test_h8_a_small_body_that_is_refused_does_not_cost_the_connection(port: int, account: Account) -> None:
    bad = request("POST", "/post_v2/", {"X-DEVICETOKEN": "0" * 32}, b"x" * 100)
    with connected(port) as client:
        client.send(bad + post(account))
        assert client.answer().status == 401
        assert client.answer().status == 200


ENCODINGS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "x-gzip": gzip.compress,
    "deflate": zlib.compress,
    " GZIP ": gzip.compress,
    "identity": bytes,
}


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_h9_a_compressed_body_is_read(port: int, account: Account, encoding: str) -> None:
    packed = ENCODINGS[encoding](b'{"t": 5}')
    assert code(ask(port, post(account, packed, Content_Encoding=encoding))) == (200, "OK")
    assert account.stored() == [('{"t": 5}', None)]
    packed = ENCODINGS[encoding](b'{"description": "cellar"}')
    assert ask(port, api(account, "PUT", "/v2/device/d1", packed, Content_Encoding=encoding)).status == 200
    assert b"cellar" in ask(port, api(account, "GET", "/v2/device/d1")).body


def test_h9_deflate_without_zlibs_head_and_gzip_in_two_members(port: int, account: Account) -> None:
    raw = zlib.compressobj(wbits=-15)
    packed = raw.compress(b'{"t": 6}') + raw.flush()
    assert ask(port, post(account, packed, Content_Encoding="deflate")).status == 200
    packed = gzip.compress(b'{"t":', mtime=0) + gzip.compress(b" 7}", mtime=0)
    assert ask(port, post(account, packed, Content_Encoding="gzip")).status == 200
    assert sorted(account.stored()) == [('{"t": 6}', None), ('{"t": 7}', None)]


@pytest.mark.parametrize("encoding", ["br", "zstd", "gzip, gzip", "compress"])
def test_h9_another_encoding_is_415_and_says_which(port: int, account: Account, encoding: str) -> None:
    for asked in (
        post(account, b"1", Content_Encoding=encoding),
        api(account, "PUT", "/v2/device/d1", b"{}", Content_Encoding=encoding),
    ):
        answer = ask(port, asked)
        assert code(answer) == (415, "UNSUPPORTED_ENCODING")
        assert answer.header("Accept-Encoding") == b"gzip, deflate"
    assert account.stored() == []


def test_h9_what_a_body_expands_to_is_bounded(port: int, account: Account) -> None:
    bomb = gzip.compress(b'"' + b"x" * 50_000_000 + b'"', mtime=0)
    assert code(ask(port, post(account, bomb, Content_Encoding="gzip"))) == (413, "TOO_LARGE")
    asked = api(account, "POST", "/v2/stream/0", bomb, Content_Encoding="gzip")
    assert code(ask(port, asked)) == (413, "TOO_LARGE")


@pytest.mark.parametrize(
    "body", [gzip.compress(b"12345", mtime=0)[:-4], b"12", gzip.compress(b"1", mtime=0)[:3]]
)
def test_h9_half_a_compressed_body_is_not_a_value(port: int, account: Account, body: bytes) -> None:
    assert ask(port, post(account, body, Content_Encoding="gzip")).status == 400
    asked = api(account, "PUT", "/v2/device/d1", body, Content_Encoding="gzip")
    assert code(ask(port, asked)) == (400, "BAD_ENCODING")
    assert account.stored() == []


@pytest.mark.parametrize("path", ["/post_v2/", "/post_v1", "/post/"])
def test_h11_a_message_without_a_length_is_411(port: int, account: Account, path: str) -> None:
    assert code(ask(port, request("POST", path, device(account)))) == (411, "LENGTH_REQUIRED")


REQUIRED = [
    *("PUT /v2/device/d1", "PUT /v2/channel/1", "PUT /v2/event/1", "PUT /v2/user"),
    *("POST /v2/stream/1", "POST /v2/publish/d1", "POST /v1/publish/d1"),
]


@pytest.mark.parametrize("call", REQUIRED)
def test_h11_a_call_that_has_to_have_a_body_is_411_without_a_length(
    port: int, account: Account, call: str
) -> None:
    """REST as the connector. A body that is empty and says so, or comes in chunks, has its length."""
    account.channel(1)
    assert ask(port, api(account, "POST", "/v2/event")).status == 201
    method, path = call.split()
    assert code(ask(port, api(account, method, path))) == (411, "LENGTH_REQUIRED")
    for empty in (
        api(account, method, path, b""),
        api(account, method, path, Transfer_Encoding="chunked") + b"0\r\n\r\n",
    ):
        assert code(ask(port, empty)) == (400, "BAD_JSON_FORMAT")
    stranger = request(method, path, {"X-APITOKEN": "0" * 32})
    assert code(ask(port, stranger)) == (401, "AUTH_REQUIRED")


def test_h11_where_no_body_is_needed_no_length_is(port: int, account: Account) -> None:
    """As the published samples send it."""
    for call in ("POST /v2/device/d2", "POST /v2/channel/2", "POST /v2/event"):
        method, path = call.split()
        assert ask(port, api(account, method, path)).status == 201
    for call in ("DELETE /v2/event/1", "DELETE /v2/device/d2"):
        method, path = call.split()
        assert ask(port, api(account, method, path)).status == 200


@pytest.mark.parametrize("what", ["direct", "rest", "stream"])
def test_h12_a_half_closed_client_is_answered(port: int, account: Account, what: str) -> None:
    asked = {
        "direct": post(account),
        "rest": api(account, "POST", "/v2/device/d2"),
        "stream": api(account, "GET", "/v2/device"),
    }[what]
    with connected(port) as client:
        client.send(asked)
        client.half_close()
        assert client.answer().status in {200, 201}
        assert client.until_closed() == b""
    with connected(port) as client:
        client.send(asked.replace(b"d2", b"d3") + post(account))  # two at once
        client.half_close()
        assert [client.answer().status in {200, 201} for _ in range(2)] == [True, True]


@pytest.mark.parametrize("part", ["q%E9", "q%FF", "%C3", "a%ED%A0%80"])
def test_h16_a_path_or_query_that_is_not_utf_8_is_refused(port: int, account: Account, part: str) -> None:
    for method in ("GET", "POST", "DELETE"):
        answer = ask(port, api(account, method, f"/v2/device/{part}"))
        assert code(answer) == (400, "BAD_PARAMETER")
        answer = ask(port, api(account, method, f"/v2/channel/0?tagname={part}"))
        assert code(answer) == (400, "BAD_PARAMETER")
    assert ask(port, api(account, "POST", "/v2/device/caf%C3%A9")).status == 201


def test_h17_console_redirects(port: int) -> None:
    for path in ("/console/", "/console"):
        answer = ask(port, request("GET", path))
        assert (answer.status, answer.header("Location")) == (302, b"/")


def test_an_answer_comes_in_one_packet(port: int) -> None:
    asked = request("POST", "/post_v2/", {}, b"1")
    with connected(port) as client:
        for _ in range(3):
            client.send(asked)
            assert client.socket.recv(10_000).endswith(b"\r\n\r\nAUTH_REQUIRED")


def test_requests_behind_each_other_are_answered_in_order(port: int, account: Account) -> None:
    with connected(port) as client:
        client.send(post(account) + api(account, "GET", "/v2/device") + post(account, b"{") + post(account))
        found = [client.answer().status for _ in range(4)]
    assert found == [200, 200, 400, 200]
    assert len(account.stored()) == 2


def test_a_request_may_come_byte_by_byte(port: int, account: Account) -> None:
    chunked = request("POST", "/post_v2/", device(account, Transfer_Encoding="chunked"))
    chunked += b'3;a=b\r\n{"t\r\n5\r\n": 1}\r\n0\r\nX-Trailer: 1\r\n\r\n'
    with connected(port) as client:
        client.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for whole in (post(account), chunked):
            client.send(*(whole[place : place + 1] for place in range(len(whole))))
            assert client.answer().status == 200
    assert account.stored() == [('{"t": 1}', None)] * 2


def test_expect_100_continue_is_asked_for_only_what_is_welcome(port: int, account: Account) -> None:
    head, _, body = post(account, Expect="100-continue").partition(b"\r\n\r\n")
    with connected(port) as client:
        client.send(head + b"\r\n\r\n")
        assert client.answer(bodyless=True).status == 100
        client.send(body)
        assert client.answer().status == 200
        client.send(head.replace(account.device_token.encode(), b"0" * 32) + b"\r\n\r\n")
        assert client.answer().status == 401


@pytest.fixture
def hasty(stack: Callable[..., Stack], account: Account) -> Iterator[Stack]:
    """A web process with short limits."""
    account.device("d1")
    running = stack("web").another(
        THINGSCALE_HTTP_HEAD_SECONDS="1",
        THINGSCALE_HTTP_KEEP_ALIVE_SECONDS="6",
        THINGSCALE_HTTP_CONNECTIONS_PER_ADDRESS="4",
        THINGSCALE_HTTP_CONNECTIONS="12",
        THINGSCALE_HTTP_RATE="1",
        THINGSCALE_DRAIN_SECONDS="2",
    )
    running.start("web")
    yield running
    running.stop()


def test_h6_h2_silence_and_half_a_head_end_and_a_pause_does_not(hasty: Stack, account: Account) -> None:
    with connected(hasty.http) as client:
        assert client.until_closed() == b""
    for half in (b"POST /post_v2/ HT", b"GET / HTTP/1.1\r\nHost: x\r\nX-", b"\r\n\r\nG"):
        with connected(hasty.http) as client:
            client.send(half)
            assert client.answer().status == 408
            assert client.until_closed() == b""
    with connected(hasty.http) as client:
        for _ in range(2):
            client.send(request("GET", "/healthz"))
            assert client.answer().status == 200
            client.socket.settimeout(1.7)  # longer than a head may take, shorter than a pause
            with pytest.raises(TimeoutError):
                client.answer()
            client.socket.settimeout(raw_http.SECONDS)
        assert client.until_closed() == b""


def test_h8_connections_are_limited_by_address_and_in_all(hasty: Stack) -> None:
    opened = [raw_http.connected(hasty.http, f"127.0.0.{2 + number // 4}") for number in range(8)]
    clients = [each.__enter__() for each in opened]
    try:
        for client in clients:
            client.send(request("GET", "/healthz"))
            assert client.answer().status == 200
        with connected(hasty.http, "127.0.0.2") as client:
            assert client.answer().status == 503
        with connected(hasty.http, "127.0.0.9") as client:  # somebody else
            client.send(request("GET", "/healthz"))
            assert client.answer().status == 200
    finally:
        for each in opened:
            each.__exit__(None, None, None)


@pytest.fixture
def patient(hasty: Stack) -> Iterator[Stack]:
    """With a connection that has been answered, and with nothing else."""
    running = hasty.another(THINGSCALE_HTTP_KEEP_ALIVE_SECONDS="75")
    running.start("web")
    yield running
    running.stop()


def test_h6_half_a_head_ends_a_connection_that_was_answered_before(patient: Stack) -> None:
    half = b"POST /post_v2/ HTTP/1.1\r\nHost: x\r\nX-"
    with connected(patient.http) as later, connected(patient.http) as behind:
        later.send(request("GET", "/healthz"))
        assert later.answer().status == 200
        later.send(half)
        behind.send(request("GET", "/healthz") + half)
        assert behind.answer().status == 200
        for client in (later, behind):
            assert client.answer().status == 408
            assert client.until_closed() == b""


def test_h8_who_was_idle_for_longest_makes_room_where_there_is_none(patient: Stack) -> None:
    with contextlib.ExitStack() as opened:
        clients = [opened.enter_context(connected(patient.http, f"127.0.0.{2 + n // 4}")) for n in range(12)]
        for client in clients:
            client.send(request("GET", "/healthz"))
            assert client.answer().status == 200
            time.sleep(0.02)  # the server's clock counts milliseconds
        with connected(patient.http, "127.0.0.9") as one_too_many:
            assert one_too_many.answer().status == 503
        assert clients[0].until_closed() == b""
        with connected(patient.http, "127.0.0.9") as client:
            client.send(request("GET", "/healthz"))
            assert client.answer().status == 200


def test_b5_a_device_id_that_is_none_is_not_remembered(hasty: Stack, account: Account) -> None:
    """Checked first, then hashed: what is kept of an id has one size."""
    for bad in ("x" * 30_000, "a/b", "0"):
        asked = request("POST", "/post_v2/", device(account) | {"X-DEVICEID": bad}, b"1")
        assert ask(hasty.http, asked).status == 400
    statuses = [ask(hasty.http, post(account)).status for _ in range(20)]
    assert statuses[0] == 200
    assert 429 in statuses


def test_b1_who_does_not_read_does_not_hold_up_the_end(hasty: Stack, account: Account) -> None:
    with connected(hasty.http, "127.0.0.3") as client:
        client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        for _ in range(3000):  # their answers fill all buffers
            try:
                client.socket.settimeout(0.2)
                client.send(request("GET", "/signin/"))
            except TimeoutError:
                break
        process = hasty.processes["web"]
        process.terminate()
        wait_until(lambda: process.poll() is not None, 60, "the web process to end")
