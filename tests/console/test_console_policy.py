"""What every page is served with, whatever it shows."""

import contextlib
import os
import re
import subprocess
import sys
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
    ("path", "headers"),
    [
        ("/start/arrived/", {"HX-Request": "true"}),
        ("/publish/devices/", {"HX-Request": "true"}),
        ("/streams/7/chart.json", {"Accept": "application/json"}),
    ],
)
def test_c14_a_part_of_a_page_says_that_the_session_is_over(
    db: None, path: str, headers: dict[str, str]
) -> None:
    """The page stays, with what is typed into it; a page leads to the sign-in."""
    answer = Client().get(path, headers=headers)
    assert answer.status_code == 401
    assert "sign in again" in answer.json()["detail"]
    assert Client().get(path).headers["Location"] == f"/signin/?next={path}"


PAGES = ["/signin/", "/profile/", "/nowhere/", "/admin/", "/v2/docs", "/v2/device", "/streams/9/"]


@pytest.mark.parametrize("page", PAGES)
def test_s9_headers_of_every_answer(account: Account, signed_in: Any, page: str) -> None:
    """S9: pages, errors, the operator's pages and REST."""
    for client in (Client(), signed_in(account)):
        headers = client.get(page).headers
        assert "camera=()" in headers["Permissions-Policy"]
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["X-Frame-Options"] == "DENY"
        assert headers["Referrer-Policy"] == headers["Cross-Origin-Opener-Policy"] == "same-origin"
        assert ("Cross-Origin-Resource-Policy" in headers) == (not page.startswith("/v2/"))


@pytest.mark.parametrize(
    ("public_url", "seconds", "sent"),
    [
        ("https://iot.example.com", None, "max-age=31536000"),
        ("https://iot.example.com", "60", "max-age=60"),
        ("https://iot.example.com", "0", ""),
        ("http://iot.example.com", None, ""),
        ("", None, ""),
    ],
)
def test_s9_browsers_insist_on_tls_where_the_public_url_has_it(
    public_url: str, seconds: str | None, sent: str
) -> None:
    """S9: as a process of its own reads the settings; by plain HTTP it is never said (RFC 6797 7.2)."""
    asked = (
        "import django; django.setup(); from django.test import Client;"
        "answers = [Client().get('/v2/docs', secure=secure) for secure in (True, False)];"
        "print([answer.headers.get('Strict-Transport-Security', '') for answer in answers])"
    )
    variables = {"THINGSCALE_PUBLIC_URL": public_url, "DJANGO_SETTINGS_MODULE": "thingscale.settings"}
    if seconds is not None:
        variables["THINGSCALE_HSTS_SECONDS"] = seconds
    done = subprocess.run(
        [sys.executable, "-c", asked],
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert done.stdout.strip() == str([sent, ""])
