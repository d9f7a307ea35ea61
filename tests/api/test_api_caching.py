"""What caches may keep of the API's answers, how they are compressed, and lists that are long."""

import gzip
import json
import zlib
from typing import Any

import pytest
from api_calls import document
from django.test import Client
from support import Account, make_account

from thingscale.devices.models import Device
from thingscale.lib.clock import now_us
from thingscale.lib.points import Points
from thingscale.streams.actions.channels import MAX_LABEL_BYTES, create_channel, update_channel
from thingscale.streams.actions.datapoints import store_points
from thingscale.streams.actions.tags import create_tag
from thingscale.streams.models import Channel
from thingscale.web.compression import compressed

pytestmark = pytest.mark.slow


def get(account: Account, path: str, **headers: str) -> Any:
    return Client().get(path, headers={"X-APITOKEN": account.api_token, **headers})


@pytest.mark.parametrize(
    "path",
    [
        "/v2/device",
        "/v2/channel",
        "/v2/channel/0?withtag=true",
        "/v2/event",
        "/v2/session",
        "/v1/device",
        "/v1/channel",
        "/v2/stream/0?endtime=last",
        "/v2/stream/0?endtime=2100-01-01%2000:00&aggregate=avg",
    ],
)
def test_r14_an_answer_is_the_callers_own_and_asked_for_each_time(account: Account, path: str) -> None:
    account.device("d1")
    answer = get(account, path)
    assert answer.status_code == 200
    assert answer.headers["Cache-Control"] == "private, no-cache"
    assert {"X-APITOKEN", "Authorization"} <= set(answer.headers["Vary"].split(", "))
    etag = answer.headers["ETag"]
    for known in (etag, f"W/{etag}", f'"other", {etag}', "*"):
        again = get(account, path, **{"If-None-Match": known})
        assert (again.status_code, again.content, again.headers["ETag"]) == (304, b"", etag)
        assert again.headers["Cache-Control"] == "private, no-cache"
        assert "X-APITOKEN" in again.headers["Vary"]
    assert get(account, path, **{"If-None-Match": '"other"'}).status_code == 200
    account.device("d2", 1)
    assert (get(account, "/v2/device").headers["ETag"] == etag) is False


def test_r14_nobody_keeps_tokens(account: Account) -> None:
    answer = get(account, "/v2/user")
    assert answer.json()[0]["api_token"] == account.api_token
    assert answer.headers["Cache-Control"] == "private, no-store"
    assert "ETag" not in answer.headers


def test_r14_refusals_and_writes_have_no_etag(account: Account) -> None:
    for answer in (
        Client().get("/v2/device"),
        get(account, "/v2/device/nothing"),
        Client().post("/v2/channel/5", headers={"X-APITOKEN": account.api_token}),
    ):
        assert "ETag" not in answer.headers
        assert answer.headers["Cache-Control"] == "private, no-cache"


def test_h9_answers_over_1_kb_are_compressed_where_asked(account: Account) -> None:
    for each in range(20):
        account.device(f"device-{each}")
    plain = get(account, "/v2/device")
    packed = get(account, "/v2/device", **{"Accept-Encoding": "gzip, deflate, br"})
    assert packed.headers["Content-Encoding"] == "gzip"
    assert int(packed.headers["Content-Length"]) == len(packed.content) < len(plain.content) / 4
    assert gzip.decompress(packed.content) == plain.content
    for answer in (plain, packed):
        assert "Accept-Encoding" in answer.headers["Vary"]
    for refused in ("", "br", "gzip;q=0", "identity"):
        answer = get(account, "/v2/device", **{"Accept-Encoding": refused})
        assert answer.content == plain.content
    assert "Content-Encoding" not in get(account, "/v2/event", **{"Accept-Encoding": "gzip"}).headers


def test_h9_an_etag_holds_whatever_the_encoding(account: Account) -> None:
    for each in range(20):
        account.device(f"device-{each}")
    plain = get(account, "/v2/device").headers["ETag"]
    packed = get(account, "/v2/device", **{"Accept-Encoding": "gzip"}).headers["ETag"]
    assert packed == f"W/{plain}"
    for etag in (plain, packed):
        for encoding in ("gzip", ""):
            headers = {"Accept-Encoding": encoding, "If-None-Match": etag}
            assert get(account, "/v2/device", **headers).status_code == 304


