"""Signing in and out, for tests of accounts."""

from typing import Any

from django.test import Client
from support import PASSWORD

EMAIL = "owner@example.com"
FIREFOX = "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0"


def sign_in(
    client: Client, password: str = PASSWORD, email: str = EMAIL, unsent: str = "", **extra: Any
) -> Any:
    fields = {"username": email, "password": password, "unsent": unsent}
    return client.post("/signin/", fields, **extra)


def is_in(client: Client) -> bool:
    return client.get("/channels/").status_code == 200
