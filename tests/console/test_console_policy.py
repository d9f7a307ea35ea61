"""What every page is served with, whatever it shows."""

import contextlib
import re
from typing import Any

import pytest
from django.test import Client
from support import Account


def test_the_page_of_the_rest_api_loads_its_script(account: Account, signed_in: Any) -> None:
    page = Client().get("/v2/docs")
    scripts = re.findall(r"<script([^>]*)>([^<]*)</script>", page.text)
    assert scripts
    assert all("src=" in attributes and not text.strip() for attributes, text in scripts)
    assert "script-src" not in page.headers["Content-Security-Policy"]
    assert "default-src 'self'" in page.headers["Content-Security-Policy"]
    script = Client().get("/v2/docs?script=")
    assert script.headers["Content-Type"].startswith("application/javascript")
    assert "/v2/openapi.json" in script.text
    assert "/v2/docs" in signed_in(account).get("/profile/").text


def test_no_cache_keeps_pages_of_who_is_signed_in(account: Account, signed_in: Any) -> None:
    client = signed_in(account)
    for path in ("/profile/", "/start/", "/devices/", "/devices/export/", "/nowhere/"):
        assert {"private", "no-store"} <= set(client.get(path).headers["Cache-Control"].split(", "))
    for path in ("/v2/device", "/v2/stream/0"):
        with contextlib.closing(client.get(path)) as answer:
            assert "no-store" not in answer.headers.get("Cache-Control", "")
    assert "Cache-Control" not in Client().get("/reset/").headers


@pytest.mark.parametrize(
    ("page", "then"),
    [
        ("http://testserver/start/?with=curl#code", "/start/%3Fwith%3Dcurl"),
        ("https://evil.example//evil.example/x", "/"),
        ("", "/"),
    ],
)
def test_a_part_of_a_page_leads_the_page_to_the_door(db: None, page: str, then: str) -> None:
    headers = {"HX-Request": "true", "HX-Current-URL": page}
    answer = Client().get("/start/arrived/", headers=headers)
    assert (answer.status_code, answer.content) == (204, b"")
    assert answer.headers["HX-Redirect"] == f"/signin/?next={then}"
    assert Client().get("/start/arrived/").status_code == 302