@pytest.mark.parametrize("accept", ["application/json", "text/csv", "application/x-ndjson"])
def test_h9_ranges_are_compressed_as_they_are_made(account: Account, accept: str) -> None:
    now = now_us()
    points = [(None, b'{"temp": %d}' % each, now - each * 1_000_000) for each in range(2500)]
    store_points(account.channel(), Points.of(points))
    path = "/v2/stream/0?endtime=2100-01-01%2000:00"
    plain = b"".join(get(account, path, Accept=accept).streaming_content)
    packed = get(account, path, **{"Accept": accept, "Accept-Encoding": "gzip"})
    assert packed.streaming
    assert packed.headers["Content-Encoding"] == "gzip"
    content = b"".join(packed.streaming_content)
    assert gzip.decompress(content) == plain
    assert len(content) < len(plain) / 4


def test_h9_a_stream_comes_in_parts_and_holds_little() -> None:
    taken = 0

    def parts() -> Any:
        nonlocal taken
        for each in range(5000):
            taken += 1
            yield json.dumps([each * 7919 % 104_729] * 3).encode() * 100

    packed = compressed(parts())
    unpacker = zlib.decompressobj(16 + zlib.MAX_WBITS)
    first = next(text for part in packed if (text := unpacker.decompress(part)))
    assert first.startswith(b"[0, 0, 0]")
    assert taken < 2500


def test_h9_pages_with_tokens_are_not_compressed(account: Account) -> None:
    client = Client()
    client.force_login(account.user)
    for path in ("/profile/", "/start/"):
        assert "Content-Encoding" not in client.get(path, headers={"Accept-Encoding": "gzip"}).headers
    pages = [client.get("/devices/", headers={"Accept-Encoding": "gzip"}) for _ in range(8)]
    assert all(page.headers["Content-Encoding"] == "gzip" for page in pages)
    assert b"</html>" in gzip.decompress(pages[0].content)
    assert len({len(page.content) for page in pages}) > 1  # a random length: nothing can be told from it


def labels(count: int, size: int) -> list[dict[str, str]]:
    return [{"key": f"key-{each}", "label": "x" * size, "unit": ""} for each in range(count)]


def test_r13_a_long_list_is_sent_as_it_is_made(account: Account) -> None:
    channels = [create_channel(account.user, n, streams=labels(500, 150)) for n in range(45)]
    create_tag(channels[0], "kitchen")
    for path in ("/v2/channel", "/v1/channel", "/v2/channel?withtag=true"):
        answer = get(account, path)
        assert answer.streaming == ("ETag" not in answer.headers) == path.startswith("/v2/")
        assert [row["channel"] for row in document(answer)] == list(range(45))
    Device.objects.bulk_create(
        Device(user=account.user, device_id=f"device-{each:04}") for each in range(1100)
    )
    rows = document(get(account, "/v2/device"))
    assert [row["device_id"] for row in rows] == [f"device-{each:04}" for each in range(1100)]


def test_r13_a_long_list_is_the_callers_own(account: Account) -> None:
    outsider = make_account("somebody@example.com")
    for n in range(25):
        create_channel(account.user, n, streams=labels(500, 150))
    assert get(outsider, "/v2/channel").json() == []


def test_r13_labels_are_bounded_in_bytes(account: Account) -> None:
    """By REST in both forms, and in the console; what is there already can stay."""
    client = Client()
    client.force_login(account.user)

    def send(method: Any, path: str, body: Any) -> Any:
        headers = {"X-APITOKEN": account.api_token}
        return method(f"/v2/{path}", json.dumps(body), content_type="application/json", headers=headers)

    large = labels(1000, 180)
    assert send(client.put, "channel/0", {"streams": large}).status_code == 404
    channel = account.channel()
    for answer in (
        send(client.put, "channel/0", {"streams": large}),
        send(client.post, "channel/1", {"streams": large}),
    ):
        assert (answer.status_code, answer.json()["error"]) == (400, "BAD_PARAMETER")
        assert str(MAX_LABEL_BYTES) in answer.json()["detail"]
    form = {"name": "", "streams-TOTAL_FORMS": "1000", "streams-INITIAL_FORMS": "0"}
    for place, label in enumerate(large):
        form |= {f"streams-{place}-{name}": text for name, text in label.items()}
    page = client.post("/channels/0/", form)
    assert page.status_code == 200
    assert str(MAX_LABEL_BYTES) in page.text
    channel.refresh_from_db()
    assert channel.streams == []
    fits = labels(1000, 100)
    assert send(client.put, "channel/0", {"streams": fits}).status_code == 200
    Channel.objects.update(streams=large)
    assert send(client.put, "channel/0", {"channel_name": "new"}).status_code == 200
    channel.refresh_from_db()
    update_channel(channel, {"streams": fits})
