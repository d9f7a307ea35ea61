"""Pages that are not of the console, under a policy that lets no script run from within a page."""

import re
from typing import Any

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
